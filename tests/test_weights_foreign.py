"""What is given as weights and is something else is named, with what to do."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from malicious import saved
from weights_opening import WEIGHTS, problem

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


def test_a_file_that_may_not_be_read_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.pth", WEIGHTS)

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbidden)
    assert problem(path) == f"{path} can not be read: Permission denied."
