"""Pictures hold what they should show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from nnunet_volf.pretext.volf.panel import PanelCase, class_colours, draw_panel


def case(shape: tuple[int, ...], predicted: bool) -> PanelCase:
    rng = np.random.default_rng(0)
    volume = rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(0, 5, size=shape).astype(np.uint8)
    return PanelCase("a\nb", volume, volume + 1, volume, labels, labels if predicted else None)


@pytest.mark.parametrize("shape", [(8, 12, 10), (12, 10)])
@pytest.mark.parametrize("predicted", [True, False])
def test_a_panel_has_a_column_for_the_prediction_only_if_there_is_one(
    tmp_path: Path, shape: tuple[int, ...], predicted: bool
) -> None:
    path = tmp_path / "deep" / "panel.png"
    draw_panel([case(shape, predicted)] * 2, 4, "title", path)
    rows = 2 * (3 if len(shape) == 3 else 1)
    height, width = image.imread(path).shape[:2]
    assert width == pytest.approx(90 * 2.3 * (5 if predicted else 4), abs=2)
    assert height == pytest.approx(90 * (2.2 * rows + 0.9), abs=2)


@pytest.mark.parametrize("coefficients", [2, 4, 16])
def test_there_is_one_colour_a_class_and_no_two_are_alike(coefficients: int) -> None:
    colours = class_colours(coefficients)
    assert coefficients + 1 == colours.N
    assert len({tuple(np.round(colours(k), 3)) for k in range(coefficients + 1)}) == coefficients + 1


def test_a_panel_of_constant_volumes_is_drawn_without_a_warning(tmp_path: Path) -> None:
    flat = np.zeros((6, 6, 6), dtype=np.float32)
    draw_panel([PanelCase("a", flat, flat, flat, flat.astype(np.uint8))], 4, "title", tmp_path / "panel.png")
