"""Files of weights are opened without running anything, and what is wrong with a file is said in one line."""

from __future__ import annotations

import argparse
import builtins
import collections
import copyreg
import functools
import importlib
import json
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious import LEGACY, Calls, archive, both, saved, stream, tensor_pickle

from nnunet_volf.errors import WeightsError
from nnunet_volf.weights.pickles.dangers import runs_code
from nnunet_volf.weights.pickles.inert import Inert
from nnunet_volf.weights.pickles.known import KNOWN
from nnunet_volf.weights.reading import Opened, open_weights

FORMATS = pytest.mark.parametrize("how", [{}, LEGACY], ids=["archive", "stream"])
WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5, -2.0])}


def same(one: Any, other: Any) -> bool:
    """Compare nested content: types, order, values, and how tensors lie in memory."""
    if isinstance(one, torch.Tensor):
        return (
            type(other) is torch.Tensor
            and (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
            and one.numpy().tobytes() == other.numpy().tobytes()
            if one.dtype != torch.bfloat16
            else torch.equal(one, other)
        )
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(same(*pair) for pair in zip(one, other, strict=True))
        )
    return type(one) is type(other) and (one == other or one != one)


def problem(path: Path, trust: bool = False) -> str:
    with pytest.raises(WeightsError) as raised:
        open_weights(path, trust)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def opened_or_refused(path: Path) -> Opened | None:
    """Open a file that may be damaged; any other error than ours is a failure."""
    try:
        return open_weights(path)
    except WeightsError:
        return None


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


class MetaTensor(torch.Tensor):
    pass


# What is refused because it would run something.


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    """A file that exists only once something was run."""
    return tmp_path / "it-was-run"


def harm(witness: Path) -> list[tuple[str, Any]]:
    """Return objects whose pickles write the witness, by the functions that they call."""
    command, code = f"echo > {witness}", f"open({str(witness)!r}, 'w').close()"
    inner = pickle.dumps(Calls(os.system, command))
    return [
        ("system", Calls(os.system, command)),
        ("eval", Calls(eval, code)),
        ("exec", Calls(exec, code)),
        ("open", Calls(open, str(witness), "w")),
        ("Popen", Calls(subprocess.Popen, ["touch", str(witness)])),
        ("check_output", Calls(subprocess.check_output, ["touch", str(witness)])),
        ("__import__", Calls(builtins.__import__, "antigravity")),
        ("import_module", Calls(importlib.import_module, "antigravity")),
        ("loads", Calls(pickle.loads, inner)),
        ("load", Calls(torch.load, str(witness))),
        ("_load_from_bytes", Calls(torch.storage._load_from_bytes, inner)),
        ("load", Calls(torch.hub.load, str(witness), "x")),
        ("rmtree", Calls(shutil.rmtree, str(witness.parent / "sub"))),
        ("map", b"cbuiltins\nmap\n(cmypackage\nThing\n]tR"),
        ("reduce", Calls(functools.reduce, os.system, [command])),
        ("setrecursionlimit", Calls(sys.setrecursionlimit, 10)),
        ("getattr", b"cbuiltins\ngetattr\n(cmypackage\nThing\nS'system'\ntR"),
        ("methodcaller", b"coperator\nmethodcaller\n(S'system'\ntR"),
        ("putenv", b"cos\nputenv\n(S'A'\nS'B'\ntR"),
        ("system", b"cnt\nsystem\n(S'x'\ntR"),
        ("eval", b"c__builtin__\neval\n(S'1'\ntR"),
        ("load", b"cnumpy\nload\n(S'x'\ntR"),
    ]


@pytest.mark.parametrize("number", range(22))
@pytest.mark.parametrize("where", ["top", "value", "key", "state", "array"])
def test_a_file_that_would_run_something_is_refused_and_runs_nothing(
    tmp_path: Path, witness: Path, number: int, where: str
) -> None:
    assert len(harm(witness)) == 22
    name, content = harm(witness)[number]
    pickled = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)[2:-1]
    pickled = {
        "top": pickled,
        "value": b"}S'a'\n" + pickled + b"s",
        "key": b"}" + pickled + b"I1\ns",
        "state": b"ccollections\nOrderedDict\n)R" + pickled + b"b",
        "array": b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR" + pickled + b"tR",
    }[where]
    for path in both(tmp_path, b"\x80\x02" + pickled + b"."):
        message = problem(path)
        assert "is refused: it calls " in message
        assert f".{name} when it is opened" in message
    assert not witness.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"(S'x'\nios\nsystem\n",  # INST
        b"(cos\nsystem\nS'x'\no",  # OBJ
        b"cos\nsystem\n(S'x'\nt\x81",  # NEWOBJ
        b"cos\nsystem\n(S'x'\nt}\x92",  # NEWOBJ_EX
        b"cos\nsystem\n(S'x'\ntR",  # REDUCE
        b"cos\nsystem\n",  # the bare name
        b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93(S'x'\ntR",  # STACK_GLOBAL
        b"X\x13\x00\x00\x00torch.serializationX\x09\x00\x00\x00os.system\x93(S'x'\ntR",  # through attributes
    ],
)
def test_every_instruction_that_calls_is_refused(tmp_path: Path, pickled: bytes) -> None:
    for path in both(tmp_path, b"\x80\x04" + pickled + b"."):
        assert "it calls " in problem(path)
        assert "os.system" in problem(path)


