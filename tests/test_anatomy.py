"""The made-up body: the same for the same seed, varied between seeds, and not to be segmented by brightness alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnunet_volf.anatomy import MOST_ORGANS, Body, class_names, draw_body, render
from nnunet_volf.rendering import Look, Part

SHAPE, SPACING = (48, 48, 48), (1.0, 1.0, 1.0)


def scan(seed: int, organs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return render(draw_body(np.random.default_rng(seed), organs), SHAPE, SPACING)


def ball(radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Body:
    """One bright ball in the air, without anything that is random."""
    part = Part("ball", Look(1.0, grain=0.0), centre, (radius, radius, radius), label=1)
    whole = draw_body(np.random.default_rng(0))
    still = tuple(replace(wave, amplitudes=(0.0,) * len(wave.amplitudes)) for wave in whole.displacement)
    return replace(whole, parts=(part,), displacement=still, bias=(replace(whole.bias[0], amplitudes=(0.0,)),), noise=0)


def test_the_same_seed_gives_the_same_body_and_scan() -> None:
    assert draw_body(np.random.default_rng(5)) == draw_body(np.random.default_rng(5))
    first, again = scan(5), scan(5)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_another_seed_gives_another_anatomy() -> None:
    _, first = scan(5)
    _, other = scan(6)
    both = ((first > 0) & (other > 0)).sum()
    assert both < 0.8 * max((first > 0).sum(), (other > 0).sum())


def test_every_labelled_organ_is_in_every_scan_with_a_plausible_volume() -> None:
    names = class_names(MOST_ORGANS)
    volumes = np.array([np.bincount(scan(seed, MOST_ORGANS)[1].ravel(), minlength=len(names)) for seed in range(200)])
    for name, label in names.items():
        smallest, median = volumes[:, label].min(), np.median(volumes[:, label])
        assert smallest >= max(12, 0.15 * median), f"{name}: {smallest} of {median:.0f} voxels"
        assert volumes[:, label].max() <= 4 * median, name
    assert np.median(volumes[:, 0]) > 0.8 * np.prod(SHAPE)


def test_organs_that_are_not_asked_for_are_there_without_a_label() -> None:
    few, many = scan(3, organs=2), scan(3, organs=10)
    np.testing.assert_array_equal(few[1], np.where(many[1] <= 2, many[1], 0))
    assert set(np.unique(many[1])) == set(range(11))


@pytest.mark.parametrize("organs", [0, MOST_ORGANS + 1])
def test_a_number_of_organs_that_no_body_has_is_refused(organs: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {MOST_ORGANS} labelled organs, not {organs}"):
        draw_body(np.random.default_rng(0), organs)


def test_brightness_alone_does_not_tell_the_organs() -> None:
    """The best of all rules that look at a voxel's brightness only, even one made with the answers at hand."""
    images, labels = zip(*(scan(seed) for seed in range(40)), strict=True)
    bright = np.concatenate([(image / np.percentile(image, 99)).ravel() for image in images])
    truth = np.concatenate([label.ravel() for label in labels])
    bins = np.clip((bright * 128).astype(int), 0, 255)
    everything = np.bincount(bins, minlength=256)
    for name, label in class_names().items():
        if label:
            of_class = np.bincount(bins[truth == label], minlength=256)
            best_first = np.argsort(-of_class / np.maximum(everything, 1))
            hits, taken = of_class[best_first].cumsum(), everything[best_first].cumsum()
            dice = 2 * hits / (taken + of_class.sum())
            assert dice.max() < 0.25, name


def test_organs_of_a_class_may_be_brighter_or_darker_than_those_of_any_other() -> None:
    brightness = np.array(
        [[image[labels == label].mean() for label in (1, 3, 4)] for image, labels in map(scan, range(40))]
    )
    for one in range(3):
        for other in range(one):
            assert 0.2 < (brightness[:, one] > brightness[:, other]).mean() < 0.8


