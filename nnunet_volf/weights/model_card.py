"""The page that goes with a file of weights: what it is, what it was trained on, how to use it, whom to cite.

It is a Hugging Face model card, so a file and its card are a model repository as they are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nnunet_volf.provenance import EARLIER
from nnunet_volf.weights.architectures import is_ours
from nnunet_volf.weights.citations import NNUNET, citations_of
from nnunet_volf.weights.pretrained import Preparation, Pretrained
from nnunet_volf.weights.trained import encoder_only, say_trained

NOT_STATED = "not stated"

_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.\-]*")  # as Hugging Face spells them: apache-2.0, cc-by-nc-4.0


@dataclass(frozen=True)
class Terms:
    """What only the owners of weights can say about them."""

    license: str | None = None
    authors: str | None = None
    citation: str | None = None


def model_card(weights: Pretrained, sha256: str, terms: Terms) -> str:
    """Return the card of a file; the same file and terms always give the same text."""
    sections = (
        _front_matter(weights, terms),
        _title(weights),
        _use(weights),
        _section("Training", _training(weights), _settings(weights)),
        _section("Preparation of images", _preparation(weights.preparation), _channels(weights.preparation)),
        _section("Network", _network(weights)),
        _section("File", {"name": f"`{weights.path.name}`", "sha256": f"`{sha256}`", **_versions(weights)}),
        _terms(weights, terms),
    )
    return "\n".join(sections)


def _front_matter(weights: Pretrained, terms: Terms) -> str:
    """Return what Hugging Face reads; texts in JSON's quotes are YAML, too."""
    license_id = (terms.license or "unknown").lower().replace(" ", "-")
    lines = ["---"]
    if _LICENSE_ID.fullmatch(license_id):
        lines.append(f"license: {license_id}")
    else:
        lines += ["license: other", f"license_name: {json.dumps(terms.license)}"]
    tags = ["nnU-Net", "medical-imaging", "image-segmentation"]
    tags += [(weights.method or "").replace(" ", "-")] if weights.method else []
    tags += sorted({name for name in _channel_names(weights.preparation) if name.isascii() and name.isalnum()})
    lines += ["library_name: nnunet-volf", "pipeline_tag: image-segmentation", "tags:"]
    return "\n".join([*lines, *(f"- {json.dumps(tag)}" for tag in tags), "---", ""])


def _title(weights: Pretrained) -> str:
    made = f"by {weights.method}" if weights.method else f"by {weights.trainer or 'an unknown trainer'}"
    channels = ", ".join(_channel_names(weights.preparation)) or "unknown channels"
    where = " ".join(name for name in (weights.dataset, weights.configuration) if name)
    return (
        f"# {weights.path.stem}\n\n"
        f"Weights of an nnU-Net, trained {made} on {where or 'an unknown dataset'} ({channels}). "
        f"{_parts(weights)}; the layers that make the segmentation are not carried over.\n"
    )


def _parts(weights: Pretrained) -> str:
    if encoder_only(weights.trained):
        return "Its encoder is pretrained and for fine-tuning on labels; its decoder is as it was initialised"
    return "Encoder and decoder are for fine-tuning on labels"


def _use(weights: Pretrained) -> str:
    file = shlex.quote(weights.path.name)
    configuration = weights.configuration or "3d_fullres"
    return (
        "## Use\n\n"
        "```bash\n"
        "pip install nnunet-volf\n"
        f"nnunet-volf weights check {file} -d DATASET -c {configuration}\n"
        f"nnUNetv2_train DATASET {configuration} 0 -tr nnUNetTrainerVolFFineTune -pretrained_weights {file}\n"
        "```\n\n"
        "The first command says what fits the network of your DATASET, and `nnunet-volf weights adapt` changes what "
        f"does not. {_alone(weights)}\n"
    )


def _alone(weights: Pretrained) -> str:
    """Say whether nnU-Net can do with these weights without this package."""
    network = weights.architecture
    if network is None or not is_ours(network):
        return "Without `-tr …` the second runs on nnU-Net alone."
    return (
        f"The network is `{network.class_name}`, so training and prediction need nnunet-volf installed beside nnU-Net, "
        "whatever the trainer; `nnunet-volf weights plan` gives a dataset plans with it."
    )


