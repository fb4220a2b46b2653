"""First layers for other input channels: the response is that of the old layer to the mixed image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nnunet_volf.weights.channels import channel_shares, describe_shares, mix_channels
from nnunet_volf.weights.choices import CHANNEL_RULES

names = st.lists(st.sampled_from(["CT", "T1", "T2", "FLAIR", "PET", "ct"]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("trained", "wanted", "rule", "shares"),
    [
        (["CT"], ["CT"], "name", [[1]]),
        (["CT"], ["MRI"], "name", [[1]]),  # one on each side: a pair, whatever it is called
        (["CT"], ["T1", "T2"], "name", [[0.5], [0.5]]),
        (["T1"], ["T2", "t1 "], "name", [[0], [1]]),
        (["T1", "T2"], ["T2", "T1"], "name", [[0, 1], [1, 0]]),
        (["T1", "T2"], ["CT"], "name", [[1, 1]]),
        (["T1", "T2", "FLAIR"], ["FLAIR", "PET"], "name", [[0, 0, 1], [1, 1, 0]]),
        (["T1", "T2", "FLAIR"], ["FLAIR"], "name", [[1, 1, 1]]),
        (["T1", "T2"], ["T1", "PET"], "name", [[1, 0], [0, 1]]),
        (["CT", "CT"], ["CT", "CT"], "name", [[1, 0], [0, 1]]),
        (["T1"], ["T2", "T1"], "repeat", [[0.5], [0.5]]),
        (["T1", "T2"], ["T1", "T2"], "repeat", [[0.5, 0.5], [0.5, 0.5]]),
    ],
)
def test_each_trained_channel_sees_what_the_rule_says(
    trained: list[str], wanted: list[str], rule: str, shares: list[list[float]]
) -> None:
    np.testing.assert_array_equal(channel_shares(trained, wanted, rule), shares)


@settings(deadline=None)
@given(names, names, st.sampled_from(CHANNEL_RULES))
def test_what_a_trained_channel_sees_sums_to_one(trained: list[str], wanted: list[str], rule: str) -> None:
    shares = channel_shares(trained, wanted, rule)
    assert shares.shape == (len(wanted), len(trained))
    np.testing.assert_allclose(shares.sum(0), 1)
    assert (shares >= 0).all()


@settings(deadline=None)
@given(names, names, st.sampled_from(CHANNEL_RULES), st.sampled_from([2, 3]))
def test_the_new_layer_sees_an_image_as_the_old_one_sees_its_mix(
    trained: list[str], wanted: list[str], rule: str, dimensions: int
) -> None:
    shares = channel_shares(trained, wanted, rule)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, len(trained), *[3] * dimensions, generator=generator)
    image = torch.randn(1, len(wanted), *[5] * dimensions, generator=generator)
    mixed = torch.zeros(1, len(trained), *[5] * dimensions)
    for i in range(len(wanted)):
        for j in range(len(trained)):
            mixed[0, j] += float(shares[i, j]) * image[0, i]
    convolve = functional.conv3d if dimensions == 3 else functional.conv2d
    torch.testing.assert_close(
        convolve(image, mix_channels(weight, shares)), convolve(mixed, weight), atol=1e-4, rtol=1e-4
    )


@settings(deadline=None)
@given(st.integers(1, 5))
def test_an_image_repeated_in_all_channels_gives_the_response_of_one_channel(count: int) -> None:
    weight = torch.randn(4, 1, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    image = torch.randn(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(2))
    wide = mix_channels(weight, channel_shares(["CT"], [f"new {i}" for i in range(count)]))
    torch.testing.assert_close(
        functional.conv3d(image.expand(1, count, 6, 6, 6), wide), functional.conv3d(image, weight), atol=1e-5, rtol=1e-5
    )


def test_a_new_channel_that_nothing_sees_leaves_the_response_to_the_others_alone() -> None:
    weight = torch.randn(4, 1, 3, 3, 3)
    wide = mix_channels(weight, channel_shares(["T1"], ["T1", "T2"]))
    assert torch.equal(wide[:, :1], weight)
    assert torch.equal(wide[:, 1:], torch.zeros_like(weight))


def test_half_precision_weights_stay_in_half_precision() -> None:
    mixed = mix_channels(torch.ones(2, 2, 1, 1, 1, dtype=torch.float16), channel_shares(["a", "b"], ["c"]))
    assert mixed.dtype == torch.float16
    assert mixed.flatten().tolist() == [2, 2]


def test_what_was_done_is_said_by_name() -> None:
    def said(trained: list[str], wanted: list[str]) -> str:
        return describe_shares(trained, wanted, channel_shares(trained, wanted))

    assert said(["CT"], ["T1", "T2"]) == "CT sees the mean of T1, T2"
    assert said(["T1"], ["T1", "T2"]) == "T1 sees T1; T2 from zero"
    assert said(["T1", "T2"], ["T2", "T1"]) == "T1 sees T1; T2 sees T2"
