"""A scan of a body that is described by ellipsoids: edges that share voxels, texture, a bias field and noise.

Lengths are in mm, and axes those of an array: z upwards, y to the back, x to the left of the body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """How a tissue appears: its brightness (fat is about 1), texture, and how much its inside differs from its rim."""

    brightness: float
    grain: float = 0.04
    coarse: float = 0.5  # share of the texture that is coarse
    inside: float = 0.0


@dataclass(frozen=True)
class Part:
    """One ellipsoid of a body, turned and bent; parts that come later are painted over those before."""

    name: str
    look: Look
    centre: Vector
    radii: Vector
    angles: Vector = (0.0, 0.0, 0.0)  # radians about z, y and x
    bend: Vector = (0.0, 0.0, 0.0)  # mm by which its ends are away from where they would be, were it straight
    label: int = 0


@dataclass(frozen=True)
class Wave:
    """One plane wave of a smooth random field: radians per mm, phase, and height in each component."""

    frequency: Vector
    phase: float
    amplitudes: tuple[float, ...]


@dataclass(frozen=True)
class Body:
    """Everything that decides a scan but for its size and spacing."""

    parts: tuple[Part, ...]
    displacement: tuple[Wave, ...]  # mm
    bias: tuple[Wave, ...]  # logarithm of the coil's sensitivity
    noise: float  # standard deviation, as a share of the brightness of fat
    gain: float  # what the scanner calls the brightness of fat
    seed: int  # of the texture and the noise of single voxels


def draw_wave(rng: np.random.Generator, lengths: tuple[float, float], amplitude: float, components: int) -> Wave:
    """Draw a wave in any direction, with a length in mm from this range and normally distributed amplitudes."""
    direction = rng.normal(size=3)
    frequency = direction * (2 * math.pi / rng.uniform(*lengths) / np.linalg.norm(direction))
    amplitudes = tuple(float(value) for value in rng.normal(0, amplitude, size=components))
    return Wave(as_vector(frequency), rng.uniform(0, 2 * math.pi), amplitudes)


def as_vector(values: NDArray[np.float64]) -> Vector:
    """Return three numbers as plain values, which descriptions are made of."""
    z, y, x = (float(value) for value in values)
    return z, y, x


def render(body: Body, shape: Sequence[int], spacing: Sequence[float]) -> tuple[Field, NDArray[np.uint8]]:
    """Return a scan (*shape) of the middle of a body, and its labels.

    A voxel that an edge passes through holds both tissues in proportion, and the label of the one with more than half.
    """
    rng = np.random.default_rng(body.seed)
    axes = [
        ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * s).reshape([-1 if i == axis else 1 for i in range(3)])
        for axis, (n, s) in enumerate(zip(shape, spacing, strict=True))
    ]
    points = np.stack([np.broadcast_to(axis, tuple(shape)) for axis in axes]) + _field(body.displacement, axes)
    reach = np.abs([wave.amplitudes for wave in body.displacement]).sum(axis=0)
    fine, coarse = (_texture(rng, shape, spacing, scale) for scale in (0.7, 2.0))

    image = np.zeros(tuple(shape), dtype=np.float32)
    labels = np.zeros(tuple(shape), dtype=np.uint8)
    for part in body.parts:
        box = _box(part, axes, reach)
        components = (slice(None), *box)
        share, depth = _share_and_depth(part, points[components], spacing)
        look = part.look
        texture = look.coarse * coarse[box] + (1 - look.coarse) * fine[box]
        own = look.brightness + look.grain * texture + look.inside * depth
        image[box] += share * (own - image[box])
        labels[box][share > 0.5] = part.label

    image *= np.exp(_field(body.bias, axes)[0])
    real, imaginary = rng.normal(0, body.noise, size=(2, *shape)).astype(np.float32)
    return body.gain * np.hypot(image + real, imaginary), labels


def _field(waves: Sequence[Wave], axes: Sequence[Field]) -> Field:
    """Return the sum of waves (components, *shape) on a grid."""
    shape = np.broadcast_shapes(*(axis.shape for axis in axes))
    field = np.zeros((len(waves[0].amplitudes), *shape), dtype=np.float32)
    for wave in waves:
        angle = np.float32(wave.phase) + sum(f * axis for f, axis in zip(wave.frequency, axes, strict=True))
        field += np.multiply.outer(np.array(wave.amplitudes, dtype=np.float32), np.cos(angle))
    return field


def _texture(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], scale: float) -> Field:
    """Return smooth noise with grains of `scale` mm, mean 0 and standard deviation 1."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(size=shape).astype(np.float32), [scale / s for s in spacing])
    texture: Field = noise / noise.std()
    return texture


def _rotation(angles: Vector) -> Field:
    """Return the matrix that leads from the axes of a body to those of a part."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix.astype(np.float32)


def _box(part: Part, axes: Sequence[Field], reach: NDArray[np.float64]) -> tuple[slice, ...]:
    """Return where on a grid a part can be, displaced by no more than `reach` mm."""
    half = np.sqrt(((_rotation(part.angles).T * part.radii) ** 2).sum(axis=1))
    half += np.linalg.norm(part.bend) + reach
    box = []
    for axis, centre, extent in zip(axes, part.centre, half, strict=True):
        ends = np.searchsorted(axis.ravel(), [centre - 1.2 * extent, centre + 1.2 * extent])
        box.append(slice(*(int(end) for end in ends)))
    return tuple(box)


def _share_and_depth(part: Part, points: Field, spacing: Sequence[float]) -> tuple[Field, Field]:
    """Return the share of each voxel that a part fills, and how deep in it the voxel lies: 0 at its rim, 1 well inside.

    The share is that of a flat edge: it falls over the width of a voxel as seen along the normal of the edge, so that
    thick slices have blurred edges above and below.
    """
    rotation = _rotation(part.angles)
    radii = np.array(part.radii, dtype=np.float32).reshape(3, 1, 1, 1)
    centre = np.array(part.centre, dtype=np.float32).reshape(3, 1, 1, 1)
    local = np.einsum("ij,j...->i...", rotation, points - centre)
    longest = int(np.argmax(part.radii))
    if any(part.bend):
        bend = np.array(part.bend, dtype=np.float32).reshape(3, 1, 1, 1)
        local = local - bend * np.clip((local[longest] / part.radii[longest]) ** 2, 0, 2)
    far = np.maximum(np.sqrt(((local / radii) ** 2).sum(axis=0)), 1e-3)
    normal = np.einsum("ji,j...->i...", rotation, local / radii**2)
    steps = np.array(spacing, dtype=np.float32).reshape(3, 1, 1, 1)
    width = np.sqrt(((steps * normal) ** 2).sum(axis=0))  # a uniform edge of the variance of a voxel's projection
    distance = far * (far - 1) / np.maximum(width, 1e-6)  # in voxels, signed, to first order
    return np.clip(0.5 - distance, 0, 1).astype(np.float32), np.clip(2.5 * (1 - far), 0, 1).astype(np.float32)
