"""The published PCT-Net under our names.

A file holds three stems and three heads, one for each resolution mode, around one pyramid of stages. A pretraining used
one of the three; the others are as they were initialised, which the counters of their batch normalisation tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nnunet_volf.errors import WeightsError
from nnunet_volf.networks.pct_net import heads_for
from nnunet_volf.weights.bias_tables import rows_of, rows_of_mis_fm, widened, window_of
from nnunet_volf.weights.dialects.misfm_names import KERNELS, STRIDES, Converted, Published
from nnunet_volf.weights.pretrained import Architecture

# Names that no other network has.
MARKS = ("pyramid_ct.convtrans_e2.conv.conv_conv.0.weight", "pyramid_ct.up3.up.2.weight")

# All configurations of the authors have this one; it is taken where a file does not tell.
_USUAL_MODE = 1

_TABLE, _INDEX = "relative_position_bias_table", "relative_position_index"
_ATTENTION = {"e2": "encoder.stages.2", "e3": "encoder.stages.3", "e4": "encoder.stages.4",
              "d3": "decoder.stages.0", "d2": "decoder.stages.1"}  # fmt: skip


def convert(file: Published, asked: int | None = None) -> Converted:
    """Return the network of one resolution mode: the one asked for, or the one that was trained."""
    mode, notes = _mode(file, asked)
    features = _features(file, mode)
    tables, window, table_notes = _bias_tables(file, features)
    architecture = Architecture(
        "nnunet_volf.networks.PCTNet",
        {
            "n_stages": len(features),
            "features_per_stage": features,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": KERNELS[mode],
            "strides": STRIDES[mode],
            "norm_op": "torch.nn.modules.batchnorm.BatchNorm3d",
            "norm_op_kwargs": {},
            "dropout": 0.2,
            "drop_path": 0.2,
            "window_size": window,
            "reference": True,
        },
        ("conv_op", "norm_op"),
    )
    kept = file.renamed(_modules(mode))
    tensors = {name: value for name, value in kept.items() if not name.endswith((_TABLE, _INDEX))}
    whole = {**tensors, **tables, **_missing_counters(tensors)}
    return Converted(whole, architecture, (*notes, *table_notes, *_unknown(file)))


def _mode(file: Published, asked: int | None) -> tuple[int, list[str]]:
    there = [mode for mode in STRIDES if f"embeddings.{mode}.proj.weight" in file.tensors]
    if asked is not None and asked not in there:
        raise WeightsError(
            f"--resolution-mode is {asked}, and {file.path} holds stems for {', '.join(map(str, there)) or 'no mode'}."
        )
    if not there:
        raise WeightsError(
            f"{file.path} looks like a published PCT-Net, but has none of its stems (embeddings.0 to embeddings.2). "
            "Ask those who changed the file for the original."
        )
    batches = {mode: _batches(file.tensors, mode) for mode in there}
    trained = [mode for mode in there if batches[mode]]
    likeliest = max(there, key=lambda mode: (batches[mode] or 0, mode == _USUAL_MODE))
    mode = likeliest if asked is None else asked
    return mode, _mode_notes(mode, batches, trained, asked)


def _mode_notes(mode: int, batches: Mapping[int, int | None], trained: list[int], asked: int | None) -> list[str]:
    others = [other for other in trained if other != mode]
    if mode in trained and not others:
        return [f"Resolution mode {mode} was taken, the only one that was trained."]
    if mode in trained:
        counted = ", ".join(f"mode {other} with {batches[other]:,} batches" for other in others)
        return [f"Resolution mode {mode} was taken, trained with {batches[mode]:,} batches; so was {counted}."]
    if batches[mode] is None:
        why = "as asked for" if asked is not None else "as in all configurations of its authors"
        return [
            f"Resolution mode {mode} was taken, {why}; the file has no counters that tell which mode was trained. "
            "Another: --resolution-mode."
        ]
    took = f"mode {others[0]} was trained" if others else "no mode of this file was"
    return [
        f"WARNING: resolution mode {mode} was never trained: no batch has passed its stem and its head, so the stages "
        f"at full and half resolution hold random weights; {took}."
    ]


def _batches(tensors: Mapping[str, Tensor], mode: int) -> int | None:
    """Return how many batches have passed a stem, if the file counts them."""
    counter = tensors.get(f"embeddings.{mode}.conv0.conv_conv.0.num_batches_tracked")
    return None if counter is None or counter.numel() != 1 else int(counter)


def _missing_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return counters for files without: nothing depends on their values, but nnU-Net asks for every tensor."""
    counters = (
        name.replace("running_mean", "num_batches_tracked") for name in tensors if name.endswith("running_mean")
    )
    return {name: torch.tensor(0) for name in counters if name not in tensors}


def _features(file: Published, mode: int) -> list[int]:
    stem = f"embeddings.{mode}"
    for module, level in ((f"{stem}.proj", 0), (f"{stem}.down1.conv.2", 1)):
        kernel = list(file.weight(module).shape[2:])
        if kernel != KERNELS[mode][level]:
            raise WeightsError(
                f"{file.path} looks like a published PCT-Net, but {module} has the kernel {kernel}, and that of "
                f"resolution mode {mode} is {KERNELS[mode][level]}."
            )
    modules = (f"{stem}.proj", f"{stem}.down1.conv.2", f"{stem}.down2.conv.2")
    return [file.features(module) for module in (*modules, "pyramid_ct.down3.conv.2", "pyramid_ct.down4.conv.2")]


# Attention.