def test_both_kidneys_of_a_body_look_alike_and_mirror_each_other_on_average() -> None:
    kidneys = {"left_kidney": [], "right_kidney": []}
    for seed in range(200):
        parts = {part.name: part for part in draw_body(np.random.default_rng(seed)).parts}
        for name, found in kidneys.items():
            found.append(parts[name])
    for left, right in zip(*kidneys.values(), strict=True):
        assert left.look == right.look
        assert left.centre[2] > 0 > right.centre[2]
        assert left.bend[2] == -right.bend[2] < 0
    left, right = (np.array([part.centre for part in found]).mean(axis=0) for found in kidneys.values())
    np.testing.assert_allclose(left, right * (1, 1, -1), atol=0.3)


def test_the_liver_lies_on_the_side_of_the_right_kidney() -> None:
    for seed in range(20):
        _, labels = scan(seed)
        right, liver = (np.argwhere(labels == label)[:, 2].mean() for label in (2, 3))
        assert right < 24 > liver


def test_a_voxel_at_an_edge_holds_both_tissues_in_proportion() -> None:
    image, labels = render(ball(10.3), SHAPE, SPACING)
    fine, _ = render(ball(10.3), (192, 192, 192), (0.25, 0.25, 0.25))
    averaged = fine.reshape(48, 4, 48, 4, 48, 4).mean(axis=(1, 3, 5))
    gain = ball(10.3).gain
    edge = (averaged > 0.02 * gain) & (averaged < 0.98 * gain)
    assert edge.sum() > 500
    assert np.abs(image - averaged).max() < 0.2 * gain
    assert np.abs(image - averaged)[edge].mean() < 0.05 * gain
    np.testing.assert_array_equal(labels == 1, image > 0.5 * gain)


def test_thick_slices_blur_edges_above_and_below_only() -> None:
    image, _ = render(ball(12.0), (13, 48, 48), (4.0, 1.0, 1.0))
    profile_up, profile_across = image[:, 24, 24], image[6, 24, :]
    gain = ball(12.0).gain
    between = [int(((p > 0.02 * gain) & (p < 0.98 * gain)).sum()) for p in (profile_up, profile_across)]
    assert between[0] == 2  # both ends of the ball lie in the middle of a slice of 4 mm
    assert between[1] <= 2
    assert image[3, 24, 24] == pytest.approx(0.5 * gain, rel=0.1)


@pytest.mark.parametrize(("shape", "spacing"), [((48, 48, 48), (1, 1, 1)), ((24, 60, 40), (2, 0.8, 1.2))])
def test_an_organ_has_the_same_volume_at_any_size_and_spacing(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    for seed in range(5):
        body = draw_body(np.random.default_rng(seed))
        image, labels = render(body, shape, spacing)
        _, fine = render(body, (96, 96, 96), (0.5, 0.5, 0.5))
        assert image.shape == labels.shape == shape
        assert image.dtype == np.float32
        assert labels.dtype == np.uint8
        volume, reference = (labels == 3).sum() * np.prod(spacing), (fine == 3).sum() * 0.125
        assert volume == pytest.approx(reference, rel=0.1)


def test_the_bias_field_and_the_noise_differ_between_bodies() -> None:
    bodies = [draw_body(np.random.default_rng(seed)) for seed in range(30)]
    assert len({body.noise for body in bodies}) == len({body.gain for body in bodies}) == 30
    for body in bodies[:5]:
        air = render(body, SHAPE, SPACING)[0][:, :3, :3] / body.gain
        assert 0 < air.mean() < 0.1  # the magnitude of noise is never negative, and not zero on average
        flat, _ = render(replace(body, bias=(replace(body.bias[0], amplitudes=(0.0,)),)), SHAPE, SPACING)
        biased, _ = render(body, SHAPE, SPACING)
        ratio = (biased / flat)[flat > 0.5 * body.gain]
        assert ratio.std() > 0.01
