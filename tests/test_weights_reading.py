"""Files of weights are read as torch reads them, and damaged ones are refused with one line."""

from __future__ import annotations

import argparse
import functools
import pathlib
import struct
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious import LEGACY, archive, saved, stream, tensor_pickle
from weights_opening import FORMATS, WEIGHTS, opened_or_refused, problem, same

from nnunet_volf.weights.pickles.inert import Inert
from nnunet_volf.weights.reading import open_weights

# What is read.

PLAIN = {
    "text": "Ä",
    "numbers": [0, -1, 255, 65536, 2**40, -(2**70), 1.5, True, None],
    "nested": {"tuple": (1, (2,), ()), "list": [[], {}], 3: "three"},
    "ordered": OrderedDict(b=1, a=2),
    "size": torch.Size([1, 2]),
    "type": torch.float16,
    "parameter": torch.nn.Parameter(torch.ones(2)),
    **{str(t): torch.tensor([0, 1, 1], dtype=t) for t in (torch.float64, torch.float16, torch.bfloat16, torch.bool)},
    **{
        str(t): torch.tensor([0, 1, 2], dtype=t)
        for t in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    },
    "complex": torch.tensor([1 + 2j]),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "part": torch.arange(10)[4:8:2],
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(3.0),
}


@FORMATS
def test_tensors_and_plain_data_are_read_as_torch_reads_them(tmp_path: Path, how: dict[str, Any]) -> None:
    opened = open_weights(saved(tmp_path / "a.pth", PLAIN, **how))
    assert (opened.how, opened.ignored) == ("plain", ())
    expected = torch.load(tmp_path / "a.pth", weights_only=True)
    assert same({**expected, "parameter": expected["parameter"].detach()}, opened.content)


@FORMATS
def test_tensors_that_share_memory_share_it_after_reading(tmp_path: Path, how: dict[str, Any]) -> None:
    whole = torch.zeros(4)
    content = open_weights(saved(tmp_path / "a.pth", {"whole": whole, "part": whole[2:]}, **how)).content
    content["part"].fill_(1)
    assert content["whole"].tolist() == [0, 0, 1, 1]


plain_content = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(plain_content, st.sampled_from([{}, LEGACY]))
def test_what_is_called_plain_is_what_torch_reads_safely(
    tmp_path_factory: pytest.TempPathFactory, content: Any, how: dict[str, Any]
) -> None:
    path = saved(tmp_path_factory.mktemp("plain") / "a.pth", {"content": content, "weight": torch.ones(1)}, **how)
    opened = open_weights(path)
    assert opened.how == "plain"
    assert same(torch.load(path, weights_only=True), opened.content)