def test_the_registry_of_extensions_is_not_used(tmp_path: Path, witness: Path) -> None:
    copyreg.add_extension("posix", "system", 201)
    try:
        for path in both(tmp_path, b"\x80\x02\x82\xc9" + f"(S'touch {witness}'\ntR.".encode()):
            assert "is cut off or damaged" in problem(path)
    finally:
        copyreg.remove_extension("posix", "system", 201)
    assert not witness.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}S'__code__'\nI1\nsb.",  # attributes of a function in the table
        b"ccollections\nOrderedDict\n(N}S'update'\nI1\nstb.",  # attributes of a class
        b"cmypackage\nThing\n}S'__class__'\nI1\nsb.",
        b"cmypackage\nThing\n)R(I1\nI2\ntb.",
    ],
)
def test_state_is_set_on_placeholders_only(tmp_path: Path, pickled: bytes) -> None:
    before = {key: vars(value) for key, value in KNOWN.items() if hasattr(value, "__dict__")}
    for path in both(tmp_path, b"\x80\x02" + pickled):
        open_weights(path)
    assert {key: vars(value) for key, value in KNOWN.items() if hasattr(value, "__dict__")} == before
    assert OrderedDict.update is not None


@pytest.mark.parametrize(
    "pickled",
    [
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cmypackage\nrun\ncmypackage\nThing\n(S'x'\ntNtR.",  # a placeholder
        b"S'posix.system'\n(S'x'\ntR.",  # calls text
        b"ctorch\nfloat32\n(S'x'\ntR.",  # calls a dtype
        b"ctorch\nFloatStorage\n(I1000000000000\ntR.",  # memory without a record
        b"cbuiltins\nbytearray\n(I1000000000000\ntR.",
        b"]S'posix'\na}S'a'\nI1\nsa(I1\nI2\no.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(S'x'\nI0\n(I1\nt(I1\ntI00\nNtR.",
        b"(S'storage'\nctorch\nFloatStorage\nS'../../etc/passwd'\nS'cpu'\nI2\ntQ.",
        b"(S'module'\nS'x'\nS'y'\nS'z'\nt.Q",
        b"S'storage'\nQ.",
        b"}(S'a'\nu.",
        b"0.",
        b"(.",
        b".",
        b"",
    ],
)
def test_a_pickle_that_makes_no_sense_is_called_damaged(tmp_path: Path, pickled: bytes) -> None:
    for path in both(tmp_path, b"\x80\x02" + pickled):
        if pickled.startswith(b"(S'module'"):
            continue
        assert "is cut off or damaged" in problem(path)


@pytest.mark.parametrize("text", ["O8", "f4,O8", "(3,)f4", "O", "M8[s]", "V8", "|O", "[('a', 'f4')]", "mypackage"])
def test_numpy_values_are_numbers_or_text(tmp_path: Path, text: str) -> None:
    kind = f"cnumpy\ndtype\n(S{text!r}\nI00\nI01\ntR".encode()
    scalar = b"cnumpy.core.multiarray\nscalar\n(" + kind + b"C\x08" + struct.pack("q", id(text)) + b"tR."
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
    array = start + b"(I1\n(I1\nt" + kind + b"I00\n(lp1\nI1\natb."
    for pickled in (scalar, array):
        for path in both(tmp_path, b"\x80\x03" + pickled):
            assert "is cut off or damaged" in problem(path)


def test_a_network_saved_whole_runs_none_of_its_code(tmp_path: Path) -> None:
    for how in ({}, LEGACY):
        path = saved(tmp_path / "a.pth", torch.nn.Linear(2, 3), **how)
        opened = open_weights(path)
        assert isinstance(opened.content, Inert)
        assert opened.content.state["_parameters"]["weight"].shape == (3, 2)


def test_only_the_table_is_ever_called() -> None:
    data = {"set", "frozenset", "list", "tuple", "dict", "bytearray", "complex"}
    data |= {"object", "int", "long", "float", "str", "unicode", "bool", "bytes"}
    for module, name in KNOWN:
        if runs_code(module, name):
            made_by_us = module == "builtins" and name in data
            assert made_by_us or (module, name) in {("_codecs", "encode"), ("copyreg", "_reconstructor")}


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("os", "system", True),
        ("os.path", "expanduser", True),
        ("osgeo", "Thing", False),
        ("torch", "load", True),
        ("torch.loader", "load", False),
        ("torch.nn.modules.linear", "Linear", False),
        ("mypackage.io", "Thing", False),
        ("mypackage", "io.open", True),
        ("builtins", "print", True),
        ("builtins", "slice", False),
        ("types", "SimpleNamespace", False),
        ("types", "FunctionType", True),
    ],
)
def test_what_runs_code_is_known_by_its_whole_name(module: str, name: str, expected: bool) -> None:
    assert runs_code(module, name) is expected


