"""The scripts that write the tasks of docs/benchmarks.md, and plans for them that a CPU trains."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK
from conftest import NnUNetFolders

from nnunet_volf.pretext.catalogue import METHODS, load_settings

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


def run_script(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    module = importlib.import_module(name)
    module.main()
    return module


def read(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def split_of(folders: NnUNetFolders, dataset: str) -> tuple[list[str], list[str]]:
    [fold] = json.loads((folders.preprocessed / dataset / "splits_final.json").read_text())
    return fold["train"], fold["val"]


def test_ten_structures_are_written_and_no_body_twice(
    nnunet_folders: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = tmp_path / "trunks"
    options = ("--training", 2, "--test", 1, "--pool", 2, "--folder", pool)
    script = run_script("ten_structures", monkeypatch, *options)
    raw = nnunet_folders.raw / "Dataset007_TenStructures"
    assert "next: nnUNetv2_plan_and_preprocess -d 7 -c 3d_fullres" in capsys.readouterr().out
    assert split_of(nnunet_folders, raw.name) == (["trunk_0000", "trunk_0001"], ["trunk_0002"])
    description = json.loads((raw / "dataset.json").read_text())
    assert sorted(description["labels"].values()) == list(range(11))
    for label_map in (raw / "labelsTr").iterdir():
        assert set(np.unique(read(label_map))) == set(range(11))
    images = [read(path) for path in [*(raw / "imagesTr").iterdir(), *pool.iterdir()]]
    assert {image.shape for image in images} == {script.SHAPE}
    assert len({image.tobytes() for image in images}) == 5


def test_the_hippocampus_task_is_found_in_any_layout_and_its_parts_share_no_case(
    nnunet_folders: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = json.loads((SCRIPTS / "hippocampus.json").read_text())
    assert [len(chosen[part]) for part in ("pool", "train", "test")] == [80, 20, 40]
    assert len({number for numbers in chosen.values() for number in numbers}) == 140
    source = tmp_path / "Task04_Hippocampus"
    for folder in ("imagesTr", "labelsTr"):
        (source / folder).mkdir(parents=True)
        for number in {number for numbers in chosen.values() for number in numbers}:
            (source / folder / f"hippocampus_{number}.nii.gz").write_text(f"{folder} {number}")
    run_script("hippocampus", monkeypatch, source, "--pool", tmp_path / "pool")
    raw = nnunet_folders.raw / "Dataset006_Hippocampus"
    training, test = split_of(nnunet_folders, raw.name)
    assert (len(training), len(test)) == (20, 40)
    number = chosen["test"][0]
    assert (raw / "imagesTr" / f"hippocampus_{number}_0000.nii.gz").read_text() == f"imagesTr {number}"
    assert (raw / "labelsTr" / f"hippocampus_{number}.nii.gz").read_text() == f"labelsTr {number}"
    assert len(list((tmp_path / "pool").iterdir())) == 80
    run_script("hippocampus", monkeypatch, source, "--pool", tmp_path / "pool", "--training", 24)
    longer, shorter = split_of(nnunet_folders, raw.name)
    assert longer + shorter == training + test
    assert len(longer) == 24
    with pytest.raises(SystemExit):
        run_script("hippocampus", monkeypatch, source, "--training", 60)
    assert "--training 60: give 20 to 59." in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted((SCRIPTS / "recipe").glob("*.json")), ids=lambda file: file.name)
def test_every_variant_of_the_search_has_settings_that_hold(file: Path) -> None:
    variants = json.loads(file.read_text())
    for one in variants.values():
        load_settings(METHODS[one["pretext"]]).from_mapping(one.get("set", {}))
    assert len(variants) > 1


def test_small_plans_change_the_network_and_nothing_else(
    phantoms: NnUNetFolders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_script("small_plans", monkeypatch, "901", "--batch", 3)
    (folder,) = phantoms.preprocessed.iterdir()
    before, after = (json.loads((folder / f"{name}.json").read_text()) for name in ("nnUNetPlans", "Small"))
    old, new = (plans["configurations"]["3d_fullres"] for plans in (before, after))
    widths = old["architecture"]["arch_kwargs"].pop("features_per_stage")
    assert new["architecture"]["arch_kwargs"].pop("features_per_stage") == [width // 2 for width in widths]
    assert new.pop("batch_size") == 3
    old.pop("batch_size")
    assert after.pop("plans_name") == "Small"
    before.pop("plans_name")
    assert after == before
    with pytest.raises(SystemExit):
        run_script("small_plans", monkeypatch, "901", "--features", 4)
    assert "one for each stage" in capsys.readouterr().err


def test_variants_of_a_pretext_get_plans_and_settings_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    # By its file: the tests have a module of that name, too.
    found = importlib.util.spec_from_file_location("pretexts_side_by_side", SCRIPTS / "pretexts.py")
    script = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, found.name, script)
    found.loader.exec_module(script)
    file = tmp_path / "variants.json"
    file.write_text('{"large": {"pretext": "volf", "steps": 50, "set": {"size_fraction": [0.25, 0.5]}}, '
                    '"masked": {"pretext": "mae"}}')  # fmt: skip
    typed: list[tuple[str, ...]] = []

    def run(*command: str) -> list[str]:
        typed.append(command)
        return [f"pretrained: {tmp_path / command[command.index('--as') + 1]}.pth"] if command[0] == "pretrain" else []

    monkeypatch.setattr(script, "run", run)
    options = ["--pool", "scans", "--for", "4", "--variants", str(file), "--steps", "100", "--no-benchmark"]
    shared = ["--set", "optimizer=adamw", "mae.masked=0.5", "volf.coefficients=2"]
    monkeypatch.setattr(sys, "argv", ["pretexts.py", *options, *shared])
    script.main()
    large, masked = (" ".join(words) for words in typed)
    assert "--as VolFPlans_large --pretext volf" in large
    assert large.endswith("--set epochs=1 iterations=50 optimizer=adamw coefficients=2 size_fraction=[0.25, 0.5]")
    assert "--as VolFPlans_masked --pretext mae" in masked
    assert masked.endswith("--set epochs=2 iterations=50 optimizer=adamw masked=0.5")

    def refused(why: str, *words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["pretexts.py", *words])
        with pytest.raises(SystemExit, match=why):
            script.main()

    refused(r"--only wide: .*variants.json has large, masked", *options, "--only", "wide")
    refused(r"--only chooses among the variants", "--pool", "scans", "--for", "4", "--only", "large")
    file.write_text('{"large": {"pretext": "fusion"}}')
    refused(r"variants.json: there is no pretext fusion, but volf, ", *options)
