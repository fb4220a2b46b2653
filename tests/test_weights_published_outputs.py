"""A published file, imported, gives the outputs of the published network: file -> import -> our network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published_files import fm_unet_weights, pct_net_weights, write_published
from published_networks import fm_unet, pct_net
from torch import Tensor

from nnunet_volf.weights.importing import import_weights
from nnunet_volf.weights.target import build_network

# Both are computed in float64, where they differ by rounding only.
CLOSE = 1e-10


def outputs(path: Path, image: Tensor, heads: int = 3) -> list[Tensor]:
    """Import a file and let our network see an image."""
    imported = import_weights(path, path.with_suffix(".pth"))
    assert imported.missing == ()
    assert imported.weights.architecture is not None
    network = build_network(imported.weights.architecture, image.shape[1], heads, initialize=False)
    network.load_state_dict(dict(imported.weights.tensors))
    with torch.no_grad():
        seen: list[Tensor] = network.double().eval()(image)
    return seen


def image_of(*shape: int) -> Tensor:
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def compare(
    ours: list[Tensor], oracle: Callable[..., list[Tensor]], image: Tensor, weights: dict[str, Tensor], *more: Any
) -> None:
    exact = {name: value.double() if value.is_floating_point() else value for name, value in weights.items()}
    expected = oracle(image, exact, *more)
    assert len(ours) == len(expected) == 4
    for one, other in zip(ours, expected, strict=True):
        assert one.shape == other.shape
        assert other.std() > 0.1, "a network that says the same everywhere would prove nothing"
        assert torch.allclose(one, other, rtol=0, atol=CLOSE * float(other.abs().max()))


@pytest.mark.parametrize(
    ("mode", "patch", "window"),
    [
        # At the levels with attention: in z, y and x some sides are whole numbers of windows, and some need padding.
        (0, (48, 64, 48), 2),  # 12 x 16 x 12, 6 x 8 x 6, 3 x 4 x 3
        (1, (24, 48, 64), 2),
        (1, (16, 48, 64), 2),  # 2 x 3 x 4 at the coarsest, where one axis of one window keeps all from shifting
        (1, (32, 64, 80), 3),
        (2, (12, 48, 64), 2),  # 12 x 12 x 16, 6 x 6 x 8, 3 x 3 x 4
        (2, (20, 80, 64), 3),
    ],
)
def test_a_pct_net_gives_what_the_published_one_gives(
    tmp_path: Path, mode: int, patch: tuple[int, ...], window: int
) -> None:
    weights = pct_net_weights(trained=(mode,), windows=(window,) * 3, outputs=3, seed=mode)
    path = write_published(tmp_path / "pctnet_ct10k_volf.pt", weights)
    image = image_of(*patch)
    compare(outputs(path, image), pct_net, image, weights, mode, window)


@pytest.mark.slow
def test_so_it_does_with_the_published_windows(tmp_path: Path) -> None:
    weights = pct_net_weights(trained=(1,), outputs=3)
    path = write_published(tmp_path / "pctnet_ct10k_volf.pt", weights)
    image = image_of(56, 112, 128)  # 28 x 28 x 32, 14 x 14 x 16 and 7 x 7 x 8, in windows of 6
    compare(outputs(path, image), pct_net, image, weights, 1)


@pytest.mark.parametrize(("mode", "patch"), [(0, (32, 16, 48)), (1, (16, 32, 48)), (2, (8, 48, 32)), (2, (4, 32, 32))])
@pytest.mark.parametrize("depth", [1, 2])
def test_an_fm_unet_gives_what_the_published_one_gives(
    tmp_path: Path, mode: int, patch: tuple[int, ...], depth: int
) -> None:
    weights = fm_unet_weights(mode=mode, depth=depth, outputs=3, seed=mode)
    path = write_published(tmp_path / "fmunet_abd1k_volf.pt", weights)
    image = image_of(*patch)
    compare(outputs(path, image), fm_unet, image, weights, mode)


def test_two_volumes_of_a_batch_are_seen_by_themselves(tmp_path: Path) -> None:
    weights = pct_net_weights(trained=(1,), windows=(2, 2, 2), outputs=3)
    path = write_published(tmp_path / "a.pt", weights)
    images = torch.cat([image_of(24, 48, 48), image_of(24, 48, 48).flip(2)])
    compare(outputs(path, images), pct_net, images, weights, 1, 2)


def test_the_comparison_notices_a_table_that_was_not_gathered_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunet_volf.weights.dialects import misfm_pct_net

    monkeypatch.setattr(misfm_pct_net, "rows_of", lambda _, window: torch.arange((2 * window - 1) ** 3))
    weights = pct_net_weights(trained=(1,), windows=(2, 2, 2), outputs=3)
    path = write_published(tmp_path / "a.pt", weights)
    image = image_of(24, 48, 48)
    with pytest.raises(AssertionError):
        compare(outputs(path, image), pct_net, image, weights, 1, 2)
