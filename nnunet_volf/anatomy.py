"""A made-up body to try things on: a trunk with organs whose place tells them apart, and whose brightness does not.

`draw_body` draws everything that is random and returns it as plain values; `render` is a pure function that makes a
scan of a body at any size and spacing, with the labels. Lengths are in mm, and the trunk is about 40 mm wide, so that
48 voxels of 1 mm show all of it. Axes are those of an array: z upwards, y to the back, x to the left of the body.

    image, labels = render(draw_body(np.random.default_rng(0)), (48, 48, 48), (1.0, 1.0, 1.0))

What makes the task need context:

- How bright an organ is, is drawn for each body from ranges that overlap, those of the unlabelled tissues included.
- The kidneys of a body look the same; left is left by the side of the spine, and by what else lies on that side.
- Lumps that look like one of the labelled organs lie anywhere between them, and belong to no class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnunet_volf.rendering import Body, Look, Part, Vector, as_vector, draw_wave, render

__all__ = ["MOST_ORGANS", "Body", "class_names", "draw_body", "render"]

_LONG = 200.0  # a half-length beyond every field of view: a tube rather than an ellipsoid


@dataclass(frozen=True)
class _Organ:
    name: str
    centre: Vector
    radii: Vector
    bend: Vector = (0.0, 0.0, 0.0)
    angle: float = 0.0  # about z
    inside: tuple[float, float] = (-0.05, 0.05)

    @property
    def look(self) -> str:
        """Both organs of a pair look the same."""
        return self.name.removeprefix("left_").removeprefix("right_")


def _mirrored(organ: _Organ) -> _Organ:
    (z, y, x), (bend_z, bend_y, bend_x) = organ.centre, organ.bend
    name = organ.name.replace("left_", "right_")
    return replace(organ, name=name, centre=(z, y, -x), bend=(bend_z, bend_y, -bend_x), angle=-organ.angle)


_LEFT_KIDNEY = _Organ("left_kidney", (-3.5, 5.0, 9.5), (6.5, 4.2, 3.6), bend=(0.0, 0.0, -2.0), inside=(-0.25, 0.25))
_LEFT_PSOAS = _Organ("left_psoas", (-12.0, 7.5, 5.8), (9.0, 2.6, 2.2))

# The atlas: the mean body. Labels are given in this order, from 1; organs that are not asked for have none. Where two
# organs touch, the first one wins.
_ORGANS = (
    _LEFT_KIDNEY,
    _mirrored(_LEFT_KIDNEY),
    _Organ("liver", (5.5, -2.5, -9.0), (7.5, 8.5, 7.0), bend=(0.0, 0.0, 1.0), angle=0.3),
    _Organ("spleen", (7.0, 2.5, 12.3), (5.5, 6.0, 3.6), bend=(0.0, 0.0, -1.5), angle=0.3),
    _Organ("aorta", (0.0, 4.4, 2.1), (_LONG, 1.8, 1.8), inside=(0.0, 0.1)),
    _Organ("stomach", (6.5, -5.0, 5.5), (4.8, 4.0, 4.8), angle=-0.4),
    _Organ("vena_cava", (0.0, 4.0, -2.6), (_LONG, 1.6, 2.2), inside=(0.0, 0.1)),
    _Organ("pancreas", (-0.5, -1.5, 1.5), (1.9, 1.9, 6.0), bend=(0.0, 2.5, 0.0), angle=0.2),
    _Organ("gallbladder", (-4.0, -6.5, -6.0), (3.4, 2.3, 2.3)),
    _LEFT_PSOAS,
    _mirrored(_LEFT_PSOAS),
    _Organ("bladder", (-15.0, -3.0, 0.0), (4.5, 3.5, 4.5)),
)
MOST_ORGANS = len(_ORGANS)


def class_names(organs: int = 4) -> dict[str, int]:
    """Return the labels of nnU-Net's ``dataset.json`` for so many labelled organs."""
    return {"background": 0, **{organ.name: label for label, organ in enumerate(_ORGANS[:organs], start=1)}}


def draw_body(rng: np.random.Generator, organs: int = 4) -> Body:
    """Draw a body in which this many organs are labelled; all the others are there, too."""
    if not 1 <= organs <= MOST_ORGANS:
        raise ValueError(f"A body can have 1 to {MOST_ORGANS} labelled organs, not {organs}.")
    size = rng.uniform(0.9, 1.1)
    drawn = _draw_organs(rng, organs)
    lumps = _draw_lumps(rng, [part.look for part in drawn if part.label])
    parts = [*_draw_trunk(rng), *lumps, *reversed(drawn)]
    up = rng.normal(0, 1.5)
    return Body(
        parts=tuple(_scaled(part, size, up) for part in parts),
        displacement=tuple(draw_wave(rng, (20.0, 50.0), 0.5, components=3) for _ in range(8)),
        bias=tuple(draw_wave(rng, (50.0, 120.0), 0.15, components=1) for _ in range(3)),
        noise=float(rng.uniform(0.015, 0.04)),
        gain=float(rng.uniform(200, 1200)),
        seed=int(rng.integers(2**31)),
    )