@FORMATS
def test_what_a_stock_nnunet_checkpoint_holds_is_read(tmp_path: Path, how: dict[str, Any]) -> None:
    content = {
        "network_weights": WEIGHTS,
        "_best_ema": np.float64(0.5),
        "logging": {"losses": [np.float32(0.25), np.float16(2)], "count": np.int64(7), "flag": np.bool_(True)},
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">i4"),
        "names": np.array(["a", "bcd"]),
        "init_args": {"device": torch.device("cuda", 0), "folder": pathlib.PurePosixPath("/a/b")},
        "counts": defaultdict(int, x=3),
        "set": {1, 2},
        "bytes": b"\x00\xff",
    }
    opened = open_weights(saved(tmp_path / "a.pth", content, **how))
    assert (opened.how, opened.ignored) == ("restricted", ())
    read = opened.content
    assert same(read["network_weights"], WEIGHTS)
    assert read["_best_ema"] == 0.5
    assert type(read["_best_ema"]) is float
    assert read["logging"] == {"losses": [0.25, 2.0], "count": 7, "flag": True}
    for name in ("array", "fortran", "big_endian", "names"):
        assert read[name].dtype == content[name].dtype.newbyteorder("=")  # type: ignore[attr-defined]
        assert np.array_equal(read[name], content[name])  # type: ignore[arg-type]
    assert read["init_args"] == {"device": "cuda:0", "folder": "/a/b"}
    assert read["counts"] == {"x": 3}
    assert type(read["counts"]) is dict, "a factory could be anything"
    assert read["set"] == {1, 2}
    assert read["bytes"] == b"\x00\xff"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_protocol_of_pickle_is_read(tmp_path: Path, protocol: int, zipped: bool) -> None:
    content = {"w": WEIGHTS, "array": np.arange(3), "set": frozenset({"a"}), "bytes": b"abc" * 100, "long": "x" * 300}
    path = saved(tmp_path / "a.pth", content, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    read = open_weights(path).content
    assert same(read["w"], WEIGHTS)
    assert read["array"].tolist() == [0, 1, 2]
    assert (read["set"], read["bytes"], read["long"]) == (content["set"], content["bytes"], content["long"])


def test_what_a_later_protocol_holds_is_not_called_plain(tmp_path: Path) -> None:
    assert open_weights(saved(tmp_path / "a.pth", WEIGHTS, pickle_protocol=2)).how == "plain"
    assert open_weights(saved(tmp_path / "a.pth", WEIGHTS, pickle_protocol=4)).how == "restricted"


def test_numpy_values_are_read_whatever_the_version_of_numpy_that_wrote_them(tmp_path: Path) -> None:
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        scalar = b"c" + module + b"\nscalar\n(cnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
        path = archive(tmp_path / "a.pth", b"\x80\x02}S'x'\n" + scalar + b"C\x04\x00\x00\x80?tRs.")
        assert open_weights(path).content == {"x": 1.0}


class Settings(argparse.Namespace):
    pass


class WithState:
    def __init__(self) -> None:
        self.rate = 1

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("a method of a stranger's class was called")


class WithNew:
    def __new__(cls, *_: Any) -> WithNew:
        raise AssertionError("a stranger's class was made")


@FORMATS
def test_objects_of_other_types_are_left_out_and_named(tmp_path: Path, how: dict[str, Any]) -> None:
    content = {
        "state_dict": WEIGHTS,
        "hyper_parameters": argparse.Namespace(rate=0.1),
        "settings": Settings(rate=WithState()),
        "new": object.__new__(WithNew),
        "part": functools.partial(print, 1),
        "kind": WithState,
    }
    content.pop("part")  # holds builtins.print, which is refused; see below
    opened = open_weights(saved(tmp_path / "a.pth", content, **how))
    assert opened.how == "restricted"
    names = {"argparse.Namespace", *(f"{__name__}.{n}" for n in ("Settings", "WithState", "WithNew"))}
    assert set(opened.ignored) == names
    assert same(opened.content["state_dict"], WEIGHTS)
    assert isinstance(opened.content["hyper_parameters"], Inert)
    assert opened.content["hyper_parameters"].state == {"rate": 0.1}


def test_a_tensor_of_a_subclass_is_read_as_the_tensor_it_is(tmp_path: Path) -> None:
    wrapped = torch.ones(2).as_subclass(MetaTensor)
    wrapped.affine = np.eye(2)  # type: ignore[attr-defined]
    opened = open_weights(saved(tmp_path / "a.pth", {"w": wrapped}))
    assert type(opened.content["w"]) is torch.Tensor
    assert opened.ignored == (f"{__name__}.MetaTensor",)


class Outer:
    class Inner:
        pass


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_class_within_a_class_is_left_out_too(tmp_path: Path, protocol: int) -> None:
    path = saved(tmp_path / "a.pth", {"w": torch.ones(1), "x": Outer.Inner()}, pickle_protocol=protocol)
    opened = open_weights(path)
    assert repr(opened.content["x"]) == f"<object of {__name__}.Outer.Inner>"
    assert opened.how == "restricted"


def test_a_member_of_an_enumeration_is_left_out_as_python_3_11_wrote_it(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pth", b"\x80\x02cbuiltins\ngetattr\n(cmypackage\nMode\nS'LINEAR'\ntR.")
    assert repr(open_weights(path).content) == "<mypackage.Mode.LINEAR>"


class MetaTensor(torch.Tensor):
    pass


def test_the_file_can_be_replaced_while_its_weights_are_in_use(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", WEIGHTS)
    content = open_weights(path).content
    path.write_bytes(bytes(path.stat().st_size))
    assert same(content, WEIGHTS)


# Tensors that do not fit into their memory.


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": 1},
        {"offset": -1},
        {"size": "(I3\nt"},
        {"size": "(I1000000000000\nt", "stride": "(I0\nt"},
        {"size": "(I-1\nt"},
        {"stride": "(I2\nt"},
        {"stride": "(I-1\nt"},
        {"size": "(I1\nI2\nt"},
        {"count": 3},
        {"count": 1},
        {"count": -2},
        {"count": 2**60},
        {"kind": "ctorch\nDoubleStorage\n"},
        {"kind": "cmypackage\nStorage\n"},
    ],
)
def test_a_tensor_that_does_not_fit_its_memory_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    values = struct.pack("<2f", 1.0, 2.0)
    good = archive(tmp_path / "good.pth", tensor_pickle(), {"data/0": values})
    assert open_weights(good).content["a"].tolist() == [1.0, 2.0]
    assert open_weights(stream(good, tensor_pickle().replace(b"I2\ntQ", b"I2\nNtQ"), {"0": [1.0, 2.0]})).content[
        "a"
    ].tolist() == [1.0, 2.0]
    pickled = tensor_pickle(**wrong)
    assert "is cut off or damaged" in problem(archive(tmp_path / "a.pth", pickled, {"data/0": values}))
    assert "is cut off or damaged" in problem(
        stream(tmp_path / "b.pth", pickled.replace(b"\ntQ", b"\nNtQ"), {"0": [1.0, 2.0]})
    )


def test_no_more_memory_is_taken_than_the_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    empty = torch.empty

    def counting(size: int, **how: Any) -> torch.Tensor:
        taken.append(size)
        return empty(size, **how)

    monkeypatch.setattr(torch, "empty", counting)
    pickled = tensor_pickle(count=10_000, size="(I10000\nt").replace(b"\ntQ", b"\nNtQ")
    for path in (
        stream(tmp_path / "a.pth", pickled, {"0": [1.0, 2.0]}),
        archive(tmp_path / "b.pth", pickled, {"data/0": bytes(8)}),
    ):
        assert "is cut off or damaged" in problem(path)
        assert sum(taken) <= path.stat().st_size


# Damaged files.


@FORMATS
def test_a_file_cut_anywhere_is_refused_with_its_size(tmp_path: Path, how: dict[str, Any]) -> None:
    whole = saved(tmp_path / "whole.pth", {"network_weights": WEIGHTS}, **how).read_bytes()
    lengths = [1, 10, 20, 40, 60, *range(100, len(whole), max(1, len(whole) // 60)), len(whole) - 1]
    for length in lengths:
        path = tmp_path / "cut.pth"
        path.write_bytes(whole[:length])
        message = problem(path)
        assert (
            f"{length:,} bytes are there" in message
            or "no checkpoint of torch's" in message
            or "plain pickle" in message
        )
        if length >= 60:
            assert f"{length:,} bytes are there" in message
            assert "again" in message


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([{}, LEGACY]))
def test_a_file_with_changed_bytes_gives_an_error_or_says_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, how: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    whole = bytearray(saved(folder / "a.pth", {"network_weights": WEIGHTS, "epoch": 3}, **how).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "b.pth").write_bytes(whole)
    opened = opened_or_refused(folder / "b.pth")
    if opened and not how:  # the old format has no checksums
        assert same(opened.content, {"network_weights": WEIGHTS, "epoch": 3})


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_one_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes, zipped: bool) -> None:
    path = tmp_path_factory.mktemp("any") / "a.pth"
    path.write_bytes(content)
    problem(path)
    path = archive(path, content) if zipped else stream(path, content)
    opened_or_refused(path)


def test_a_wrong_checksum_names_the_record(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", WEIGHTS)
    with zipfile.ZipFile(path) as file:
        record = next(r for r in file.infolist() if r.filename.endswith("data/0"))
    content = bytearray(path.read_bytes())
    place = content.index(WEIGHTS["a.weight"].numpy().tobytes())
    content[place + 5] ^= 1
    path.write_bytes(content)
    message = problem(path)
    assert "is damaged (Bad CRC-32" in message
    assert record.filename in message


def test_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", WEIGHTS)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    assert "the other byte order" in problem(tmp_path / "b.pth")
    legacy = saved(tmp_path / "c.pth", WEIGHTS, **LEGACY)
    legacy.write_bytes(legacy.read_bytes().replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"))
    assert "the other byte order" in problem(legacy)
