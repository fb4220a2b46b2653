"""A made-up head with a tumour in it, as four sequences of a scanner show it: one alone does not tell its three parts.

`draw_head` draws everything that is random and returns one `Body` for each sequence: the same anatomy with looks,
noise and bias field of its own; `render_head` makes their images and the labels. Lengths are in mm, and the head is
about 40 mm wide, so that 44 voxels of 1 mm show all of it. Axes are those of an array: z upwards, y to the back, x to
the left.

    images, labels = render_head(draw_head(np.random.default_rng(0)), (40, 48, 44), (1.0, 1.0, 1.0))

What makes the task need all four:

- Enhancing tumour is what is bright after contrast agent and was not before; a bleed is bright in both.
- The tumour's core, cysts and ventricles are bright in T2, and only the core is in FLAIR as well.
- Oedema is bright in T2 and FLAIR; old scars are in FLAIR only.
- Vessels enhance as tumour does, and are black in T2 and FLAIR.

How bright a tissue is, is drawn for each head and sequence about the mean of the table below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nnunet_volf.rendering import Body, Field, Look, Part, Vector, Wave, as_vector, draw_wave, render

SEQUENCES = ("T1", "T1ce", "T2", "FLAIR")
CLASSES = {"background": 0, "oedema": 1, "core": 2, "enhancing": 3}

_BRAIN = np.array((13.5, 16.0, 14.0))  # the mean half-axes

# Mean brightness in each of the sequences; fat in T1 is 1.
_BRIGHTNESS = {
    "scalp": (0.95, 0.95, 0.75, 0.70),
    "skull": (0.15, 0.15, 0.12, 0.12),
    "fluid": (0.22, 0.22, 0.95, 0.20),
    "grey": (0.50, 0.53, 0.58, 0.58),
    "white": (0.68, 0.70, 0.44, 0.46),
    "deep": (0.58, 0.61, 0.50, 0.53),
    "oedema": (0.47, 0.48, 0.78, 0.82),
    "core": (0.33, 0.37, 0.86, 0.66),
    "enhancing": (0.46, 0.88, 0.66, 0.70),
    "bleed": (0.86, 0.90, 0.62, 0.68),
    "cyst": (0.32, 0.34, 0.88, 0.24),
    "scar": (0.49, 0.50, 0.47, 0.80),
    "vessel": (0.30, 0.90, 0.14, 0.14),
}
_SPREAD = 0.05  # standard deviation of a tissue's brightness between heads
_GRAIN, _COARSE = 0.045, 0.5


def draw_head(rng: np.random.Generator) -> tuple[Body, ...]:
    """Draw a head: a body for each of `SEQUENCES`, which differ in what they show and not in where it is."""
    size = rng.uniform(0.93, 1.07)
    brain = _BRAIN * rng.uniform(0.94, 1.06, size=3) * size
    up = rng.normal(0, 0.8)
    parts = [*_draw_normal(rng, brain), *_draw_mimics(rng, brain), *_draw_tumours(rng, brain)]
    parts = [replace(part, centre=(part.centre[0] + up, *part.centre[1:])) for part in parts]
    displacement = tuple(draw_wave(rng, (10.0, 40.0), 0.35, components=3) for _ in range(8))
    return tuple(_draw_scan(rng, sequence, parts, displacement) for sequence in range(len(SEQUENCES)))


def render_head(
    head: Sequence[Body], shape: Sequence[int], spacing: Sequence[float]
) -> tuple[Field, NDArray[np.uint8]]:
    """Return the images (sequences, *shape) of the middle of a head, and its labels."""
    images, labels = zip(*(render(body, shape, spacing) for body in head), strict=True)
    return np.stack(images), labels[0]


def _draw_scan(rng: np.random.Generator, sequence: int, parts: Sequence[Part], displacement: tuple[Wave, ...]) -> Body:
    looks = {
        tissue: Look(max(0.05, means[sequence] + rng.normal(0, _SPREAD)), _GRAIN, _COARSE)
        for tissue, means in _BRIGHTNESS.items()
    }
    return Body(
        parts=tuple(replace(part, look=looks[part.name]) for part in parts),
        displacement=displacement,
        bias=tuple(draw_wave(rng, (50.0, 120.0), 0.15, components=1) for _ in range(3)),
        noise=float(rng.uniform(0.03, 0.06)),
        gain=float(rng.uniform(200, 1200)),
        seed=int(rng.integers(2**31)),
    )


def _draw_normal(rng: np.random.Generator, brain: NDArray[np.float64]) -> list[Part]:
    """Draw what every head has: scalp, skull, fluid around the brain, grey and white matter, ventricles, nuclei."""
    fluid, skull, scalp = rng.uniform(0.7, 1.6), rng.uniform(1.2, 2.0), rng.uniform(1.2, 2.2)
    ribbon = rng.uniform(2.0, 3.2)
    middle = (0.0, 0.0, 0.0)
    parts = [
        _part("scalp", middle, brain + fluid + skull + scalp),
        _part("skull", middle, brain + fluid + skull),
        _part("fluid", middle, brain + fluid),
        _part("grey", middle, brain),
        _part("white", middle, brain - ribbon),
    ]
    wide = rng.uniform(0.8, 1.3)
    for side in (-1.0, 1.0):
        nucleus = np.array((1.0, -0.5, side * 4.6)) + rng.normal(0, 0.3, size=3)
        parts.append(_part("deep", nucleus, np.array((3.0, 4.2, 1.8)) * rng.uniform(0.9, 1.1, size=3)))
        ventricle = np.array((3.2, 0.5, side * 2.0)) + rng.normal(0, 0.3, size=3)
        radii = np.array((2.0, 6.0, 1.1)) * rng.uniform(0.85, 1.15, size=3) * wide
        parts.append(_part("fluid", ventricle, radii, bend=(-1.5, 0.0, side * 1.5)))
    return parts


def _draw_mimics(rng: np.random.Generator, brain: NDArray[np.float64]) -> list[Part]:
    """Draw what looks like a part of a tumour in some of the sequences, and belongs to no class."""
    parts = []
    for tissue, most in (("bleed", 2), ("cyst", 2), ("scar", 4)):
        for _ in range(rng.integers(most + 1)):
            radii = _draw_size(rng, 1.4, 4.5) * rng.uniform(0.75, 1.25, size=3)
            parts.append(_part(tissue, _draw_place(rng, brain, radii), radii, _draw_angles(rng)))
    for _ in range(2 + rng.integers(3)):
        width, length = rng.uniform(0.7, 1.2), rng.uniform(4.0, 8.0)
        radii = np.array((length, width, width))
        bend = as_vector(np.array((0.0, *rng.normal(0, 1.5, size=2))))
        parts.append(_part("vessel", _draw_place(rng, brain, np.full(3, 3.0)), radii, _draw_angles(rng), bend))
    return parts


def _draw_tumours(rng: np.random.Generator, brain: NDArray[np.float64]) -> list[Part]:
    """Draw one tumour or two: small ones are as frequent as large ones."""
    return [part for _ in range(1 + (rng.random() < 0.25)) for part in _draw_tumour(rng, brain)]


def _draw_tumour(rng: np.random.Generator, brain: NDArray[np.float64]) -> list[Part]:
    """Draw oedema of two lobes around a tumour of two, which is a core inside an enhancing rim, or only one of them."""
    size = _draw_size(rng, 3.0, 6.5)
    swelling = rng.uniform(1.2, 1.6)
    lobes = [size * rng.uniform(0.8, 1.2, size=3), size * rng.uniform(0.5, 0.8) * rng.uniform(0.8, 1.2, size=3)]
    middle = _draw_place(rng, brain, swelling * lobes[0])
    places = [middle, middle + 0.7 * size * _draw_direction(rng)]
    swollen = [middle + 0.3 * size * _draw_direction(rng), middle + 0.6 * size * _draw_direction(rng)]
    angles = [_draw_angles(rng) for _ in lobes]

    kind = rng.random()
    rim = size if kind < 0.1 else 0.0 if kind < 0.25 else max(1.1, rng.uniform(0.2, 0.4) * size)
    parts = [
        _part("oedema", place, swelling * radii, turn)
        for place, radii, turn in zip(swollen, lobes, angles, strict=True)
    ]
    for tissue, thinner in (("enhancing", 0.0), ("core", rim)):
        for place, radii, turn in zip(places, lobes, angles, strict=True):
            if min(radii) - thinner > 0.8:
                parts.append(_part(tissue, place, radii - thinner, turn))
    return parts


def _draw_size(rng: np.random.Generator, smallest: float, largest: float) -> float:
    return math.exp(rng.uniform(math.log(smallest), math.log(largest)))


def _draw_place(
    rng: np.random.Generator, brain: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw where an ellipsoid of these half-axes can be without leaving the brain."""
    place: NDArray[np.float64] = _draw_direction(rng) * rng.random() ** (1 / 3) * np.maximum(brain - max(radii), 0.5)
    return place


def _draw_direction(rng: np.random.Generator) -> NDArray[np.float64]:
    direction = rng.normal(size=3)
    unit: NDArray[np.float64] = direction / np.linalg.norm(direction)
    return unit


def _draw_angles(rng: np.random.Generator) -> Vector:
    return as_vector(rng.uniform(0, math.pi, size=3))


def _part(
    tissue: str,
    centre: Sequence[float] | NDArray[np.float64],
    radii: NDArray[np.float64],
    angles: Vector = (0.0, 0.0, 0.0),
    bend: Vector = (0.0, 0.0, 0.0),
) -> Part:
    """Return a part whose look is still to be drawn, for each sequence."""
    label = CLASSES.get(tissue, 0)
    return Part(tissue, Look(0.0), as_vector(np.asarray(centre)), as_vector(radii), angles, bend, label)
