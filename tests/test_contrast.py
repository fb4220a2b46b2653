"""Which parts of an image show anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_volf.pretext.contrast import shows


def test_a_part_shows_something_from_a_share_of_the_deviation_of_the_whole_on() -> None:
    rng = np.random.default_rng(0)
    whole = torch.from_numpy(rng.normal(size=(2, 9, 8, 7)).astype(np.float32))
    whole[1] *= 100
    strengths = (0.0, 0.01, 0.04, 0.06, 0.3, 1.0)
    parts = torch.stack([whole[:, :4, :4, :4] * strength for strength in strengths])
    expected = [[part[c].numpy().std() >= 0.05 * whole[c].numpy().std() for c in range(2)] for part in parts]
    found = shows(parts, whole)
    assert found.dtype == torch.bool
    assert found.tolist() == expected
    assert found[:, 0].tolist() == [False, False, False, True, True, True]


def test_the_share_can_be_chosen() -> None:
    whole = torch.linspace(0, 1, 64).reshape(1, 4, 4, 4)
    part = whole[None, :, :2] * 0.5
    assert shows(part, whole, share=0.01).item()
    assert not shows(part, whole, share=0.5).item()


@pytest.mark.parametrize("value", [0.0, 0.1, -1024.3, 1e6])
def test_in_an_image_without_contrast_nothing_shows(value: float) -> None:
    whole = torch.full((1, 11, 13, 7), value)
    assert not shows(whole[None, :, :4], whole).any()


def test_a_flat_part_shows_nothing_and_a_flat_channel_hides_no_other() -> None:
    whole = torch.zeros(2, 6, 6)
    whole[1, 3:] = torch.rand(3, 6)
    parts = torch.stack([whole[:, :3], whole[:, 3:]])
    assert shows(parts, whole).tolist() == [[False, False], [False, True]]
