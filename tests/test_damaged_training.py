"""Real trainings on cases that are damaged before or while they run, and the way back to sound ones."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
import torch
from conftest import NnUNetFolders
from damage import damage
from processes import forked_by, wait_until
from training import (
    DATASET,
    FEW_STEPS,
    FINE_TUNER,
    TRAINER,
    change_plans,
    make_trainer,
    run_nnunet,
    run_until,
    weights_of,
    with_fine_tuning,
    with_settings,
)
from two_processes import torchrun
from unlabeled import NAME, NUMBER, import_scans, write_scans

from nnunet_volf.cases import is_sound
from nnunet_volf.cli import main
from nnunet_volf.damaged_cases import TABLE, read_table

pytestmark = pytest.mark.usefixtures("no_curves")


@pytest.fixture
def archive(phantoms: NnUNetFolders, tmp_path: Path) -> Path:
    """Eight scans without labels, preprocessed; return their folder."""
    write_scans(tmp_path / "scans", 8)
    import_scans(tmp_path / "scans", "--for", "901")
    assert main(["plan", "-d", str(NUMBER), "--for", "901"]) == 0
    assert main(["preprocess", "-d", str(NUMBER), "-np", "0"]) == 0
    return phantoms.preprocessed / NAME / "VolFPlans_3d_fullres"


def with_steps(**settings: Any) -> None:
    def change(plans: dict[str, Any]) -> None:
        plans["configurations"]["3d_fullres"]["volf"] = {**FEW_STEPS, **settings}

    change_plans(change, "VolFPlans", "VolFPlans", NAME)


def fold_folder(results: Path) -> Path:
    return results / NAME / f"{TRAINER}__VolFPlans__3d_fullres" / "fold_all"


def train(*arguments: str, workers: int = 2) -> subprocess.CompletedProcess[str]:
    words = [str(NUMBER), "3d_fullres", "all", "-p", "VolFPlans", "-tr", TRAINER, "-device", "cpu"]
    return run_nnunet("nnUNetv2_train", *words, *arguments, nnUNet_n_proc_DA=str(workers))


def test_a_training_goes_on_and_preprocess_does_again_what_it_has_noted(
    phantoms: NnUNetFolders, archive: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second, *others = sorted(archive.glob("*.b2nd"))
    damage(first, "empty")
    damage(second, "most of it zeroed")
    with_steps(damaged_limit=0.3, augment_on="device", partner="other", iterations=10)
    done = train()
    assert done.returncode == 0, done.stdout + done.stderr

    log = next(fold_folder(phantoms.results).glob("training_log*")).read_text()
    repair = f"nnunet-volf preprocess -d {NUMBER} -p VolFPlans -c 3d_fullres"
    assert re.search(rf"WARNING: case {first.stem} is damaged .*{first} cannot be opened .*: {repair}", log)
    assert f"Damaged: {len(read_table(fold_folder(phantoms.results) / TABLE))} of 8 training cases are left out" in log
    summary = json.loads((fold_folder(phantoms.results) / "pretraining_summary.json").read_text())
    assert summary["damaged_cases"] == len(read_table(fold_folder(phantoms.results) / TABLE)) == 2
    assert summary["data"]["cases"] in (6, 7)  # the second is met by chance, before or after they are counted

    times = {path: path.stat().st_mtime_ns for path in others}
    capfd.readouterr()
    assert main([*shlex.split(repair)[1:], "-np", "0"]) == 0
    assert "2 to do, 6 done before" in capfd.readouterr().out
    assert is_sound(archive, first.stem)
    assert is_sound(archive, second.stem)
    assert {path: path.stat().st_mtime_ns for path in others} == times
    assert main([*shlex.split(repair)[1:], "-np", "0"]) == 0
    assert "0 to do, 8 done before" in capfd.readouterr().out


@pytest.mark.slow
def test_over_the_limit_it_stops_names_cases_and_goes_on_when_they_are_mended(
    phantoms: NnUNetFolders, archive: Path
) -> None:
    kept = {path: path.read_bytes() for path in sorted(archive.glob("*.b2nd"))[:2]}
    for path in kept:
        damage(path, "empty")
    with_steps(iterations=2)
    done = train()
    assert done.returncode != 0
    names = ", ".join(path.stem for path in kept)
    assert f"2 of 8 cases are damaged: {names}. With damaged_limit=0.05 a training goes on without 1 of them." in (
        done.stdout + done.stderr
    )
    for path, content in kept.items():
        path.write_bytes(content)
    done = train("--c")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (fold_folder(phantoms.results) / TABLE).exists()


def test_resumed_with_damaged_cases_it_ends_in_the_same_weights(phantoms: NnUNetFolders) -> None:
    """One case cannot be opened, and another is damaged in a corner, so that it is found by chance."""
    folder = phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres"
    damage(folder / "case_001.b2nd", "empty")
    blosc2.open(str(folder / "case_002.b2nd"), mode="a")[:, :6, :8, :8] = np.inf
    weights = []
    for name, stops in (("Whole", []), ("Stopped", [1, 4, 7])):
        plans = with_settings(name, epochs=3, iterations=4, damaged_limit=0.5, crops="anywhere")
        for number, stop in enumerate([*stops, None]):
            trainer = make_trainer(plans, fold="all", resume=number > 0)
            if stop is None:
                run_until(trainer)
            else:
                with pytest.raises(SystemExit):
                    run_until(trainer, stop)
        trainer.perform_actual_validation()
        assert {damaged.case for damaged in read_table(Path(trainer.output_folder) / TABLE)} == {"case_001", "case_002"}
        weights.append(weights_of(Path(trainer.output_folder) / "checkpoint_final.pth"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.slow
def test_two_processes_share_what_they_find(phantoms: NnUNetFolders) -> None:
    folder = phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres"
    plans = with_settings(damaged_limit=0.5, iterations=10)
    damage(folder / "case_001.b2nd", "empty")
    process = torchrun("-tr", TRAINER, "-p", plans)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert said.count("WARNING: case case_001 is damaged") == 1
    (table,) = phantoms.results.rglob(TABLE)
    assert [damaged.case for damaged in read_table(table)] == ["case_001"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="SIGBUS where a mapped file ends early")
def test_a_file_that_is_cut_while_it_is_read_is_named_and_c_goes_on(phantoms: NnUNetFolders, archive: Path) -> None:
    """Such a read ends the process, so the training stops; the file cannot be opened when it is started again."""
    with_steps(epochs=1, iterations=100000)
    words = [str(NUMBER), "3d_fullres", "all", "-p", "VolFPlans", "-tr", TRAINER, "-device", "cpu"]
    program = "from nnunetv2.run.run_training import run_training_entry; run_training_entry()"
    log = archive.parent / "said.txt"
    with log.open("wb") as file:
        running = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            env={**os.environ, "nnUNet_n_proc_DA": "2", "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            assert wait_until(lambda: "Epoch 0" in log.read_text(), 120)
            worker, *_ = forked_by(running.pid)
            damage(sorted(archive.glob("*.b2nd"))[0], "cut to a tenth")
            os.kill(worker, signal.SIGBUS)
            assert running.wait(120) != 0
        finally:
            running.kill()
            running.wait()
    assert "these cases cannot be opened any more" in log.read_text()


def test_a_damaged_labelled_case_stops_fine_tuning_and_is_named(phantoms: NnUNetFolders) -> None:
    folder = phantoms.preprocessed / DATASET / "nnUNetPlans_3d_fullres"
    trainer = make_trainer(with_fine_tuning(), FINE_TUNER)
    training, _ = trainer.do_split() if trainer.was_initialized else (trainer.initialize(), trainer.do_split())[1]
    for case in training:
        damage(folder / f"{case}_seg.b2nd", "cut by a thousandth")
    done = run_nnunet(
        "nnUNetv2_train", DATASET, "3d_fullres", "0", "-p", "Fine", "-tr", FINE_TUNER, "-device", "cpu",
        nnUNet_n_proc_DA="2",
    )  # fmt: skip
    assert done.returncode != 0
    assert (
        f"A labelled case is damaged, and training without it would not be the same: case {training[0]}: "
        in done.stderr
    )
    assert "nnUNetv2_preprocess -d 901 -plans_name Fine -c 3d_fullres; then continue with --c." in done.stderr
