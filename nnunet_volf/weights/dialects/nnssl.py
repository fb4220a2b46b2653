"""Checkpoints of nnssl, such as the published OpenMind weights: an nnU-Net checkpoint with an adaptation plan.

The plan says under which names the encoder is stored and how images were prepared. nnU-Net's own reader takes the
encoder only; we keep the decoder where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nnunet_volf.weights.dialects.sound import sound_architecture
from nnunet_volf.weights.dialects.tensors import tensors_of
from nnunet_volf.weights.dialects.values import mapping, numbers, text, texts, whole
from nnunet_volf.weights.pretrained import Architecture, Preparation, Pretrained
from nnunet_volf.weights.reading import Opened

PLAN_KEY = "nnssl_adaptation_plan"

_UNETS = "dynamic_network_architectures.architectures.unet"
_RESIDUAL = f"{_UNETS}.ResidualEncoderUNet"
_NEEDS_IMPORT = ("conv_op", "norm_op", "dropout_op", "nonlin")

# nnssl's preset "ResEncL", the network of OpenMind (Wald et al. 2024, arXiv 2410.23132); files hold its name only.
_RES_ENC_L = Architecture(
    _RESIDUAL,
    {
        "n_stages": 6,
        "features_per_stage": [32, 64, 128, 256, 320, 320],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 6,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
        "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
        "n_conv_per_stage_decoder": [1] * 5,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    _NEEDS_IMPORT,
)

_MOST_CHANNELS = 1000  # a file with more lies

# Where nnU-Net's own classes have their encoder and stem.
_ENCODER, _STEM = "encoder.stages", "encoder.stem"


def recognises(content: Any) -> bool:
    """Say whether a file has nnssl's layout; its first releases wrote no adaptation plan."""
    if not isinstance(content, Mapping) or not isinstance(content.get("network_weights"), Mapping):
        return False
    init = mapping(content.get("init_args"))
    if "plans" in init:  # our own export for nnU-Net's route, which says more than its adaptation plan does
        return False
    return isinstance(content.get(PLAN_KEY), Mapping) or "pretrain_json" in init


def read(opened: Opened) -> Pretrained:
    """Read a checkpoint, with the names that nnU-Net gives its tensors."""
    content = opened.content
    plan, init = mapping(content.get(PLAN_KEY)), mapping(content.get("init_args"))
    pretrain_plan = mapping(plan.get("pretrain_plan")) or mapping(init.get("plan"))
    architecture, notes = _architecture(mapping(plan.get("architecture_plans")))
    renamed = _as_nnunet_names(content["network_weights"], plan, architecture)
    tensors, tensor_notes = tensors_of(opened.path, renamed)
    configurations = mapping(pretrain_plan.get("configurations"))
    name = text(next(iter(configurations), init.get("configuration_name")))
    preparation = _preparation(plan, mapping(configurations.get(name or "")))
    patch = numbers(plan.get("recommended_downstream_patchsize"))
    if patch:
        notes += (f"Its authors recommend patches of {' x '.join(map(str, patch))} for fine-tuning.",)
    return Pretrained(
        path=opened.path,
        kind="nnssl",
        opened=opened.how,
        tensors=tensors,
        trainer=text(content.get("trainer_name")),
        dataset=text(pretrain_plan.get("dataset_name")),
        configuration=name,
        epochs=whole(content.get("current_epoch")),
        preparation=preparation,
        architecture=architecture,
        citations=tuple(_citations(content.get("citations"))),
        notes=(*tensor_notes, *notes),
    )


def _architecture(described: Mapping[str, Any]) -> tuple[Architecture | None, tuple[str, ...]]:
    """Return the network, where it is one that nnU-Net has."""
    name, arguments = text(described.get("arch_class_name")) or "", mapping(described.get("arch_kwargs"))
    if name == "ResEncL":
        return _RES_ENC_L, ()
    for known in ("ResidualEncoderUNet", "PlainConvUNet"):
        if name.split(".")[-1] == known and arguments:
            needs = tuple(key for key in _NEEDS_IMPORT if isinstance(arguments.get(key), str))
            try:
                return sound_architecture(Architecture(f"{_UNETS}.{known}", arguments, needs)), ()
            except TypeError as error:
                return None, (f"The network in the file was not understood ({error}).",)
    return None, (f"Its network, {name}, is none of nnU-Net's U-Nets.",) if name else ()


def _as_nnunet_names(
    weights: Mapping[str, Any], plan: Mapping[str, Any], architecture: Architecture | None
) -> dict[str, Any]:
    """Put encoder, stem and, where it stands beside them, decoder under the names that nnU-Net's U-Nets have."""
    encoder = text(plan.get("key_to_encoder")) or _ENCODER
    stem = text(plan.get("key_to_stem")) or _STEM
    if architecture is None and plan:  # a transformer's parts have other names
        return dict(weights)
    stem_inside = stem.startswith(f"{encoder}.")  # a plain network's stem is its first stage
    around = encoder.removesuffix(_ENCODER)  # what stands before the names of the whole network
    places = [(encoder, _ENCODER)] if stem_inside else [(stem, _STEM), (encoder, _ENCODER)]
    if encoder.endswith(_ENCODER):
        places += [(f"{around}{part}", part) for part in ("encoder", "decoder")]
    return {_rename(name, places): value for name, value in weights.items()}


def _rename(name: str, places: list[tuple[str, str]]) -> str:
    for there, here in places:
        if name.startswith(f"{there}."):
            return here + name[len(there) :]
    return name


def _preparation(plan: Mapping[str, Any], configuration: Mapping[str, Any]) -> Preparation | None:
    if not configuration:
        return None
    channels = min(whole(plan.get("pretrain_num_input_channels")) or 1, _MOST_CHANNELS)
    schemes = texts(configuration.get("normalization_schemes"))
    try:
        return Preparation(
            channels=("unnamed",) * channels,
            normalization=schemes * channels if len(schemes) == 1 else schemes,
            spacing=tuple(float(side) for side in numbers(configuration.get("spacing"))),
            patch=tuple(int(side) for side in numbers(configuration.get("patch_size"))),
        )
    except (ValueError, OverflowError):  # not a number, infinity
        return None


def _citations(entries: Any) -> Iterator[str]:
    for entry in entries if isinstance(entries, (list, tuple)) else ():
        if isinstance(entry, Mapping):
            yield from texts(entry.get("apa_citations") or entry.get("bibtex_citations"))
        else:
            yield from texts([entry])
