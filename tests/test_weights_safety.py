"""Opening a file of weights runs nothing, whatever is in the file."""

from __future__ import annotations

import argparse
import builtins
import copyreg
import functools
import importlib
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious import INSTRUCTIONS, LEGACY, Calls, archive, both, saved, stream
from weights_opening import opened_or_refused, problem

from nnunet_volf.weights.pickles.dangers import runs_code
from nnunet_volf.weights.pickles.inert import Inert
from nnunet_volf.weights.pickles.known import KNOWN
from nnunet_volf.weights.reading import open_weights

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
        ("getattr", b"cbuiltins\ngetattr\n(ctorch\nSize\nS'system'\ntR"),
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
    data = {"getattr", "set", "frozenset", "list", "tuple", "dict", "bytearray", "complex"}
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


class Watch:
    """Notes what the interpreter is asked to do, by its own account, while files are opened."""

    def __init__(self) -> None:
        self.events: set[str] | None = None
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        harmless = event == "builtins.id" or (event == "open" and arguments[1] in ("rb", "r", None))
        if self.events is not None and not harmless:
            self.events.add(f"{event} {arguments}")

    def opening(self, path: Path) -> set[str]:
        self.events = set()
        opened_or_refused(path)
        seen, self.events = self.events, None
        return seen


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(INSTRUCTIONS), max_size=25), st.booleans())
def test_no_sequence_of_instructions_makes_the_interpreter_do_anything(
    tmp_path_factory: pytest.TempPathFactory, watch: Watch, program: list[bytes], zipped: bool
) -> None:
    pickled = b"\x80\x02" + b"".join(program) + b"."
    folder = tmp_path_factory.mktemp("program")
    path = archive(folder / "a.pth", pickled, {"data/0": bytes(8)}) if zipped else stream(folder / "a.pth", pickled)
    assert watch.opening(path) == set()


@pytest.mark.parametrize("number", range(22))
def test_opening_a_file_that_would_run_something_does_nothing_but_read_it(
    tmp_path: Path, witness: Path, watch: Watch, number: int
) -> None:
    content = harm(witness)[number][1]
    pickled = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)[2:-1]
    for path in both(tmp_path, b"\x80\x02" + pickled + b"."):
        assert watch.opening(path) == set()


def test_the_watch_sees_what_unpickling_does(tmp_path: Path, watch: Watch) -> None:
    watch.events = set()
    pickle.loads(pickle.dumps(Calls(os.getcwd)))
    seen, watch.events = watch.events, None
    assert any(event.startswith("pickle.find_class") for event in seen)


def test_trust_opens_what_only_pickle_can(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"w": torch.ones(1), "x": argparse.Namespace(a=1)})
    opened = open_weights(path, trust=True)
    assert opened.how == "trusted"
    assert opened.content["x"] == argparse.Namespace(a=1)


def test_trust_does_run_what_the_file_asks_for(tmp_path: Path, witness: Path) -> None:
    path = saved(tmp_path / "a.pth", {"w": torch.ones(1), "x": Calls(os.system, f"echo > {witness}")})
    open_weights(path, trust=True)
    assert witness.exists(), "else the tests above would show nothing"