def _bias_tables(file: Published, features: list[int]) -> tuple[dict[str, Tensor], int, list[str]]:
    """Return the tables in Swin's order under our names, all for the largest window in the file."""
    found: dict[str, tuple[Tensor, int]] = {}
    for theirs, ours in _attention_modules():
        table = file.tensors.get(f"{theirs}.{_TABLE}")
        if table is None:
            continue
        width = features[_level(ours)]
        window = window_of(table)
        if window is None or table.shape[1] != heads_for(width):
            raise WeightsError(
                f"{file.path}: {theirs}.{_TABLE} has the shape {tuple(table.shape)}. For {width} features it has "
                f"{heads_for(width)} columns, one for each head, and (2 w - 1)^3 rows for windows of w."
            )
        found[f"{ours}.bias_table"] = table[_rows(file, theirs, window)], window
    if not found:
        raise WeightsError(f"{file.path} looks like a published PCT-Net, but has no {_TABLE}.")
    largest = max(window for _, window in found.values())
    shrunk = {window for _, window in found.values() if window != largest}
    tables = {name: widened(table, largest) for name, (table, _) in found.items()}
    notes = [
        f"Windows of {side} voxels became windows of {largest}: the authors' code shrinks them, and does not shift "
        "them, where a patch is that small. Outputs are not the same as those of their code; to fine-tune is fine."
        for side in sorted(shrunk)
    ]
    return tables, largest, notes


def _rows(file: Published, module: str, window: int) -> Tensor:
    index = file.tensors.get(f"{module}.{_INDEX}")
    rows = rows_of_mis_fm(window) if index is None else rows_of(index, window)
    if rows is None:
        raise WeightsError(
            f"{file.path}: {module}.{_INDEX} is no index of relative positions in windows of {window} voxels. "
            "Download the file again."
        )
    return rows


def _level(ours: str) -> int:
    part, _, stage = ours.split(".")[:3]
    return int(stage) if part == "encoder" else 3 - int(stage)


# Names.


def _modules(mode: int) -> Iterator[tuple[str, str]]:
    """Yield each module as (theirs, ours); our decoder stages are counted from the bottleneck."""
    stem, head = f"embeddings.{mode}", f"pred_heads.{mode}"
    yield f"{stem}.proj", "encoder.stem"
    yield from _convs(f"{stem}.conv0", "encoder.stages.0")
    yield from _unit(f"{stem}.down1.conv", "encoder.stages.1.down")
    yield from _convs(f"{stem}.conv1", "encoder.stages.1")
    for stage, down in ((2, f"{stem}.down2"), (3, "pyramid_ct.down3"), (4, "pyramid_ct.down4")):
        yield from _unit(f"{down}.conv", f"encoder.stages.{stage}.down")
        yield from _parallel(f"e{stage}")
    ups = ("pyramid_ct.up4", "pyramid_ct.up3", f"{head}.up2", f"{head}.up1")
    outs = ("pyramid_ct.out_conv3", "pyramid_ct.out_conv2", f"{head}.out_conv1", f"{head}.out_conv0")
    for stage, (up, out) in enumerate(zip(ups, outs, strict=True)):
        ours = f"decoder.stages.{stage}"
        yield from _unit(f"{up}.up", f"{ours}.up")
        yield from _unit(f"{up}.conv", f"{ours}.merge")
        yield from _parallel(f"d{3 - stage}") if stage < 2 else _convs(f"{head}.conv{3 - stage}", ours)
        yield f"{out}.conv.0", f"{ours}.out.norm"
        yield f"{out}.conv.1", f"{ours}.out.nonlin"
        yield f"{out}.conv.2", f"decoder.seg_layers.{stage}"


def _unit(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f"{theirs}.0", f"{ours}.norm"
    yield f"{theirs}.1", f"{ours}.nonlin"
    yield f"{theirs}.2", f"{ours}.conv"


def _convs(theirs: str, stage: str) -> Iterator[tuple[str, str]]:
    """Yield the two convolutions of a block; the gap in their numbers is a dropout."""
    for first, ours in ((("0", "1", "2"), "convs.0"), (("3", "4", "6"), "convs.1")):
        for number, part in zip(first, ("norm", "nonlin", "conv"), strict=True):
            yield f"{theirs}.conv_conv.{number}", f"{stage}.block.{ours}.{part}"


def _parallel(which: str) -> Iterator[tuple[str, str]]:
    yield from _convs(f"pyramid_ct.convtrans_{which}.conv", _ATTENTION[which])
    for number in range(2):
        theirs = f"pyramid_ct.convtrans_{which}.trans.blocks.{number}"
        ours = f"{_ATTENTION[which]}.block.attention.{number}"
        for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
            yield f"{theirs}.{part}", f"{ours}.{part}"
        for part in ("attn", "attn.qkv", "attn.proj"):
            yield f"{theirs}.{part}", f"{ours}.{part.replace('attn', 'attention')}"


def _attention_modules() -> Iterator[tuple[str, str]]:
    for which in _ATTENTION:
        yield from (pair for pair in _parallel(which) if pair[0].endswith(".attn"))


def _unknown(file: Published) -> list[str]:
    """Say what the file holds beside the published network; the layers of theirs that are never used are known."""
    known = {theirs for mode in STRIDES for theirs, _ in _modules(mode)}
    known |= {f"pyramid_ct.convtrans_{which}.norm_layer" for which in _ATTENTION}
    left = [name for name in file.tensors if name.rpartition(".")[0] not in known]
    if not left:
        return []
    return [f"{len(left)} tensors are not of the published network and were left out, {left[0]} the first."]
