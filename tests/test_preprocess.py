"""A dataset of unlabeled scans, preprocessed: what is done once, what again, and what survives a kill."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NnUNetFolders
from deadly_cases import mark_deadly, preprocess_or_die
from test_preprocess_case import SPACING, assert_same_voxels, make_plans, make_volume, nnunets, write_image

from nnunet_volf.augment import Window
from nnunet_volf.case_notes import LOCATIONS_KEY, noted
from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.commands import preprocess as command
from nnunet_volf.errors import DataError, VolFError
from nnunet_volf.plans import PlannedDataset
from nnunet_volf.preprocessing import budget
from nnunet_volf.preprocessing import preprocess as module
from nnunet_volf.preprocessing.imported import ImportedCase, ImportedDataset, imported_dataset
from nnunet_volf.preprocessing.preprocess import PreprocessSummary, preprocess
from nnunet_volf.preprocessing.storage import stored_signature
from nnunet_volf.preprocessing.survey import survey

NAME = "Dataset501_Archive"
TESTS = Path(__file__).parent


def make_dataset(folders: NnUNetFolders, cases: int = 4, **changes: Any) -> tuple[ImportedDataset, PlannedDataset]:
    """A dataset as import and plan leave it, of small scans with air around them."""
    raw = folders.raw / NAME
    (raw / "import").mkdir(parents=True)
    files = folders.raw / "files"
    files.mkdir()
    made = []
    for number in range(cases):
        voxels = make_volume(number, (16 + number % 3, 22, 20))
        path = write_image(files / f"{number}.nii.gz", voxels)
        content = hashlib.blake2b(voxels.tobytes(), digest_size=16).hexdigest()
        made.append(ImportedCase(f"case_{content[:12]}", (path,), content, voxels.shape, SPACING))
    dataset = ImportedDataset(NAME, raw, ("CT",), tuple(made))
    write_dataset(dataset)
    plans = make_plans(**{"spacing": [1.4, 0.9, 0.9], "patch_size": [8, 12, 12], **changes})
    return dataset, write_plans(folders, plans)


def write_dataset(dataset: ImportedDataset) -> None:
    lines = [
        json.dumps({"case": c.name, "content": c.content, "shape": c.shape, "spacing": c.spacing})
        for c in dataset.cases
    ]
    (dataset.folder / "import" / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    images = {c.name: {"images": [str(i) for i in c.images]} for c in dataset.cases}
    (dataset.folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "dataset": images}))


def write_plans(folders: NnUNetFolders, plans: dict[str, Any]) -> PlannedDataset:
    folder = folders.preprocessed / NAME
    folder.mkdir(exist_ok=True)
    plans = {**plans, "plans_name": "VolFPlans"}
    (folder / "VolFPlans.json").write_text(json.dumps(plans))
    return PlannedDataset(NAME, folder, plans)


def run(dataset: ImportedDataset, planned: PlannedDataset, **options: Any) -> PreprocessSummary:
    return preprocess(dataset, planned, "x", **{"workers": 0, "progress": False, **options})


def files(planned: PlannedDataset) -> dict[str, bytes]:
    folder = planned.folder / "nnUNetPlans_x"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def times(planned: PlannedDataset) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (planned.folder / "nnUNetPlans_x").glob("*.b2nd")}


def with_case(dataset: ImportedDataset, index: int, **changes: Any) -> ImportedDataset:
    cases = list(dataset.cases)
    cases[index] = dataclasses.replace(cases[index], **changes)
    return dataclasses.replace(dataset, cases=tuple(cases))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_case_becomes_one_file_with_nnunets_voxels(workers: int, nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    summary = run(dataset, planned, workers=workers)
    assert (summary.written, summary.survey.done, summary.refused, summary.missing) == (4, 0, (), {})
    assert set(files(planned)) == {f"{case.name}.b2nd" for case in dataset.cases}
    assert summary.bytes_written == sum(len(content) for content in files(planned).values())
    assert not list(planned.folder.glob("quarantine*"))
    for case in dataset.cases:
        image = UnlabeledCases(summary.survey.folder, [case.name]).open(case.name)
        expected, _ = nnunets(case.images, planned.plans)
        assert_same_voxels(image.array[:], expected)
        assert image.read(Window((0, 0, 0), (8, 12, 12))).shape == (1, 8, 12, 12)
        locations = np.frombuffer(noted(image.array.schunk, LOCATIONS_KEY), np.uint16).reshape(-1, 3)
        assert len(locations) > 100
        assert (locations < expected.shape[1:]).all()


def test_a_mask_is_stored_only_where_the_plan_normalises_inside_it(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(
        nnunet_folders, 2, normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True]
    )
    run(dataset, planned)
    for case in dataset.cases:
        expected, mask = nnunets(case.images, planned.plans)
        stored = UnlabeledCases(planned.folder / "nnUNetPlans_x", [case.name]).open(case.name)
        assert_same_voxels(stored.array[:], expected)
        import blosc2

        path = planned.folder / "nnUNetPlans_x" / f"{case.name}_seg.b2nd"
        stored_mask = blosc2.open(str(path))
        np.testing.assert_array_equal(stored_mask[:], mask)
        path.unlink()
    assert run(dataset, planned).written == 2, "a case without its mask is not done"
    unmasked = write_plans(nnunet_folders, make_plans(spacing=[1.4, 0.9, 0.9], patch_size=[8, 12, 12]))
    run(dataset, unmasked)
    assert not list((planned.folder / "nnUNetPlans_x").glob("*_seg.b2nd"))


def test_a_second_run_does_nothing(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    run(dataset, planned)
    before = times(planned)
    summary = run(dataset, planned)
    assert (summary.written, summary.survey.done) == (0, 4)
    assert times(planned) == before


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": [2.0, 0.9, 0.9]},
        {"normalization_schemes": ["ZScoreNormalization"]},
        {"resampling_fn_data_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}},
        {"transpose": (1, 0, 2)},
        {"reader": "NibabelIO"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_plan_with_other_voxels_has_everything_done_again(change: Any, nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2)
    run(dataset, planned)
    changed = write_plans(
        nnunet_folders, make_plans(**{"spacing": [1.4, 0.9, 0.9], "patch_size": [8, 12, 12], **change})
    )
    summary = run(dataset, changed)
    assert (summary.written, len(summary.survey.outdated)) == (2, 2)
    stored = UnlabeledCases(planned.folder / "nnUNetPlans_x", [dataset.cases[0].name]).open(dataset.cases[0].name)
    assert_same_voxels(stored.array[:], nnunets(dataset.cases[0].images, changed.plans)[0])


def test_other_statistics_matter_to_ct_normalisation(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2)
    run(dataset, planned)
    plans = json.loads(json.dumps(planned.plans))
    plans["foreground_intensity_properties_per_channel"]["0"]["mean"] += 1
    assert run(dataset, write_plans(nnunet_folders, plans)).written == 2


@pytest.mark.parametrize("change", [{"patch_size": [8, 8, 8]}, {"batch_size": 7}, {"volf": {"epochs": 3}}])
def test_a_plan_with_the_same_voxels_has_nothing_done_again(change: Any, nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2)
    run(dataset, planned)
    plans = json.loads(json.dumps(planned.plans))
    plans["configurations"]["x"].update(change)
    assert run(dataset, write_plans(nnunet_folders, plans)).written == 0


@pytest.mark.parametrize("change", [{"content": "ffff"}, {"spacing": (1.5, 0.8, 0.8)}])
def test_a_changed_input_has_one_case_done_again(change: Any, nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    run(dataset, planned)
    before = times(planned)
    summary = run(with_case(dataset, 1, **change), planned)
    assert (summary.written, summary.survey.done) == (1, 3)
    changed = {name for name, at in times(planned).items() if before[name] != at}
    assert changed == {f"{dataset.cases[1].name}.b2nd"}


def test_a_damaged_file_is_done_again(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    run(dataset, planned)
    whole = files(planned)
    damaged = planned.folder / "nnUNetPlans_x" / f"{dataset.cases[2].name}.b2nd"
    os.truncate(damaged, damaged.stat().st_size // 2)
    assert run(dataset, planned).written == 1
    assert files(planned) == whole


def test_a_case_that_left_the_dataset_leaves_the_folder(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    run(dataset, planned)
    fewer = dataclasses.replace(dataset, cases=dataset.cases[1:])
    summary = run(fewer, planned)
    assert summary.survey.strays == (dataset.cases[0].name,)
    assert set(files(planned)) == {f"{case.name}.b2nd" for case in dataset.cases[1:]}


def damage(dataset: ImportedDataset, index: int) -> Path:
    image = dataset.cases[index].images[0]
    image.write_bytes(image.read_bytes()[:200])
    return image


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_case_is_quarantined_and_the_rest_goes_on(workers: int, nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    image = damage(dataset, 1)
    summary = run(dataset, planned, workers=workers)
    assert (summary.written, len(summary.refused), summary.missing) == (3, 1, {})
    with (planned.folder / "quarantine_nnUNetPlans_x.csv").open(newline="") as table:
        (line,) = csv.DictReader(table)
    assert line["item"] == f"{dataset.cases[1].name} ({image})"
    assert line["stage"] == "preprocess"
    assert line["kind"]
    assert line["advice"]
    assert str(image) not in line["reason"] + line["advice"]

    write_image(image, make_volume(1, dataset.cases[1].shape))
    assert run(dataset, planned).written == 1
    assert not list(planned.folder.glob("quarantine*"))


@pytest.mark.skipif(os.name == "nt", reason="signals are sent as POSIX has them")
def test_a_case_whose_worker_the_kernel_kills_is_named_with_its_memory_and_what_to_change(
    nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_preprocess", preprocess_or_die)
    dataset, planned = make_dataset(nnunet_folders)
    mark_deadly(dataset.cases[2].images[0])
    summary = run(dataset, planned, workers=2, memory=2 * 10**9)
    assert (summary.written, len(summary.refused)) == (3, 1)
    with (planned.folder / "quarantine_nnUNetPlans_x.csv").open(newline="") as table:
        (line,) = csv.DictReader(table)
    assert line["item"].split(" ")[0] == dataset.cases[2].name
    assert (line["kind"], line["reason"]) == (
        "worker",
        "Its worker process ended with exit code -9, twice, the second time with nothing else running. It was "
        "estimated to need 0.3 GB, of 2.0 GB for all workers together.",
    )
    assert line["advice"].startswith("Most often the system ended it for want of memory. Close other programs, raise ")
    assert line["advice"].endswith("let fewer run at once: -np, or --memory when preprocessing.")


def test_a_case_that_is_refused_now_does_not_stay_as_it_was(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    run(dataset, planned)
    damage(dataset, 1)
    run(with_case(dataset, 1, content="ffff"), planned)
    assert f"{dataset.cases[1].name}.b2nd" not in files(planned)


def test_a_run_that_refuses_most_cases_stops_and_says_why(
    nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    monkeypatch.setattr(module, "FEWEST_DONE", 2)
    for index in (0, 1, 2, 3):
        damage(dataset, index)
    with pytest.raises(
        DataError, match=r"2 of the first 2 cases were refused, more than 50%; most often \(2\) as "
    ) as told:
        run(dataset, planned)
    table = planned.folder / "quarantine_nnUNetPlans_x.csv"
    assert f"All are listed in {table}. What is done stays done." in str(told.value)
    assert len(table.read_text().splitlines()) == 3


def test_few_refusals_do_not_stop_a_run(nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    monkeypatch.setattr(module, "FEWEST_DONE", 2)
    damage(dataset, sorted(range(4), key=lambda i: dataset.cases[i].name)[3])
    assert len(run(dataset, planned, most_refused=0.25).refused) == 1


def test_parts_share_the_cases_and_the_last_knows_that_all_are_there(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 5)
    damage(dataset, 0)
    first = run(dataset, planned, part=(0, 2))
    assert first.missing == {1: 2}
    assert not first.complete
    second = run(dataset, planned, part=(1, 2))
    assert second.complete
    assert first.written + second.written == 4
    whole = files(planned)
    run(dataset, planned)
    assert files(planned) == whole


def test_what_another_configuration_refused_is_missing_all_the_same(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2)
    second = sorted(case.name for case in dataset.cases)[1]
    other = planned.folder / "quarantine_nnUNetPlans_x_large.csv"
    other.write_text(f"item,stage,kind,reason,advice\n{second} (a.nii),preprocess,error,,\n")
    assert run(dataset, planned, part=(0, 2)).missing == {1: 1}


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_does_not_exist_is_named(part: tuple[int, int], nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 1)
    with pytest.raises(DataError, match=f"Part {part[0]}/{part[1]} does not exist"):
        run(dataset, planned, part=part)


def test_a_folder_of_nnunets_is_left_alone(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 1)
    folder = planned.folder / "nnUNetPlans_x"
    folder.mkdir()
    for name in ("liver_0.b2nd", "liver_0.pkl", "liver_0_seg.b2nd"):
        (folder / name).write_bytes(b"labelled")
    before = files(planned)
    with pytest.raises(
        DataError, match=r"holds 3 files, among them liver_0\.b2nd, which nnunet-volf preprocess did not"
    ):
        run(dataset, planned)
    assert files(planned) == before
    for name in ("liver_0.b2nd", "liver_0_seg.b2nd"):
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"holds 1 files, among them liver_0\.pkl"):
        run(dataset, planned)


def test_plans_for_other_channels_are_refused(nnunet_folders: NnUNetFolders) -> None:
    dataset, _ = make_dataset(nnunet_folders, 1)
    planned = write_plans(nnunet_folders, make_plans(2))
    with pytest.raises(DataError, match=r"has 1 channels \(CT\), its plans VolFPlans are for 2"):
        run(dataset, planned)


def test_a_disk_that_is_too_small_is_told_before_the_start(
    nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    found = survey(dataset, planned, "x")
    voxels = sum(np.prod(nnunets(case.images, planned.plans)[0].shape) for case in dataset.cases)
    assert 4 * voxels < found.disk < 8 * voxels, "an upper bound, as crops make cases smaller"
    usage = type("Usage", (), {"free": found.disk - 1})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(
        DataError, match=r"4 cases need up to 0\.0 GB in .*nnUNetPlans_x, where 0\.0 GB are free\..*float16"
    ) as told:
        run(dataset, planned)
    assert "--ignore-disk" in str(told.value)
    assert not (planned.folder / "nnUNetPlans_x").exists()
    assert run(dataset, planned, check_disk=False).written == 4
    assert run(dataset, planned).written == 0


def test_a_disk_that_is_just_large_enough_is_enough(
    nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2)
    usage = type("Usage", (), {"free": survey(dataset, planned, "x").disk})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _folder: usage)
    assert run(dataset, planned).written == 2


def test_float16_is_half_of_the_disk_and_is_trained_on_as_float32(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2, spacing=[0.7, 0.4, 0.4])
    full = run(dataset, planned)
    half = run(dataset, planned, dtype="float16")
    assert half.written == 2, "another dtype is another file"
    assert half.survey.disk * 2 == full.survey.disk
    assert half.bytes_written < 0.7 * full.bytes_written
    case = dataset.cases[0]
    image = UnlabeledCases(half.survey.folder, [case.name]).open(case.name)
    crop = image.read(Window((2, 2, 2), (8, 12, 12))).numpy()
    exact = nnunets(case.images, planned.plans)[0][:, 2:10, 2:14, 2:14]
    assert crop.dtype == np.float32
    np.testing.assert_allclose(crop, exact, rtol=2**-11, atol=2**-24)
    assert not np.array_equal(crop, exact)


def test_only_what_fits_into_memory_runs_at_once_and_everything_gets_done(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    assert run(dataset, planned, workers=2, memory=1).written == 4


def test_a_fifth_of_the_free_memory_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_memory", lambda: 1000)
    assert budget.memory_to_use() == 800
    monkeypatch.setattr(budget, "available_memory", lambda: None)
    assert budget.memory_to_use() is None


def test_masks_and_resampling_of_others_need_more_memory() -> None:
    whole, small, masked, others = (
        budget.memory_needed((100, 100, 100), target, 1, make_plans(**changes)["configurations"]["x"])
        for target, changes in (
            ((120, 100, 100), {}),
            ((100, 100, 100), {}),
            ((120, 100, 100), {"use_mask_for_norm": [True]}),
            ((120, 100, 100), {"resampling_fn_data": "resample_of_a_user"}),
        )
    )
    assert small < whole < masked
    assert whole < others


_AGAIN = """
import sys
from nnunet_volf.plans import planned_dataset
from nnunet_volf.preprocessing.imported import imported_dataset
from nnunet_volf.preprocessing.preprocess import preprocess
if __name__ == "__main__":
    print("started", flush=True)
    part = tuple(int(number) for number in sys.argv[1].split("/"))
    dataset, planned = imported_dataset("501"), planned_dataset("501", "VolFPlans")
    summary = preprocess(dataset, planned, "x", workers=int(sys.argv[2]), part=part, progress=False)
    print("written", summary.written)
