"""Which weights the command line of nnUNetv2_train names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from nnunetv2.run import run_training

from nnunet_volf.weights.asked import Asked, asked

TASK = ["4", "3d_fullres", "0"]


@pytest.mark.parametrize(
    "program",
    [
        "nnUNetv2_train",
        "/env/bin/nnUNetv2_train",
        "C:\\env\\Scripts\\nnUNetv2_train.exe",
        "C:\\env\\Scripts\\nnUNetv2_train-script.py",
        "/env/lib/nnunetv2/run/run_training.py",
    ],
)
def test_the_file_is_read_from_nnunets_command_wherever_it_is_installed(program: str) -> None:
    assert asked([program, *TASK, "-pretrained_weights", "a b.pth"]) == Asked(Path("a b.pth"))


@pytest.mark.parametrize("program", ["pytest", "python", "", "-c", "/x/nnUNetv2_predict", "/x/my_nnUNetv2_train"])
def test_other_programs_say_nothing(program: str) -> None:
    assert asked([program, *TASK, "-pretrained_weights", "w.pth"]) == Asked()


def test_no_command_line_says_nothing() -> None:
    assert asked([]) == Asked()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([*TASK, "-p", "P", "-tr", "T"], Asked()),
        (["-pretrained_weights", "w.pth", *TASK], Asked(Path("w.pth"))),
        ([*TASK, "-pretrained_weights=w.pth"], Asked(Path("w.pth"))),
        (["-p", "P", *TASK, "-pretrained_weights", "w.pth", "--npz"], Asked(Path("w.pth"))),
        ([*TASK, "--c"], Asked(resume=True)),
        ([*TASK, "--val", "-pretrained_weights", "w.pth"], Asked()),
        ([*TASK, "-some_new_option", "x", "-pretrained_weights", "w.pth"], Asked(Path("w.pth"))),
        ([*TASK, "-pretrained_weights"], Asked()),
    ],
)
def test_the_arguments_are_read_as_nnunet_reads_them(arguments: list[str], expected: Asked) -> None:
    assert asked(["nnUNetv2_train", *arguments]) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        [*TASK],
        [*TASK, "-pretrained_weights", "w.pth"],
        ["-pretrained_weights=w.pth", "-p", "Q", *TASK, "--disable"],
        [*TASK, "--c"],
        [*TASK, "-num", "2", "--val_best"],
    ],
)
def test_nnunets_own_parser_understands_the_same(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "argv", ["nnUNetv2_train", *arguments])
    monkeypatch.setattr(run_training, "run_training", lambda *args, **kwargs: told.extend(args))
    monkeypatch.setattr(run_training.torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(run_training.torch, "set_num_interop_threads", lambda _: None)
    run_training.run_training_entry()
    weights, resume = told[5], told[8]
    assert asked(sys.argv) == Asked(Path(str(weights)) if weights else None, bool(resume))
