"""The demo: what it starts from, which commands it runs, how it goes on, and one quick run of everything."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunet_volf import demo
from nnunet_volf.anatomy import class_names
from nnunet_volf.cli import main, parser
from nnunet_volf.commands import demo as command
from nnunet_volf.console import arguments_of
from nnunet_volf.demo_data import case_names, write_archive, write_labelled
from nnunet_volf.errors import VolFError
from nnunet_volf.files import read_json


def test_the_labelled_dataset_is_one_that_nnunet_takes(tmp_path: Path) -> None:
    write_labelled(tmp_path, cases=3)
    description = read_json(tmp_path / "dataset.json")
    assert description["numTraining"] == 3
    assert description["labels"] == class_names(3)
    for name in case_names(3):
        image = SimpleITK.ReadImage(str(tmp_path / "imagesTr" / f"{name}_0000.nii.gz"))
        labels = SimpleITK.ReadImage(str(tmp_path / "labelsTr" / f"{name}.nii.gz"))
        assert image.GetSize() == labels.GetSize()
        assert image.GetSpacing() == labels.GetSpacing()
        assert image.GetSpacing()[2] > image.GetSpacing()[0]
        assert set(np.unique(SimpleITK.GetArrayFromImage(labels))) == {0, 1, 2, 3}


def test_the_archive_has_three_formats_a_copy_and_a_file_that_is_no_scan(tmp_path: Path) -> None:
    write_labelled(tmp_path / "labelled", cases=2)
    write_archive(tmp_path / "archive", scans=6, labelled=tmp_path / "labelled")
    names = sorted(path.name for path in (tmp_path / "archive").iterdir())
    assert sum(name.startswith("scan_") for name in names) == 6
    assert {"".join(Path(name).suffixes) for name in names if name.startswith("scan_")} == {".nii.gz", ".nrrd", ".mha"}
    copy = (tmp_path / "archive" / "copy_of_a_labelled_scan.nii.gz").read_bytes()
    assert copy == (tmp_path / "labelled" / "imagesTr" / "case_000_0000.nii.gz").read_bytes()
    broken = tmp_path / "archive" / "broken.nii.gz"
    with pytest.raises(RuntimeError, match="broken"):
        SimpleITK.ReadImage(str(broken))


def test_scans_without_labels_are_others_than_those_with(tmp_path: Path) -> None:
    write_labelled(tmp_path / "labelled", cases=2)
    write_archive(tmp_path / "archive", scans=3, labelled=tmp_path / "labelled")
    paths = [*(tmp_path / "labelled" / "imagesTr").iterdir(), *(tmp_path / "archive").glob("scan_*")]
    voxels = {SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).tobytes() for path in paths}
    assert len(voxels) == len(paths) == 5


@pytest.mark.parametrize("amount", [demo.FULL, demo.QUICK])
def test_every_command_of_the_demo_is_one_that_is_installed_and_takes_its_arguments(
    amount: demo.Amount, tmp_path: Path
) -> None:
    stages = demo.stages(amount, tmp_path, processes=2)
    assert [stage.name for stage in stages] == list(amount.seconds)
    commands = [command for stage in stages for command in stage.commands]
    assert len(commands) >= 3
    for typed in commands:
        arguments_of(typed)
        if typed[0] == "nnunet-volf":
            assert parser().parse_args(typed[1:]).run


def test_the_fine_tuning_is_the_command_that_pretraining_prints_but_for_its_plans_and_the_cpu(tmp_path: Path) -> None:
    (stage,) = [stage for stage in demo.stages(demo.FULL, tmp_path, 2) if stage.name == "fine-tune"]
    settings, train = stage.commands
    assert settings[settings.index("--as") + 1] == train[train.index("-p") + 1] == "DemoPlans"
    assert train[:4] == ("nnUNetv2_train", "901", "3d_fullres", "0")
    assert train[train.index("-tr") + 1] == "nnUNetTrainerVolFFineTune"
    assert train[train.index("-pretrained_weights") + 1] == str(demo.pretrained_weights(tmp_path))
    assert train[-2:] == ("-device", "cpu")


def test_only_the_children_see_the_demos_folders(tmp_path: Path) -> None:
    base = {"nnUNet_raw": "mine", "PATH": "here", "nnUNet_n_proc_DA": "12"}
    environment = demo.environment(tmp_path, base)
    assert base["nnUNet_raw"] == "mine"
    assert environment["PATH"] == "here"
    assert environment["nnUNet_raw"] == str(tmp_path / "raw")
    assert environment["nnUNet_results"] == str(tmp_path / "results")


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    assert main(["demo", "--folder", str(tmp_path)]) == 2
    assert f"{tmp_path} is there and is no folder of a demo. Choose a new one with --folder." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(VolFError, match=r"thesis\.tex is there and is no folder of a demo"):
        demo.open_folder(tmp_path / "thesis.tex", quick=False)


def test_a_quick_demo_is_not_gone_on_with_as_a_full_one(tmp_path: Path) -> None:
    demo.open_folder(tmp_path / "demo", quick=True)
    with pytest.raises(VolFError, match="was run with --quick"):
        demo.open_folder(tmp_path / "demo", quick=False)


def test_the_time_left_is_guessed_from_the_pace_of_this_machine() -> None:
    amount = replace(demo.QUICK, seconds={"data": 2, "plan": 10, "pretrain": 30})
    assert demo.seconds_left(amount, {}, ["data", "plan", "pretrain"]) == 42
    assert 30 < demo.seconds_left(amount, {"data": 4.0}, ["pretrain"]) < 35
    assert demo.seconds_left(amount, {"data": 20.0, "plan": 84.0}, ["pretrain"]) == pytest.approx(30 * 124 / 32)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that were run, which do nothing here."""
    commands: list[str] = []

    def run_command(typed: tuple[str, ...], environment: dict[str, str]) -> int:
        commands.append(" ".join(typed[:2]))
        return 0

    def make_small(folder: Path, amount: demo.Amount) -> None:
        commands.append("small")

    monkeypatch.setattr(command, "run_command", run_command)
    monkeypatch.setattr(demo, "_make_small", make_small)
    return commands