"""


def start(folder: Path, part: str = "0/1", workers: int = 0) -> subprocess.Popen[str]:
    script = folder / "again.py"
    script.write_text(_AGAIN)
    return subprocess.Popen([sys.executable, str(script), part, str(workers)], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("kills", [3, pytest.param(15, marks=[pytest.mark.weekly, pytest.mark.timeout(900)])])
def test_killed_at_random_moments_and_run_again_gives_the_same_files(
    kills: int, nnunet_folders: NnUNetFolders, tmp_path: Path
) -> None:
    dataset, planned = make_dataset(nnunet_folders, 4 * kills)
    run(dataset, planned)
    undisturbed = files(planned)
    for name in undisturbed:
        (planned.folder / "nnUNetPlans_x" / name).unlink()
    moments = random.Random(5)
    for kill in range(kills):
        process = start(tmp_path, workers=kill % 2)
        assert process.stdout.readline() == "started\n"
        # After some cases of this attempt, a random moment later: while the next one is read, written or moved.
        wanted, deadline = 1 + 3 * kill, time.monotonic() + 30
        while len(list((planned.folder / "nnUNetPlans_x").glob("*.b2nd"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.04))
        process.kill()
        process.communicate()
        for name, content in files(planned).items():
            assert content == undisturbed[name], "a file that is there is whole"
    summary = run(dataset, planned)
    assert summary.survey.outdated == ()
    assert files(planned) == undisturbed


def test_parts_that_run_at_the_same_time_do_not_disturb_each_other(
    nnunet_folders: NnUNetFolders, tmp_path: Path
) -> None:
    dataset, planned = make_dataset(nnunet_folders, 8)
    run(dataset, planned)
    undisturbed = files(planned)
    for name in undisturbed:
        (planned.folder / "nnUNetPlans_x" / name).unlink()
    processes = [start(tmp_path, part) for part in ("0/2", "1/2")]
    for process in processes:
        process.communicate(timeout=200)
        assert process.returncode == 0
    assert files(planned) == undisturbed
    assert not list(planned.folder.glob("quarantine*"))


def command_line(*arguments: str) -> int:
    parser = ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def test_the_command_says_what_it_will_do_what_it_did_and_what_is_next(
    nnunet_folders: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, planned = make_dataset(nnunet_folders)
    damage(dataset, 0)
    assert command_line("-d", "501", "-c", "x", "-np", "0", "--memory", "2") == 0
    text = capsys.readouterr().out
    assert f"{NAME}, x -> {planned.folder / 'nnUNetPlans_x'}" in text
    assert "cases   4 to do, 0 done before\n" in text
    assert "disk    at most 0.00 GB as float32" in text
    assert "workers 0 (-np), within 2.0 GB of memory; the largest case needs about 0.3\n" in text
    assert "wrote 3 cases, 0.00 GB, in " in text
    stages = r"read \d+%, crop and normalise \d+%, resample \d+%, find tissue \d+%, compress and write \d+%, read back"
    assert re.search(rf"\ntime    {stages} \d+%\n", text)
    assert f"refused 1, listed in {planned.folder / 'quarantine_nnUNetPlans_x.csv'}" in text
    assert f"  {dataset.cases[0].name}: " in text
    assert text.endswith("next: nnUNetv2_train 501 x all -p VolFPlans -tr nnUNetTrainerVolF\n")


def test_stages_are_counted_in_workers_too(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2)
    alone, workers = run(dataset, planned), run(dataset, planned, dtype="float16", workers=1)
    assert list(alone.stages) == list(workers.stages)
    assert sum(workers.stages.values()) == pytest.approx(1)
    assert run(dataset, planned, dtype="float16").stages == {}


def test_a_run_that_finds_everything_done_loads_neither_torch_nor_nnunet(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2)
    run(dataset, planned)
    code = (
        "import sys; from nnunet_volf.cli import main; main(['preprocess', '-d', '501', '-c', 'x', '-np', '2']); "
        "print(sorted({'torch', 'nnunetv2', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cases   0 to do, 2 done before" in done.stdout
    assert done.stdout.endswith("[]\n"), done.stdout


def test_the_command_names_the_parts_that_are_missing(
    nnunet_folders: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(nnunet_folders, 5)
    assert command_line("-d", "501", "-c", "x", "-np", "0", "--part", "1/3") == 0
    text = capsys.readouterr().out
    assert "cases   2 to do, 0 done before (part 1/3 of 5)\n" in text
    assert text.endswith("next: the other parts, on this or another machine: 0/3 (2 cases), 2/3 (1 cases)\n")


def test_the_command_fails_when_nothing_is_there_in_the_end(nnunet_folders: NnUNetFolders) -> None:
    dataset, _ = make_dataset(nnunet_folders, 2)
    for index in (0, 1):
        damage(dataset, index)
    with pytest.raises(DataError, match=f"Not one case of {NAME} could be preprocessed") as told:
        command_line("-d", "501", "-c", "x", "-np", "0")
    assert "quarantine_nnUNetPlans_x.csv" in str(told.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "1"], r"--part is '1'; it is written I/N"),
        (["--part", "4/4"], r"Part 4/4 does not exist\. The parts of 4 are 0/4 to 3/4"),
        (["-np", "-1"], r"-np is -1; it is the number of worker processes"),
        (["-c", "y"], r"VolFPlans of Dataset501_Archive has no configuration 'y'"),
    ],
)
def test_wrong_arguments_are_told(arguments: Sequence[str], message: str, nnunet_folders: NnUNetFolders) -> None:
    make_dataset(nnunet_folders, 1)
    with pytest.raises(VolFError, match=message):
        command_line("-d", "501", "-c", "x", "-np", "0", *arguments)


def test_the_manifest_of_the_tests_is_the_importers(nnunet_folders: NnUNetFolders) -> None:
    dataset, planned = make_dataset(nnunet_folders, 2)
    assert imported_dataset("501") == dataset
    run(dataset, planned)
    assert stored_signature(planned.folder / "nnUNetPlans_x", dataset.cases[0].name)["content"]
