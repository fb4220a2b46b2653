"""The published FMUNet under our names. PyMIC has the same network as FMUNetV3 and GRUNet."""

from __future__ import annotations

from collections.abc import Iterator

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.dialects.misfm_names import KERNELS, STRIDES, Converted, Published
from nnunet_volf.weights.pretrained import Architecture

# Names that no other network has.
MARKS = ("encoder.en_conv0.conv_list.0.3.weight", "decoder.upcat0.up.2.weight", "project.weight")

_LEVELS = 5


def convert(file: Published, asked: int | None = None) -> Converted:
    """Return the network; which resolution mode it has shows in the shapes of its kernels."""
    mode = _mode(file, asked)
    depth = _depth(file)
    features = [file.features(f"encoder.en_conv{level}.conv_list.0.3") for level in range(_LEVELS)]
    architecture = Architecture(
        "nnunet_volf.networks.FMUNet",
        {
            "n_stages": _LEVELS,
            "features_per_stage": features,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": KERNELS[mode],
            "strides": STRIDES[mode],
            "n_conv_per_stage": depth,
            "dropout": 0.2,
            "reference": True,
        },
        ("conv_op",),
    )
    tensors = file.renamed(_modules(depth))
    left = len(file.tensors) - len(tensors)
    notes = [f"Its kernels are those of resolution mode {mode}."]
    if left:
        known = {theirs for theirs, _ in _modules(depth)}
        first = next(name for name in file.tensors if name.rpartition(".")[0] not in known)
        notes.append(f"{left} tensors are not of the published network and were left out, {first} the first.")
    return Converted(tensors, architecture, tuple(notes))


def _mode(file: Published, asked: int | None) -> int:
    kernels = [
        list(file.weight(module).shape[2:])
        for module in ("project", "encoder.en_conv1.conv_list.0.3", "encoder.en_conv2.conv_list.0.3")
    ]
    if kernels[0] != list(file.weight("encoder.en_conv0.conv_list.0.3").shape[2:]):
        raise WeightsError(f"{file.path} has other kernels in 'project' than in the stage behind it.")
    mode = next((mode for mode, known in KERNELS.items() if known[:3] == kernels), None)
    if mode is None:
        raise WeightsError(
            f"{file.path} looks like a published FMUNet, but its finest levels have the kernels {kernels}. Known are "
            f"{', '.join(f'{known[:3]} (resolution mode {number})' for number, known in KERNELS.items())}."
        )
    if asked not in (None, mode):
        raise WeightsError(
            f"--resolution-mode is {asked}, and {file.path} holds one FMUNet, whose kernels are those of mode {mode}. "
            "Leave the option out."
        )
    return mode


def _depth(file: Published) -> int:
    """Return how many units each stage has, which must be the same in all of them."""
    blocks = [f"encoder.en_conv{level}" for level in range(_LEVELS)]
    blocks += [f"decoder.de_conv{level}" for level in range(_LEVELS)]
    depths = {block: _units(file, block) for block in blocks}
    if len(set(depths.values())) > 1:
        listed = ", ".join(f"{block} {depth}" for block, depth in depths.items())
        raise WeightsError(
            f"{file.path} looks like a published FMUNet, but its stages have different numbers of convolutions "
            f"({listed}). Download the file again, or ask those who changed it for the original."
        )
    return depths[blocks[0]]


def _units(file: Published, block: str) -> int:
    unit = 0
    while f"{block}.conv_list.{unit}.3.weight" in file.tensors:
        unit += 1
    return unit


def _modules(depth: int) -> Iterator[tuple[str, str]]:
    """Yield each module as (theirs, ours); our decoder stages are counted from the bottleneck."""
    yield "project", "encoder.stem"
    for level in range(_LEVELS):
        if level:
            yield from _unit(f"encoder.down{level - 1}.down", f"encoder.stages.{level}.down")
        yield from _residual(f"encoder.en_conv{level}", f"encoder.stages.{level}.block", depth)
    yield from _residual(f"decoder.de_conv{_LEVELS - 1}", "decoder.bottleneck", depth)
    for stage, level in enumerate(reversed(range(_LEVELS - 1))):
        ours = f"decoder.stages.{stage}"
        yield from _unit(f"decoder.upcat{level}.up", f"{ours}.up")
        yield from _unit(f"decoder.upcat{level}.conv", f"{ours}.merge")
        yield from _residual(f"decoder.de_conv{level}", f"{ours}.block", depth)
        yield f"out_layers.{level}.0", f"{ours}.out.norm"
        yield f"out_layers.{level}.2", f"decoder.seg_layers.{stage}"


def _unit(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f"{theirs}.0", f"{ours}.norm"
    yield f"{theirs}.2", f"{ours}.conv"


def _residual(theirs: str, ours: str, depth: int) -> Iterator[tuple[str, str]]:
    for unit in range(depth):
        yield f"{theirs}.conv_list.{unit}.0", f"{ours}.convs.{unit}.norm"
        yield f"{theirs}.conv_list.{unit}.3", f"{ours}.convs.{unit}.conv"