def test_what_is_done_is_not_done_again(tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["demo", "--quick", "--folder", str(tmp_path / "demo")]
    assert main(arguments) == 0
    assert ran == ["nnUNetv2_plan_and_preprocess -d", "small", "nnunet-volf pretrain", "nnunet-volf benchmark"]
    capsys.readouterr()
    assert main(arguments) == 0
    assert len(ran) == 4
    said = capsys.readouterr().out
    assert said.count("done before") == 4
    assert f"report: {tmp_path / 'demo' / 'benchmark' / 'report.html'}" in said
    assert re.findall("^next: nnunet-volf (.*)", said, flags=re.MULTILINE)[-1].startswith("benchmark YOUR_DATASET")


def test_a_command_that_fails_stops_the_demo_which_goes_on_from_there(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--quick", "--folder", str(tmp_path / "demo")]
    works = command.run_command
    monkeypatch.setattr(command, "run_command", lambda typed, env: 75 if "pretrain" in typed else works(typed, env))
    assert main(arguments) == 75
    said = capsys.readouterr().out
    assert "the last command ended with code 75" in said
    assert f"next: nnunet-volf demo --folder {tmp_path / 'demo'} --quick" in said
    monkeypatch.setattr(command, "run_command", works)
    ran.clear()
    assert main(arguments) == 0
    assert ran == ["nnunet-volf pretrain", "nnunet-volf benchmark"]


def test_the_report_is_opened_where_that_is_asked_for(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(command.webbrowser, "open", opened.append)
    assert main(["demo", "--quick", "--folder", str(tmp_path / "demo")]) == 0
    assert opened == []
    assert main(["demo", "--quick", "--folder", str(tmp_path / "demo"), "--open"]) == 0
    assert opened == [(tmp_path / "demo" / "benchmark" / "report.html").as_uri()]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_quick_demo_ends_with_a_report(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    if "nnUNet_extTrainer" in os.environ:  # torch before 2.5 finds our trainers in no other way
        environment["nnUNet_extTrainer"] = os.environ["nnUNet_extTrainer"]
    done = subprocess.run(
        [*arguments_of(["nnunet-volf", "demo"]), "--quick", "--folder", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = Path(re.findall(r"^report: (.*)$", done.stdout, flags=re.MULTILINE)[-1])
    assert "scratch" in report.read_text(encoding="utf-8")
    weights = Path(re.findall(r"^pretrained: (.*)$", done.stdout, flags=re.MULTILINE)[-1])
    assert weights.is_file()
    assert weights == demo.pretrained_weights(tmp_path / "demo")
    assert list(demo.open_folder(tmp_path / "demo", quick=True)) == ["data", "plan", "pretrain", "benchmark"]
    archive = json.loads((tmp_path / "demo" / "raw" / demo.ARCHIVE / "dataset.json").read_text(encoding="utf-8"))
    assert archive["numTraining"] == demo.QUICK.scans  # neither the broken file nor the copy of a labelled scan
