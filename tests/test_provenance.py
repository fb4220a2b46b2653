"""What a checkpoint says of the data it was trained on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NnUNetFolders
from hypothesis import given
from hypothesis import strategies as st
from test_preprocess import make_dataset, run
from training import DATASET, TRAINER, make_trainer, with_settings

from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.preprocessing.imported import ImportedDataset, read_manifest
from nnunet_volf.provenance import content_hash, continued, describe_data, versions

ONE, TWO, THREE = ({"cases": n, "held_out": 0, "content": str(n) * 64} for n in (1, 2, 3))


def trained_on(plans: str) -> dict[str, Any]:
    """Train a little on phantoms and return what the final checkpoint says of their data."""
    make_trainer(plans).run_training()
    return read(plans)["data"]


def read(plans: str) -> dict[str, Any]:
    folder = Path(os.environ["nnUNet_results"]) / DATASET / f"{TRAINER}__{plans}__3d_fullres" / "fold_0"
    return torch.load(folder / "checkpoint_final.pth", weights_only=True)["nnunet_volf"]


@pytest.fixture
def preprocessed(nnunet_folders: NnUNetFolders) -> tuple[ImportedDataset, Path]:
    """Four scans that our own preprocessing has done."""
    dataset, planned = make_dataset(nnunet_folders)
    run(dataset, planned)
    return dataset, planned.folder / planned.configuration("x")["data_identifier"]


def test_the_hash_is_the_one_that_sort_and_sha256sum_give(preprocessed: tuple[ImportedDataset, Path]) -> None:
    dataset, folder = preprocessed
    lines = sorted(entry["content"] for entry in read_manifest(dataset.folder))
    expected = hashlib.sha256(b"".join(line.encode() + b"\n" for line in lines)).hexdigest()
    data = describe_data(UnlabeledCases(folder, [case.name for case in dataset.cases]), [])
    assert data["content"] == expected
    assert data["cases"] == 4
    assert "SHA-256" in data["content_of"]


def test_only_the_cases_that_are_trained_on_are_hashed(preprocessed: tuple[ImportedDataset, Path]) -> None:
    dataset, folder = preprocessed
    names = [case.name for case in dataset.cases]
    data = describe_data(UnlabeledCases(folder, names[:3]), names[3:])
    assert (data["cases"], data["held_out"]) == (3, 1)
    assert data["content"] == content_hash(case.content for case in dataset.cases[:3])


def test_a_case_that_is_validated_on_and_trained_on_is_not_held_out(preprocessed: tuple[ImportedDataset, Path]) -> None:
    dataset, folder = preprocessed
    names = [case.name for case in dataset.cases]
    assert describe_data(UnlabeledCases(folder, names), names)["held_out"] == 0


def test_cases_of_nnunets_own_preprocessing_are_counted_only(phantoms: NnUNetFolders) -> None:
    data = trained_on(with_settings(epochs=1))
    assert (data["cases"], data["held_out"], data["content"]) == (4, 2, None)


def test_numpy_files_are_counted_only(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 4, 4, 4), np.float32))
    assert describe_data(UnlabeledCases(tmp_path, ["a"]), [])["content"] is None


def test_one_case_without_a_hash_leaves_all_without(preprocessed: tuple[ImportedDataset, Path]) -> None:
    dataset, folder = preprocessed
    np.save(folder / "zz_foreign.npy", np.zeros((1, 8, 8, 8), np.float32))
    names = [*(case.name for case in dataset.cases), "zz_foreign"]
    assert describe_data(UnlabeledCases(folder, names), [])["content"] is None


@given(st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), max_size=6), st.randoms())
def test_the_order_of_the_cases_does_not_matter(contents: list[str], random: Any) -> None:
    shuffled = random.sample(contents, len(contents))
    assert content_hash(shuffled) == content_hash(contents)


@given(st.sets(st.text("01", min_size=1, max_size=3)), st.sets(st.text("01", min_size=1, max_size=3)))
def test_other_contents_have_another_hash(first: set[str], second: set[str]) -> None:
    assert (content_hash(first) == content_hash(second)) == (first == second)


@pytest.mark.parametrize("before", [None, {}])
def test_a_training_that_was_not_resumed_has_no_earlier_data(before: dict[str, Any] | None) -> None:
    assert continued(ONE, before) == ONE


def test_resuming_on_the_same_data_changes_nothing() -> None:
    assert continued(ONE, ONE) == ONE
    grown = continued(TWO, ONE)
    assert continued(TWO, grown) == grown


def test_data_seen_before_a_resume_stays_on_record_in_order() -> None:
    assert continued(THREE, continued(TWO, ONE)) == {**THREE, "earlier": [ONE, TWO]}
    assert continued(ONE, continued(TWO, ONE)) == {**ONE, "earlier": [ONE, TWO]}


def test_a_training_resumed_with_other_cases_says_what_it_saw_before(phantoms: NnUNetFolders) -> None:
    first = trained_on(with_settings(epochs=1))
    data = phantoms.preprocessed / DATASET
    (data / "splits_final.json").write_text('[{"train": ["case_000"], "val": ["case_001"]}]')
    trainer = make_trainer(with_settings(epochs=2), resume=True)
    trainer.run_training()
    now = read("Test")["data"]
    assert (now["cases"], now["held_out"]) == (1, 1)
    assert now["earlier"] == [first]


def test_resumed_with_the_same_cases_it_says_the_same(phantoms: NnUNetFolders) -> None:
    first = trained_on(with_settings(epochs=1))
    trainer = make_trainer(with_settings(epochs=2), resume=True)
    trainer.run_training()
    assert read("Test")["data"] == first
    trainer.perform_actual_validation()
    summary = Path(trainer.output_folder) / "pretraining_summary.json"
    assert json.loads(summary.read_text())["data"] == first


def test_the_versions_that_ran_are_in_the_checkpoint(phantoms: NnUNetFolders) -> None:
    trained_on(with_settings(epochs=1))
    assert read("Test")["versions"] == versions()
    assert versions()["torch"].startswith(torch.__version__.split("+")[0])
    assert set(versions()) == {"python", "nnunet-volf", "nnunetv2", "torch"}


def test_asking_for_versions_loads_no_torch() -> None:
    code = "import sys; from nnunet_volf.provenance import versions; versions(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