def _draw_trunk(rng: np.random.Generator) -> list[Part]:
    """Draw what every body has around its organs: fat under the skin, the muscles of the wall, fat inside, a spine."""
    wide, deep = 20.0 * rng.uniform(0.93, 1.07), 15.5 * rng.uniform(0.9, 1.1)
    fat, wall = rng.uniform(1.2, 3.0), rng.uniform(1.0, 1.8)
    muscle = Look(rng.uniform(0.3, 0.6), grain=0.05, coarse=0.2)
    bone = Look(rng.uniform(0.4, 0.8), grain=0.05, coarse=0.3, inside=rng.uniform(0.0, 0.2))
    disc = Look(rng.uniform(0.2, 0.4))

    def tube(name: str, look: Look, thinner: float) -> Part:
        return Part(name, look, (0.0, 0.0, 0.0), (_LONG, deep - thinner, wide - thinner))

    back = deep - fat - wall - 1.5
    period = rng.uniform(6.0, 7.5)
    start = rng.uniform(-period, 0) - 4 * period
    return [
        tube("skin", Look(rng.uniform(0.4, 0.6)), 0.0),
        tube("fat", Look(rng.uniform(0.9, 1.1), grain=0.04), 0.7),
        tube("wall", muscle, fat),
        tube("cavity", Look(rng.uniform(0.75, 1.05), grain=0.05, coarse=0.6), fat + wall),
        *(Part("back_muscle", muscle, (0.0, back, side * 5.0), (_LONG, 3.0, 4.2)) for side in (-1, 1)),
        Part("disc", disc, (0.0, back - 1.5, 0.0), (_LONG, 2.9, 3.3)),
        *(
            Part("vertebra", bone, (start + number * period, back - 1.5, 0.0), (0.5 * period, 3.4, 3.8))
            for number in range(10)
        ),
        Part("canal", Look(rng.uniform(0.2, 0.9)), (0.0, back + 2.2, 0.0), (_LONG, 1.2, 1.5)),
    ]


def _draw_organs(rng: np.random.Generator, organs: int) -> list[Part]:
    """Draw the organs of the atlas: each has a place, size and turn of its own, and pairs share what they look like."""
    looks: dict[str, Look] = {}
    parts = []
    for label, organ in enumerate(_ORGANS, start=1):
        look = Look(rng.uniform(0.25, 0.8), rng.uniform(0.02, 0.07), rng.uniform(0, 1), rng.uniform(*organ.inside))
        angles = np.array([organ.angle, 0.0, 0.0]) + rng.normal(0, 0.15, size=3)
        if organ.radii[0] == _LONG:
            angles[1:] = 0  # a tube that is turned leaves the body
        parts.append(
            Part(
                organ.name,
                looks.setdefault(organ.look, look),
                as_vector(np.array(organ.centre) + rng.normal(0, 0.8, size=3)),
                as_vector(np.array(organ.radii) * rng.uniform(0.85, 1.15, size=3)),
                as_vector(angles),
                organ.bend,
                label if label <= organs else 0,
            )
        )
    return parts


def _draw_lumps(rng: np.random.Generator, looks: Sequence[Look]) -> list[Part]:
    """Draw loops of bowel, and lumps with the looks of labelled organs, anywhere in the cavity."""
    parts = []
    bowel = Look(rng.uniform(0.3, 0.8), grain=0.06, coarse=0.8, inside=rng.uniform(-0.3, 0.2))
    for number in range(12 + rng.integers(6)):
        angle, far = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0, 0.8))
        centre = (rng.uniform(-20, 14), -1.0 + 7.5 * far * math.sin(angle), 12 * far * math.cos(angle))
        look = bowel if number < 9 else looks[int(rng.integers(len(looks)))]
        radii = rng.uniform(1.5, 3.2, size=3)
        parts.append(Part("lump", look, centre, as_vector(radii), as_vector(rng.uniform(0, math.pi, size=3))))
    return parts


def _scaled(part: Part, size: float, up: float) -> Part:
    z, y, x = (size * value for value in part.centre)
    radii, bend = (as_vector(size * np.array(values)) for values in (part.radii, part.bend))
    return replace(part, centre=(z + up, y, x), radii=radii, bend=bend)
