"""The weights that the authors of Volume Fusion publish (MIS-FM), and whatever else PyMIC saved of their two networks.

Such a file is ``{'model_state_dict', 'iteration', 'valid_pred', 'optimizer_state_dict'}`` and says nothing about data,
method or preparation. What is known of the published files is known from their repository, by the name of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.weights.citations import OF_METHODS
from nnunet_volf.weights.dialects import misfm_fm_unet, misfm_pct_net
from nnunet_volf.weights.dialects.misfm_names import Converted, Published
from nnunet_volf.weights.dialects.state_dict import places
from nnunet_volf.weights.dialects.tensors import tensors_of
from nnunet_volf.weights.dialects.values import mapping, whole
from nnunet_volf.weights.pretrained import Preparation, Pretrained
from nnunet_volf.weights.reading import Opened

KIND = "MIS-FM"

# In all of the authors' configurations (demo/*.cfg).
_PATCH = (64, 128, 128)

# What their README says a file was pretrained on, by what its name begins with; it spells one name in two ways.
_DATASETS = {
    "pctnet_ct10k_volf": "CT10k",
    "fmunet_abk1k_volf": "AbdomenCT-1K",
    "fmunet_abd1k_volf": "AbdomenCT-1K",
    "pctnet_pretrain": "public and private CT",
}

_NETWORKS = (("PCT-Net", misfm_pct_net), ("FMUNet", misfm_fm_unet))

_NOT_STATED = (
    "Its authors do not state at which spacing and with which normalisation it was trained, nor by which of their two "
    "schemes of fusion. The patch is that of their configurations."
)
_LICENCE = "The authors' repository, openmedlab/MIS-FM, is under the Apache License 2.0 and names no other for weights."
_UNKNOWN_NAME = (
    "The name of the file is none of the published ones. PyMIC saves any training of this network in the same way, and "
    "the file does not say which this was, on which data and with which images."
)


@dataclass(frozen=True)
class _Found:
    network: str
    convert: Callable[[Published, int | None], Converted]
    tensors: Mapping[str, Tensor]
    prefix: str


def recognises(content: Any) -> bool:
    """Say whether tensors have the names of one of the two networks, anywhere near the top and with any prefix."""
    return _find(content) is not None


def read(opened: Opened, resolution_mode: int | None = None) -> Pretrained:
    """Read a file, with the names that our networks give their tensors; of PCT-Net one resolution mode."""
    found = _find(opened.content)
    assert found is not None, "read what is recognised"
    tensors, notes = tensors_of(opened.path, found.tensors)
    if found.prefix:
        notes = (f"The prefix '{found.prefix}' was removed from the names of the tensors.", *notes)
    converted = found.convert(Published(opened.path, found.network, tensors), resolution_mode)
    inputs = int(converted.tensors["encoder.stem.weight"].shape[1])
    dataset = next((data for name, data in _DATASETS.items() if opened.path.stem.lower().startswith(name)), None)
    channel = "CT" if dataset and inputs == 1 else "unnamed"
    about = (_NOT_STATED, _LICENCE) if dataset else (_UNKNOWN_NAME, _LICENCE)
    return Pretrained(
        path=opened.path,
        kind=KIND,
        opened=opened.how,
        tensors=converted.tensors,
        method=METHODS["volf"].label if dataset else None,
        dataset=dataset,
        preparation=Preparation(channels=(channel,) * inputs, normalization=(), spacing=(), patch=_PATCH),
        architecture=converted.architecture,
        citations=OF_METHODS["volf"],
        notes=(*notes, *converted.notes, *_progress(opened.content), *about),
    )


def _find(content: Any) -> _Found | None:
    for _, stored in places(content):
        for network, module in _NETWORKS:
            first = module.MARKS[0]
            prefix = next((name.removesuffix(first) for name in stored if name.endswith(first)), None)
            if prefix is not None and all(f"{prefix}{mark}" in stored for mark in module.MARKS):
                own = {name.removeprefix(prefix): v for name, v in stored.items() if name.startswith(prefix)}
                return _Found(network, module.convert, own, prefix)
    return None


def _progress(content: Any) -> tuple[str, ...]:
    """Say what the file tells of its training."""
    iteration, score = whole(mapping(content).get("iteration")), mapping(content).get("valid_pred")
    if iteration is None:
        return ()
    scored = f", with a validation score of {score:.4g}" if isinstance(score, float) else ""
    return (f"It was saved after {iteration:,} iterations{scored}.",)