def _training(weights: Pretrained) -> dict[str, str]:
    data = weights.data
    content = data.get("content")
    rows = {
        "method": weights.method or NOT_STATED,
        "trainer": weights.trainer or NOT_STATED,
        "dataset": weights.dataset or NOT_STATED,
        "configuration": weights.configuration or NOT_STATED,
        "epochs": NOT_STATED if weights.epochs is None else str(weights.epochs),
        "cases trained on": str(data.get("cases", NOT_STATED)),
        "cases held out": str(data.get("held_out", NOT_STATED)),
        "content": f"`{content}` ({data.get('content_of', 'a hash over the cases')})" if content else NOT_STATED,
    }
    if weights.trained:
        rows["parts trained"] = say_trained(weights.trained)
    earlier = data.get(EARLIER, ())
    if earlier:
        before = (f"{one.get('cases')} cases, content {one.get('content') or NOT_STATED}" for one in earlier)
        rows["before it was resumed"] = "; ".join(before)
    if weights.notes:
        rows["notes"] = " ".join(weights.notes)
    return rows


def _settings(weights: Pretrained) -> str:
    if not weights.settings:
        return ""
    listed = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in weights.settings.items())
    return f"\nSettings:\n\n```yaml\n{listed}\n```\n"


def _preparation(preparation: Preparation | None) -> dict[str, str]:
    if preparation is None:
        return {"preparation": NOT_STATED}
    return {
        "modalities": ", ".join(preparation.channels),
        "spacing in mm": _sides(preparation.spacing),
        "normalisation": ", ".join(preparation.normalization) or NOT_STATED,
        "patch in voxels": _sides(preparation.patch),
    }


def _channels(preparation: Preparation | None) -> str:
    """Return a table of intensities before normalisation, where they are known."""
    if preparation is None or len(preparation.intensities) != len(preparation.channels):
        return ""
    columns = ("mean", "std", "percentile_00_5", "percentile_99_5")
    lines = [
        "\nIntensities before normalisation:\n",
        "| channel | mean | standard deviation | 0.5 % | 99.5 % |",
        "|---|---|---|---|---|",
    ]
    for name, known in zip(preparation.channels, preparation.intensities, strict=True):
        values = (f"{known[column]:.6g}" if column in known else NOT_STATED for column in columns)
        lines.append(f"| {_cell(name)} | {' | '.join(values)} |")
    return "\n".join([*lines, ""])


def _network(weights: Pretrained) -> dict[str, str]:
    rows = {"parameters": f"{weights.parameters:,} in {len(weights.tensors)} tensors"}
    if weights.architecture is not None:
        described = weights.architecture.arguments
        rows["class"] = f"`{weights.architecture.class_name}`"
        named = {
            "n_stages": "stages",
            "features_per_stage": "features",
            "strides": "strides",
            "kernel_sizes": "kernels",
        }
        rows |= {shown: json.dumps(described[name]) for name, shown in named.items() if name in described}
    return rows


def _versions(weights: Pretrained) -> dict[str, str]:
    made = ", ".join(f"{name} {version}" for name, version in weights.versions.items())
    return {"made with": made or NOT_STATED}


def _terms(weights: Pretrained, terms: Terms) -> str:
    own = terms.citation or f"The weights: {NOT_STATED}."
    methods = (weights.method, weights.started_from.get("method"))
    papers = [paper for label in methods for paper in citations_of(label)]
    cited = dict.fromkeys([own, *papers, NNUNET, *weights.citations])
    listed = "\n".join(f"- {citation}" for citation in cited)
    return (
        f"## Licence and citation\n\nLicence of the weights: {terms.license or NOT_STATED}.\n"
        f"Authors: {terms.authors or NOT_STATED}.\n\nPlease cite:\n\n{listed}\n"
    )


def _section(title: str, rows: Mapping[str, str], more: str = "") -> str:
    return "\n".join([f"## {title}\n", *_table(rows), ""]) + more


def _table(rows: Mapping[str, str]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for name, value in rows.items():
        yield f"| {name} | {_cell(value)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sides(sides: tuple[float, ...]) -> str:
    return " x ".join(f"{side:g}" for side in sides) or NOT_STATED


def _channel_names(preparation: Preparation | None) -> tuple[str, ...]:
    return preparation.channels if preparation else ()
