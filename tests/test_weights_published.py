"""The authors' published files are recognised by their keys, and read for what they are and no more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from malicious import Calls
from published_files import (
    BUFFERS,
    PUBLISHED_FM_UNET,
    PUBLISHED_PCT_NET,
    SMALL,
    fm_unet_shapes,
    fm_unet_weights,
    pct_net_shapes,
    pct_net_weights,
    write_published,
)
from published_networks import published_index
from torch import Tensor

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.target import network_shapes

WINDOWS = (2, 2, 2)  # small tables: what is tested here is the same for all


def pct(path: Path, name: str = "pctnet_ct10k_volf.pt", **weights: Any) -> Path:
    return write_published(path / name, pct_net_weights(**{"windows": WINDOWS, **weights}))


def fm(path: Path, name: str = "fmunet_abk1k_volf.pt", **weights: Any) -> Path:
    return write_published(path / name, fm_unet_weights(**weights))


def notes(pretrained: Pretrained) -> str:
    return "\n".join(pretrained.notes)


def refused(path: Path, **how: Any) -> str:
    with pytest.raises(WeightsError) as raised:
        read_pretrained(path, **how)
    return str(raised.value)


# The stand-ins are what is published.


@pytest.mark.parametrize(
    ("shapes", "tensors", "parameters"),
    [
        (pct_net_shapes(PUBLISHED_PCT_NET), 684, 45_289_554),
        (pct_net_shapes(PUBLISHED_PCT_NET, outputs=2), 684, 45_287_730),
        (fm_unet_shapes(PUBLISHED_FM_UNET, mode=0), 146, 47_371_572),
        (fm_unet_shapes(PUBLISHED_FM_UNET, mode=1), 146, 47_220_660),
        (fm_unet_shapes(PUBLISHED_FM_UNET, mode=2), 146, 46_625_076),
    ],
)
def test_the_stand_ins_have_the_published_numbers_of_tensors_and_parameters(
    shapes: Any, tensors: int, parameters: int
) -> None:
    listed = dict(shapes)
    assert len(listed) == tensors
    assert sum(int(np.prod(s)) for name, s in listed.items() if name.split(".")[-1] not in BUFFERS) == parameters


def test_the_stand_ins_are_as_torch_and_numpy_write_them(tmp_path: Path) -> None:
    content = torch.load(pct(tmp_path), weights_only=False)
    assert content.keys() == {"iteration", "valid_pred", "model_state_dict", "optimizer_state_dict"}
    assert isinstance(content["valid_pred"], np.float64)
    counters = {n: int(v) for n, v in content["model_state_dict"].items() if n.endswith("num_batches_tracked")}
    assert len(counters) == 66
    assert {n.split(".")[1] for n, count in counters.items() if n.startswith(("emb", "pred")) and count} == {"1"}


# What is read.


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("widths", [SMALL, (8, 8, 32, 32, 96)])
def test_a_pct_net_is_read_as_the_network_of_its_trained_mode(
    tmp_path: Path, mode: int, widths: tuple[int, ...]
) -> None:
    read = read_pretrained(pct(tmp_path, features=widths, trained=(mode,), outputs=3))
    assert (read.kind, read.method, read.dataset, read.opened) == ("MIS-FM", "volume fusion", "CT10k", "restricted")
    assert read.preparation is not None
    assert (read.preparation.channels, read.preparation.patch) == (("CT",), (64, 128, 128))
    assert (read.preparation.spacing, read.preparation.normalization) == ((), ())
    assert read.architecture is not None
    assert read.architecture.class_name == "nnunet_volf.networks.PCTNet"
    assert read.architecture.arguments["features_per_stage"] == list(widths)
    assert read.architecture.arguments["reference"] is True
    assert read.architecture.arguments["window_size"] == 2
    assert read.architecture.arguments["strides"][1:3] == {
        0: [[2, 2, 2], [2, 2, 2]], 1: [[1, 2, 2], [2, 2, 2]], 2: [[1, 2, 2], [1, 2, 2]]
    }[mode]  # fmt: skip
    shapes, first = network_shapes(read.architecture, inputs=1, heads=3)
    assert first == "encoder.stem.weight"
    assert {name: tuple(value.shape) for name, value in read.tensors.items()} == shapes
    assert len(read.tensors) == 404
    assert f"Resolution mode {mode} was taken, the only one that was trained." in read.notes


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize(("depth", "name"), [(2, "fmunet_abk1k_volf.pt"), (3, "FMUNet_abd1k_volf.pt")])
def test_an_fm_unet_is_read_as_the_network_that_its_kernels_tell(
    tmp_path: Path, mode: int, depth: int, name: str
) -> None:
    read = read_pretrained(fm(tmp_path, name, mode=mode, depth=depth, outputs=3, channels=2))
    assert (read.kind, read.method, read.dataset) == ("MIS-FM", "volume fusion", "AbdomenCT-1K")
    assert read.architecture is not None
    assert read.architecture.class_name == "nnunet_volf.networks.FMUNet"
    shapes, first = network_shapes(read.architecture, inputs=2, heads=3)
    assert first == "encoder.stem.weight"
    assert {name: tuple(value.shape) for name, value in read.tensors.items()} == shapes
    assert f"Its kernels are those of resolution mode {mode}." in read.notes


def test_no_two_tensors_are_mixed_up(tmp_path: Path) -> None:
    for path, stored in ((pct(tmp_path), pct_net_weights(windows=WINDOWS)), (fm(tmp_path), fm_unet_weights())):
        read = read_pretrained(path)
        for name, value in read.tensors.items():
            if not name.endswith(("bias_table", "num_batches_tracked")) and value.numel() > 1:
                same = [old for old, other in stored.items() if torch.equal(value, other)]
                assert len(same) == 1, (name, same)


def test_what_is_known_and_what_is_not_is_said(tmp_path: Path) -> None:
    read = read_pretrained(pct(tmp_path))
    assert "do not state at which spacing and with which normalisation it was trained" in notes(read)
    assert "Apache License 2.0" in notes(read)
    assert "saved after 200,000 iterations, with a validation score of 0.875." in notes(read)
    assert [re.search(r"\(20\d\d\)", citation)[0] for citation in read.citations] == ["(2025)", "(2023)"]


def test_of_a_file_of_another_name_nothing_is_claimed(tmp_path: Path) -> None:
    read = read_pretrained(pct(tmp_path, "pctnet_of_mine.pt"))
    assert (read.kind, read.method, read.dataset) == ("MIS-FM", None, None)
    assert read.preparation is not None
    assert read.preparation.channels == ("unnamed",)
    assert "PyMIC saves any training of this network in the same way" in notes(read)


def test_the_older_name_is_known(tmp_path: Path) -> None:
    read = read_pretrained(pct(tmp_path, "pctnet_pretrain.pt"))
    assert (read.method, read.preparation and read.preparation.channels) == ("volume fusion", ("CT",))


# Which resolution mode.


def test_a_mode_that_is_asked_for_is_taken_with_a_warning_where_it_was_never_trained(tmp_path: Path) -> None:
    path = pct(tmp_path, trained=(1,))
    read = read_pretrained(path, resolution_mode=2)
    assert read.architecture is not None
    assert read.architecture.arguments["strides"][2] == [1, 2, 2]
    warning = next(note for note in read.notes if note.startswith("WARNING"))
    assert "resolution mode 2 was never trained" in warning
    assert "mode 1 was trained" in warning
    assert "WARNING" not in notes(read_pretrained(path, resolution_mode=1))


def test_of_several_trained_modes_the_one_with_most_batches_is_taken(tmp_path: Path) -> None:
    weights = pct_net_weights(windows=WINDOWS, trained=(0, 2))
    for name, value in weights.items():
        if name.startswith("embeddings.0.") and name.endswith("num_batches_tracked"):
            value.fill_(5)
    read = read_pretrained(write_published(tmp_path / "a.pt", weights))
    note = "Resolution mode 2 was taken, trained with 200,000 batches; so was mode 0 with 5 batches."
    assert note in read.notes


def test_a_file_in_which_nothing_was_trained_is_called_so(tmp_path: Path) -> None:
    read = read_pretrained(pct(tmp_path, trained=()))
    assert "WARNING: resolution mode 1 was never trained" in notes(read)
    assert "no mode of this file was" in notes(read)


def test_without_counters_the_authors_usual_mode_is_taken(tmp_path: Path) -> None:
    weights = pct_net_weights(windows=WINDOWS, trained=(0,))
    bare = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save(bare, tmp_path / "a.pt")
    read = read_pretrained(tmp_path / "a.pt")
    assert "Resolution mode 1 was taken, as in all configurations of its authors" in notes(read)
    assert len(read.tensors) == 404, "nnU-Net asks for the counters, too"
    assert sum(name.endswith("num_batches_tracked") for name in read.tensors) == 34
    assert "as asked for" in notes(read_pretrained(tmp_path / "a.pt", resolution_mode=0))


def test_a_mode_that_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    weights = {k: v for k, v in pct_net_weights(windows=WINDOWS).items() if ".2." not in k[:14]}
    path = write_published(tmp_path / "a.pt", weights)
    assert "--resolution-mode is 2, and" in refused(path, resolution_mode=2)
    assert "holds stems for 0, 1." in refused(path, resolution_mode=2)


def test_an_fm_unet_has_one_mode(tmp_path: Path) -> None:
    path = fm(tmp_path, mode=1)
    assert "holds one FMUNet, whose kernels are those of mode 1" in refused(path, resolution_mode=0)
    assert read_pretrained(path, resolution_mode=1).architecture == read_pretrained(path).architecture


def test_other_files_have_no_modes(tmp_path: Path) -> None:
    torch.save({"encoder.stem.x": torch.ones(1)}, tmp_path / "a.pt")
    assert "is for the published files of PCT-Net" in refused(tmp_path / "a.pt", resolution_mode=0)
    assert "of another kind (state dict)" in refused(tmp_path / "a.pt", resolution_mode=0)


# However it is wrapped.


@pytest.mark.parametrize("prefix", ["module.", "model.net.", "anything."])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "network_weights", None])
def test_prefixes_and_places_do_not_matter(tmp_path: Path, prefix: str, key: str | None) -> None:
    weights = fm_unet_weights()
    expected = read_pretrained(write_published(tmp_path / "a.pt", weights)).tensors
    wrapped = {f"{prefix}{name}": value for name, value in weights.items()}
    torch.save(wrapped if key is None else {key: wrapped, "epoch": 3}, tmp_path / "b.pt")
    read = read_pretrained(tmp_path / "b.pt")
    assert read.kind == "MIS-FM"
    assert f"The prefix '{prefix}' was removed from the names of the tensors." in read.notes
    assert read.tensors.keys() == expected.keys()
    assert all(torch.equal(read.tensors[name], expected[name]) for name in expected)


# Odd files.


def test_windows_that_were_shrunk_are_widened_and_said_to_be(tmp_path: Path) -> None:
    path = pct(tmp_path, windows=(3, 3, 2))
    read = read_pretrained(path)
    assert read.architecture is not None
    assert read.architecture.arguments["window_size"] == 3
    table = read.tensors["encoder.stages.4.block.attention.1.attention.bias_table"]
    assert table.shape == (125, 2)
    assert table.view(5, 5, 5, 2)[1:4, 1:4, 1:4].count_nonzero() == table.count_nonzero() > 0
    assert "Windows of 2 voxels became windows of 3" in notes(read)


def test_a_table_whose_index_was_repaired_stays_as_it_is(tmp_path: Path) -> None:
    weights = pct_net_weights(windows=WINDOWS)
    steps = torch.tensor([9, 3, 1])
    places = torch.cartesian_prod(*[torch.arange(2)] * 3)
    for name in weights:
        if name.endswith("relative_position_index"):
            weights[name] = ((places[:, None] - places[None] + 1) * steps).sum(-1)
    read = read_pretrained(write_published(tmp_path / "a.pt", weights))
    theirs = weights["pyramid_ct.convtrans_d3.trans.blocks.1.attn.relative_position_bias_table"]
    assert torch.equal(read.tensors["decoder.stages.0.block.attention.1.attention.bias_table"], theirs)


def with_change(tmp_path: Path, weights: dict[str, Tensor], name: str, value: Tensor | None) -> Path:
    assert name in weights
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    return write_published(tmp_path / "a.pt", weights)


TRANS = "pyramid_ct.convtrans_e2.trans.blocks.0.attn"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("embeddings.1.down1.conv.2.weight", None, "embeddings.1.down1.conv.2.weight, which tells how wide"),
        ("pyramid_ct.down4.conv.2.weight", torch.ones(3), "has the shape (3,)"),
        ("embeddings.1.proj.weight", torch.ones(4, 1, 3, 3, 3), "embeddings.1.proj has the kernel [3, 3, 3]"),
        (f"{TRANS}.relative_position_bias_table", torch.ones(26, 1), "has the shape (26, 1). For 32 features"),
        (f"{TRANS}.relative_position_bias_table", torch.ones(27, 4), "(27, 4). For 32 features it has 1 columns"),
        (f"{TRANS}.relative_position_index", published_index(2) + 100, "is no index of relative positions"),
    ],
)
def test_a_pct_net_that_is_not_as_published_is_refused(
    tmp_path: Path, name: str, value: Tensor | None, message: str
) -> None:
    said = refused(with_change(tmp_path, pct_net_weights(windows=WINDOWS), name, value))
    assert message in said
    assert str(tmp_path / "a.pt") in said


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder.en_conv3.conv_list.0.3.weight", torch.ones(2), "has the shape (2,)"),
        ("project.weight", torch.ones(4, 1, 5, 5, 5), "has other kernels in 'project'"),
        ("encoder.en_conv1.conv_list.0.3.weight", torch.ones(6, 6, 1, 3, 3), "Known are [[3, 3, 3], [3, 3, 3]"),
        ("decoder.de_conv2.conv_list.1.3.weight", None, "different numbers of convolutions"),
    ],
)
def test_an_fm_unet_that_is_not_as_published_is_refused(
    tmp_path: Path, name: str, value: Tensor | None, message: str
) -> None:
    assert message in refused(with_change(tmp_path, fm_unet_weights(), name, value))


def test_what_is_not_of_the_network_is_left_out_by_name(tmp_path: Path) -> None:
    for weights in (pct_net_weights(windows=WINDOWS), fm_unet_weights()):
        extra = {**weights, "projector.weight": torch.ones(2), "projector.bias": torch.ones(2)}
        read = read_pretrained(write_published(tmp_path / "a.pt", extra))
        assert "2 tensors are not of the published network and were left out, projector.weight the first." in read.notes
        assert not any("projector" in name for name in read.tensors)


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    weights = fm_unet_weights()
    weights["project.bias"][0] = float("nan")
    assert "NaN or infinite values, the first is project.bias" in refused(write_published(tmp_path / "a.pt", weights))


def test_a_stand_in_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    import os

    witness = tmp_path / "it-was-run"
    harmful = Calls(os.system, f"echo > {witness}")
    for place in ("valid_pred", "optimizer_state_dict", "iteration"):
        path = write_published(tmp_path / "pctnet_ct10k_volf.pt", fm_unet_weights(), **{place: harmful})
        assert "is refused: it calls " in refused(path)
        assert not witness.exists()
