"""The card beside exported weights."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_volf.cli import main
from nnunet_volf.files import file_hash
from nnunet_volf.weights.citations import OF_METHODS
from nnunet_volf.weights.model_card import Terms, model_card
from nnunet_volf.weights.pretrained import Architecture, Preparation, Pretrained

CT = Preparation(
    channels=("CT",),
    normalization=("CTNormalization",),
    spacing=(3.0, 0.75, 0.75),
    patch=(48, 192, 192),
    intensities=({"mean": 99.5, "std": 39.25, "percentile_00_5": -17.0, "percentile_99_5": 201.0},),
)
KNOWN = Pretrained(
    path=Path("somewhere/liver.pth"),
    kind="nnunet-volf",
    opened="plain",
    tensors={"encoder.a": torch.zeros(1000, 2), "decoder.b": torch.zeros(3)},
    trainer="nnUNetTrainerVolF",
    method="volume fusion",
    settings={"scheme": "grid", "scale": [0.7, 1.5]},
    dataset="Dataset501_Archive",
    configuration="3d_fullres",
    epochs=1000,
    preparation=CT,
    architecture=Architecture("some.PlainConvUNet", {"n_stages": 2, "features_per_stage": [32, 64]}),
    data={"cases": 9990, "held_out": 10, "content": "c0ffee", "content_of": "a hash over hashes"},
    versions={"nnunet-volf": "0.1.0", "torch": "2.9"},
)
UNKNOWN = Pretrained(path=Path("x.pth"), kind="nnU-Net", opened="plain", tensors={"a": torch.zeros(1)})
TERMS = Terms("CC-BY-4.0", "A. Author and B. Author", "Author et al. 2026")


def rows(card: str) -> dict[str, str]:
    """All two-column rows of a card."""
    return dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", card, flags=re.MULTILINE))


def test_the_card_says_what_the_weights_come_from_and_what_they_need() -> None:
    found = rows(model_card(KNOWN, "abc123", TERMS))
    assert found["method"] == "volume fusion"
    assert found["cases trained on"] == "9990"
    assert found["cases held out"] == "10"
    assert found["content"] == "`c0ffee` (a hash over hashes)"
    assert found["epochs"] == "1000"
    assert found["modalities"] == "CT"
    assert found["normalisation"] == "CTNormalization"
    assert found["spacing in mm"] == "3 x 0.75 x 0.75"
    assert found["patch in voxels"] == "48 x 192 x 192"
    assert found["parameters"] == "2,003 in 2 tensors"
    assert found["features"] == "[32, 64]"
    assert found["sha256"] == "`abc123`"
    assert found["made with"] == "nnunet-volf 0.1.0, torch 2.9"


def test_settings_and_intensities_are_listed() -> None:
    card = model_card(KNOWN, "", TERMS)
    assert '```yaml\nscheme: "grid"\nscale: [0.7, 1.5]\n```' in card
    assert "| CT | 99.5 | 39.25 | -17 | 201 |" in card


def test_what_nobody_recorded_is_not_stated_and_not_invented() -> None:
    card = model_card(UNKNOWN, "abc", Terms())
    for name in ("method", "trainer", "dataset", "configuration", "epochs", "cases trained on", "content", "made with"):
        assert rows(card)[name] == "not stated", name
    assert "Licence of the weights: not stated." in card
    assert "Authors: not stated." in card
    assert "- The weights: not stated." in card
    assert "None" not in card


def test_owners_terms_are_stated() -> None:
    card = model_card(KNOWN, "", TERMS)
    assert "Licence of the weights: CC-BY-4.0." in card
    assert "Authors: A. Author and B. Author." in card
    assert "- Author et al. 2026\n" in card


def test_method_and_framework_are_cited() -> None:
    card = model_card(KNOWN, "", Terms())
    assert "10.1109/TIP.2025.3610249" in card
    assert "arXiv:2306.16925" in card
    assert "10.1038/s41592-020-01008-z" in card


def test_of_weights_that_name_no_method_the_framework_alone_is_cited() -> None:
    card = model_card(UNKNOWN, "", Terms())
    assert "10.1038/s41592-020-01008-z" in card
    assert not any(paper in card for papers in OF_METHODS.values() for paper in papers)


def test_a_fine_tuning_cites_the_method_of_the_weights_that_it_started_from() -> None:
    tuned = replace(KNOWN, method="fine-tuning", started_from={"file": "w.pth", "method": "volume contrast"})
    card = model_card(tuned, "", Terms())
    assert "arXiv:2402.17300" in card
    assert "arXiv:2306.16925" not in card


def test_papers_that_the_weights_name_are_cited_once() -> None:
    card = model_card(replace(KNOWN, citations=("Paper 2020", "Paper 2020", "Author et al. 2026")), "", TERMS)
    assert card.count("Paper 2020") == 1
    assert card.count("- Author et al. 2026") == 1


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (Terms("Apache-2.0"), {"license": "apache-2.0"}),
        (Terms(), {"license": "unknown"}),
        (Terms('Ask us: "free" for research'), {"license": "other", "license_name": 'Ask us: "free" for research'}),
    ],
)
def test_the_front_matter_is_yaml_as_hugging_face_reads_it(terms: Terms, expected: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml")
    card = model_card(KNOWN, "", terms)
    _, front, rest = card.split("---\n", 2)
    read = yaml.safe_load(front)
    assert {name: value for name, value in read.items() if name.startswith("license")} == expected
    assert read["library_name"] == "nnunet-volf"
    assert read["pipeline_tag"] == "image-segmentation"
    assert {"nnU-Net", "volume-fusion", "CT"} <= set(read["tags"])
    assert rest.startswith("\n# liver\n")


def test_names_with_bars_do_not_break_the_table() -> None:
    odd = replace(CT, channels=("a|b",))
    card = model_card(replace(KNOWN, preparation=odd), "", TERMS)
    assert rows(card)["modalities"] == "a\\|b"
    assert "| a\\|b | 99.5 |" in card


def test_the_data_of_a_training_that_was_resumed_with_more_cases_is_all_there() -> None:
    data = {**KNOWN.data, "earlier": [{"cases": 5, "content": "beef"}, {"cases": 6, "content": None}]}
    found = rows(model_card(replace(KNOWN, data=data), "", TERMS))
    assert found["before it was resumed"] == "5 cases, content beef; 6 cases, content not stated"


def test_what_was_done_to_the_weights_since_is_noted() -> None:
    card = model_card(replace(KNOWN, notes=("Adapted for Dataset004_X.", "The decoder is new.")), "", TERMS)
    assert rows(card)["notes"] == "Adapted for Dataset004_X. The decoder is new."
    assert "notes" not in rows(model_card(KNOWN, "", TERMS))


def test_the_commands_that_the_card_shows_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    card = model_card(KNOWN, "", TERMS)
    (shown,) = re.findall(r"```bash\n(.*?)```", card, flags=re.DOTALL)
    assert "nnunet-volf weights check liver.pth -d DATASET -c 3d_fullres\n" in shown
    assert "nnUNetv2_train DATASET 3d_fullres 0 -tr nnUNetTrainerVolFFineTune -pretrained_weights liver.pth\n" in shown
    with pytest.raises(SystemExit) as left:
        main(["weights", "check", "--help"])
    assert left.value.code == 0


def test_the_same_weights_give_the_same_card() -> None:
    assert model_card(KNOWN, "abc", TERMS) == model_card(replace(KNOWN), "abc", TERMS)


def test_the_hash_is_the_one_that_sha256sum_prints(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than is read at once
    (tmp_path / "file").write_bytes(content)
    assert file_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()
