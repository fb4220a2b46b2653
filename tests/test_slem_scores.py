"""How well SLeM goes, and what of it users read: scores, the log, the preview and the pictures."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image as picture
from slem_reference import known_cross_entropy
from slem_setup import PATCH, save_case, slem, tiny_unet

from nnunet_volf.pretext.slem.codes import Codes
from nnunet_volf.pretext.slem.loss import UNKNOWN
from nnunet_volf.pretext.slem.panel import RIGHT, TRUE, WRONG, symbol_text
from nnunet_volf.pretext.slem.pretext import Recombination
from nnunet_volf.pretext.slem.scoring import RecombinationScores, count, score
from nnunet_volf.randomness import sample_rng


def test_scores_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    pretext = slem()
    assert pretext.table is not None
    logits = rng.normal(size=(30, 1, 16)).astype(np.float32)
    target = rng.integers(-1, 16, size=(30, 1))
    logits[np.arange(15), 0, target[:15, 0].clip(0)] += 3  # half of the answers are mostly right
    batches = [pretext.measure(torch.from_numpy(logits[i : i + 6]), torch.from_numpy(target[i : i + 6]))
               for i in range(0, 30, 6)]  # fmt: skip
    scores = pretext.score(batches)

    known = [i for i in range(30) if target[i, 0] != -1]
    assert 0 < len(known) < 30
    right = [int(np.argmax(logits[i, 0])) == target[i, 0] for i in known]
    assert (scores.answers, scores.unknown, scores.classes) == (len(known), 30 - len(known), 16)
    assert scores.accuracy == pytest.approx(np.mean(right))
    assert scores.headline == pytest.approx((np.mean(right) - 1 / 16) / (15 / 16))
    assert scores.cross_entropy == pytest.approx(known_cross_entropy(logits, target))
    for block in range(4):
        same = [pretext.table[int(np.argmax(logits[i, 0]))][block] == pretext.table[target[i, 0]][block] for i in known]
        assert scores.parts[block] == pytest.approx(np.mean(same))


def test_scores_of_a_block_head_count_blocks() -> None:
    logits = np.zeros((2, 3, 2), dtype=np.float32)
    logits[:, :, 1] = 2.0  # it always says 1
    target = np.array([[1, 0, UNKNOWN], [1, 1, UNKNOWN]])
    scores = score([count(logits, target, None)])
    assert scores.accuracy == 0.75
    assert (scores.answers, scores.unknown) == (4, 2)
    assert scores.block_accuracy[:2] == (1.0, 0.5)
    assert math.isnan(scores.block_accuracy[2])
    assert scores.to_mapping()["block_accuracy"] == [1.0, 0.5, None]


def test_guessing_scores_zero_and_all_right_scores_one() -> None:
    rng, eye = np.random.default_rng(0), np.eye(16, dtype=np.float32)
    target = rng.integers(0, 16, size=(20_000, 1))
    guessed = score([count(eye[rng.integers(0, 16, target.shape)], target, None)])
    assert guessed.headline == pytest.approx(0, abs=0.01)
    assert score([count(30 * eye[target], target, None)]).headline == 1


@pytest.mark.parametrize(
    ("accuracy", "answers", "cross_entropy", "words"),
    [
        (0.10, 32, 2.85, "Not yet better than guessing"),
        (0.18, 32, 2.70, "Not yet better than guessing"),
        (0.18, 32, 2.55, "Learning."),
        (0.25, 32, 2.85, "Learning."),
        (0.10, 3200, 2.70, "Learning."),
        (0.98, 32, 0.05, "The task is nearly solved"),
    ],
)
def test_the_description_names_the_state_of_the_training(
    accuracy: float, answers: int, cross_entropy: float, words: str
) -> None:
    scores = RecombinationScores(16, answers, 3, accuracy, (0.5, 0.6), cross_entropy)
    text = scores.describe()
    assert words in text
    assert f"{accuracy:.1%} of {answers} answers right, 3 more left out" in text
    assert "guessing among 16 gives 6.2%" in text
    assert "Right in each block: 50%, 60%." in text
    assert f"Cross-entropy {cross_entropy:.2f}, guessing ln 16 = 2.77" in text


def test_a_set_in_which_nothing_can_be_told_says_so_and_scores_zero() -> None:
    scores = score([count(np.zeros((2, 1, 16), dtype=np.float32), np.full((2, 1), UNKNOWN), slem().table)])
    assert scores.headline == 0
    assert "No held-out sample can be scored" in scores.describe()
    assert json.loads(json.dumps(scores.to_mapping()))["cross_entropy"] is None


def test_the_log_says_what_is_done_and_what_guessing_costs() -> None:
    text = slem(channels=3).expectation()
    assert "c0, c1, c2 recombined in 1 x 2 x 2 blocks, mode cyclic: 81 classes, out of 81 combinations." in text
    assert "starts near ln 81 = 4.39" in text


def test_a_preview_says_how_large_blocks_are_and_how_far_classes_are_apart() -> None:
    lines = "\n".join(slem(channels=5, patch=(8, 17, 20)).preview(0))
    assert "256 classes, out of 625 combinations" in lines
    assert "A block is 8 x 8 x 10 or 8 x 9 x 10 voxels" in lines
    assert "Guessing: 0.4% right, cross-entropy ln 256 = 5.55" in lines
    table = slem(channels=5).table
    assert table is not None
    apart = min(sum(x != y for x, y in zip(a, b, strict=True)) for a, b in itertools.combinations(table, 2))
    assert f"Any two classes differ in {apart} of 4 blocks or more." in lines
    assert "Any two" not in "\n".join(slem(channels=4).preview(0)), "all combinations are classes: nothing was chosen"


def test_settings_that_decide_what_a_class_means_may_not_change_in_a_training() -> None:
    """Each of them, changed alone, gives another table or another head; the others give the same."""
    base = {"channels": 5}

    def asked(**settings: Any) -> tuple[Any, ...]:
        pretext = slem(**{**base, **settings})
        shapes = [tuple(p.shape) for p in pretext.network(tiny_unet(5)).head.parameters()]
        shown = None if pretext.table is None else [[pretext.codes.shown(s) for s in code] for code in pretext.table]
        return pretext.grid, shown, pretext.table, shapes

    changes = {
        "grid": [1, 1, 2],
        "mode": "mosaic",
        "head": "blocks",
        "most_classes": 100,
        "class_seed": 1,
        "hidden": 16,
        "shuffle_positions": True,
    }
    assert {*changes, "assignment"} == set(Recombination.refused_changes)
    for name, value in changes.items():
        assert asked(**{name: value}) != asked(), name
    for name, value in {"dropout": 0.5, "contrast": [1, 1], "epochs": 3, "flip": 0.1, "invert": 0.5}.items():
        assert asked(**{name: value}) == asked(), name


@pytest.mark.parametrize("predicted", [True, False])
@pytest.mark.parametrize(("patch", "grid"), [(PATCH, [1, 2, 2]), ((16, 20), [2, 2]), ((16, 16, 16), [2, 1, 2])])
@pytest.mark.parametrize("head", ["combination", "blocks"])
def test_a_picture_has_a_row_a_layer_and_a_column_for_each_channel_and_code(
    tmp_path: Path, predicted: bool, patch: tuple[int, ...], grid: list[int], head: str
) -> None:
    cases = save_case(tmp_path, np.random.default_rng(0).normal(size=(2, 16, 20, 24)))
    pretext = slem(patch=patch, grid=grid, head=head)
    samples = [pretext.sampler().draw(sample_rng(0, number), cases, "case")[0] for number in range(2)]
    network = pretext.network(tiny_unet(axes=len(patch))).eval()
    with torch.no_grad():
        outputs = [network(sample["image"][None]) for sample in samples] if predicted else None
    path = tmp_path / "deep" / "panel.png"
    pretext.draw(samples, outputs, "title", path)
    rows = 2 * (grid[0] if len(patch) == 3 else 1)
    height, width = picture.imread(path).shape[:2]
    assert width == pytest.approx(90 * 2.3 * (6 if predicted else 5), abs=2)
    assert height == pytest.approx(90 * (2.2 * rows + 0.9), abs=2)


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def pixels_like(path: Path, colour: str) -> int:
    shown = (picture.imread(path)[..., :3] * 255).round().astype(int)
    return int((np.abs(shown - rgb(colour)).max(-1) <= 2).sum())


@pytest.mark.parametrize("wrong_blocks", [0, 1, 4])
def test_found_codes_are_green_where_they_are_right_and_red_where_not(tmp_path: Path, wrong_blocks: int) -> None:
    cases = save_case(tmp_path, np.random.default_rng(0).normal(size=(2, 16, 20, 24)))
    pretext = slem()
    (sample,) = pretext.sampler().draw(sample_rng(0, 3), cases, "case")
    found = tuple(1 - s if block < wrong_blocks else s for block, s in enumerate(sample["code"]))
    assert pretext.table is not None
    output = torch.nn.functional.one_hot(torch.tensor([[pretext.table.index(found)]]), 16).float()
    path = tmp_path / "panel.png"
    pretext.draw([sample], [output], "title", path)
    green, red, yellow = (pixels_like(path, colour) for colour in (RIGHT, WRONG, TRUE))
    one_block = yellow / 4
    assert green == pytest.approx((4 - wrong_blocks) * one_block, rel=0.2, abs=20)
    assert red == pytest.approx(wrong_blocks * one_block, rel=0.2, abs=20)
    assert one_block > 50


def test_blocks_are_labelled_by_what_they_show() -> None:
    assert symbol_text(Codes(4, 4), 3) == "3"
    assert symbol_text(Codes(3, 4, mode="permutation"), 1) == "0 2 1"
    assert symbol_text(Codes(2, 4, shuffle=True), 5) == "2: 1"
