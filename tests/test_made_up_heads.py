"""The made-up heads: the same for the same seed, and not to be segmented by what one sequence shows of a voxel."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from nnunet_volf.made_up_heads import CLASSES, SEQUENCES, draw_head, render_head

SHAPE, SPACING = (40, 48, 44), (1.0, 1.0, 1.0)


@cache
def scan(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return render_head(draw_head(np.random.default_rng(seed)), SHAPE, SPACING)


def test_the_same_seed_gives_the_same_head_and_scans() -> None:
    assert draw_head(np.random.default_rng(5)) == draw_head(np.random.default_rng(5))
    again = render_head(draw_head(np.random.default_rng(5)), SHAPE, SPACING)
    assert all(np.array_equal(one, other) for one, other in zip(scan(5), again, strict=True))
    assert not np.array_equal(scan(5)[1], scan(6)[1])


def test_all_sequences_show_the_same_places_with_noise_and_bias_of_their_own() -> None:
    head = draw_head(np.random.default_rng(1))
    places = {tuple((p.name, p.centre, p.radii, p.angles, p.bend, p.label) for p in body.parts) for body in head}
    assert len(head) == len(SEQUENCES)
    assert len(places) == len({body.displacement for body in head}) == 1
    assert len({body.seed for body in head}) == len({body.bias for body in head}) == len(SEQUENCES)


def test_tumours_of_many_sizes_lie_inside_the_image() -> None:
    volumes = np.array([np.bincount(scan(seed)[1].ravel(), minlength=len(CLASSES)) for seed in range(60)])
    assert (volumes[:, CLASSES["oedema"]] > 0).all(), "every head has a tumour"
    for name in ("core", "enhancing"):
        assert 0.6 < (volumes[:, CLASSES[name]] > 0).mean() < 1, f"{name}: in most of the heads, not in all"
    whole = volumes[:, 1:].sum(axis=1)
    assert np.percentile(whole, 90) > 4 * np.percentile(whole, 10)
    for seed in range(60):
        inside = scan(seed)[1][1:-1, 1:-1, 1:-1]
        assert (inside > 0).sum() == whole[seed]


def balanced_accuracy(channels: list[int]) -> float:
    """How well the best quadratic rule tells the voxels of a tumour's parts and of everything else in the brain."""
    features, truth = [], []
    for seed in range(25):
        images, labels = scan(seed)
        scale = np.percentile(images.reshape(4, -1), 90, axis=1)
        brain = (slice(10, -10), slice(12, -12), slice(11, -11))
        features.append((images[(slice(None), *brain)] / scale[:, None, None, None]).reshape(4, -1).T[:, channels])
        truth.append(labels[brain].ravel())
    x, y = np.concatenate(features), np.concatenate(truth)
    scores = []
    for label in range(len(CLASSES)):
        own = x[y == label]
        away, spread = x - own.mean(axis=0), np.cov(own.T).reshape(len(channels), len(channels))
        distance = np.einsum("ij,jk,ik->i", away, np.linalg.inv(spread), away)
        scores.append(-distance - np.linalg.slogdet(spread)[1])
    called = np.argmax(scores, axis=0)
    return float(np.mean([(called[y == label] == label).mean() for label in range(len(CLASSES))]))


def test_no_sequence_alone_tells_the_parts_of_a_tumour_as_all_of_them_do() -> None:
    together = balanced_accuracy([0, 1, 2, 3])
    assert together > 0.7
    for left_out in range(4):
        assert balanced_accuracy([channel for channel in range(4) if channel != left_out]) < together
    for alone in range(4):
        assert balanced_accuracy([alone]) < together - 0.15, SEQUENCES[alone]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    import four_modalities

    return four_modalities


def test_the_script_writes_a_dataset_its_split_and_a_pool(
    script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = tmp_path / "heads"
    options = ["--training", "2", "--test", "1", "--pool", "2", "--folder", str(pool)]
    monkeypatch.setattr(sys, "argv", ["four_modalities.py", *options])
    script.main()
    raw = tmp_path / "raw" / "Dataset031_FourModalities"
    assert "next: nnUNetv2_plan_and_preprocess -d 31" in capsys.readouterr().out
    assert len(list((raw / "imagesTr").iterdir())) == 3 * 4
    assert len(list((raw / "labelsTr").iterdir())) == 3
    assert len(list(pool.iterdir())) == 2 * 4
    description = json.loads((raw / "dataset.json").read_text())
    assert list(description["channel_names"].values()) == list(SEQUENCES)
    assert description["numTraining"] == 3
    [fold] = json.loads((tmp_path / "preprocessed" / raw.name / "splits_final.json").read_text())
    assert fold == {"train": ["head_0000", "head_0001"], "val": ["head_0002"]}

    images = [SimpleITK.ReadImage(str(path)) for path in sorted((raw / "imagesTr").glob("head_0000_*"))]
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(raw / "labelsTr" / "head_0000.nii.gz")))
    expected, expected_labels = script.head(0, 0, 0)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(SimpleITK.GetArrayFromImage(images[1]), expected[1], atol=0.5)
    assert images[0].GetSpacing() == SPACING


def test_no_head_of_the_pool_is_among_the_labelled(script) -> None:
    labelled, pool = script.head(0, 0, 0)[0], script.head(0, 1, 0)[0]
    assert not np.allclose(labelled, pool)