def test_trust_opens_what_only_pickle_can(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"w": torch.ones(1), "x": argparse.Namespace(a=1)})
    opened = open_weights(path, trust=True)
    assert opened.how == "trusted"
    assert opened.content["x"] == argparse.Namespace(a=1)


def test_trust_does_run_what_the_file_asks_for(tmp_path: Path, witness: Path) -> None:
    path = saved(tmp_path / "a.pth", {"w": torch.ones(1), "x": Calls(os.system, f"echo > {witness}")})
    open_weights(path, trust=True)
    assert witness.exists(), "else the tests above would show nothing"


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


# Files that are something else.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"", "is empty (0 bytes). Download or copy it again."),
        ("a.pth", bytes(2000), "its first 512 bytes are zero"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        ("a.pth", b"\n <!DOCTYPE html><html>", "is a web page saved in the place of the file"),
        ("a.pth", b"<html lang='en'>", "is a web page"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "is an HDF5 file, such as Keras writes"),
        (
            "a.safetensors",
            struct.pack("<Q", 4) + b"{  }" + bytes(8),
            "torch.save(s.load_file('a.safetensors'), 'a.pth')",
        ),
        ("a.onnx", b"\x08\x07", "is an ONNX model"),
        ("a.bin", b"\x08\x06\x12\x07pytorch", "is an ONNX model"),
        ("a.pth", b"\x1f\x8b\x08", "is compressed with gzip. Unpack it first."),
        ("a.npy", b"\x93NUMPY", "is a numpy array"),
        ("a.pth", b"GIF89a", "no checkpoint of torch's"),
        ("a.pth", json.dumps({"a": 1}).encode(), "no checkpoint of torch's"),
        ("a.pth", pickle.dumps({"a": 1}), "is a plain pickle, of Python's and not of torch's"),
        ("a.pth", b"PK\x03\x04" + bytes(100), "is cut off or damaged: 104 bytes are there, and no table of contents"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in problem(tmp_path / name)
    assert message in problem(tmp_path / name, trust=True)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (["model/data.pkl", "model/constants.pkl", "model/code/x.py"], "is a TorchScript program"),
        (["config.json", "model.weights.h5"], "is a Keras model"),
        (["a.npy", "b.npy"], "is an archive of numpy arrays"),
        (["Dataset/fold_0/checkpoint_final.pth"], "It holds Dataset/fold_0/checkpoint_final.pth. Unpack it first."),
        (["readme.txt"], "is a zip archive and no checkpoint itself. Unpack it first."),
    ],
)
def test_another_kind_of_archive_is_named(tmp_path: Path, records: list[str], message: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for record in records:
            file.writestr(record, b"x")
    assert message in problem(tmp_path / "a.zip")


def test_a_torchscript_program_of_torchs_own_is_refused(tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "a.pt")
    assert "is a TorchScript program" in problem(tmp_path / "a.pt")


def test_an_archive_that_was_packed_anew_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", WEIGHTS)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "packed anew" in problem(tmp_path / "b.pth")


def test_tar_files_are_refused(tmp_path: Path) -> None:
    for names, message in ((["storages", "tensors", "pickle"], "before torch 0.4"), (["m.pth"], "It holds m.pth.")):
        for name in names:
            (tmp_path / name).write_bytes(b"x")
        subprocess.run(["tar", "-cf", "a.tar", *names], cwd=tmp_path, check=True)
        assert message in problem(tmp_path / "a.tar")


def test_a_missing_file_gives_the_name_that_was_meant(tmp_path: Path) -> None:
    saved(tmp_path / "checkpoint_final.pth", WEIGHTS)
    message = problem(tmp_path / "checkpoint_finl.pth")
    assert f"does not exist. Did you mean {tmp_path / 'checkpoint_final.pth'}?" in message
    assert "its folder" in problem(tmp_path / "nowhere" / "a.pth")
    (tmp_path / "empty").mkdir()
    assert "holds no checkpoint" in problem(tmp_path / "empty" / "a.pth")


def test_a_folder_is_answered_with_the_checkpoints_in_it(tmp_path: Path) -> None:
    assert "is a folder. Name one of the checkpoints in it: none." in problem(tmp_path)
    for fold in range(10):
        (tmp_path / f"fold_{fold}").mkdir()
        saved(tmp_path / f"fold_{fold}" / "checkpoint_final.pth", WEIGHTS)
    message = problem(tmp_path)
    assert str(Path("fold_0", "checkpoint_final.pth")) in message
    assert "and 2 more." in message


def test_the_file_can_be_replaced_while_its_weights_are_in_use(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", WEIGHTS)
    content = open_weights(path).content
    path.write_bytes(bytes(path.stat().st_size))
    assert same(content, WEIGHTS)


def test_collections_of_torch_are_not_changed_by_reading() -> None:
    assert collections.OrderedDict is OrderedDict
