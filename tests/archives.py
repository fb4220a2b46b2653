"""Small image files of every kind that an archive may hold: good ones, and one of each fault."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray

SHAPE = (16, 18, 20)  # of (z, y, x)
SPACING = (1.0, 1.0, 2.0)  # of (x, y, z)

# Where nibabel and NIfTI keep these fields in the header.
_PIXDIM, _QFORM_CODE, _SROW_Y = 76, 252, 296


class Good(NamedTuple):
    """A file that can be used."""

    name: str
    ending: str
    write: Callable[[Path], None]


class Fault(NamedTuple):
    """A file that must be refused, and the kind of refusal."""

    name: str
    ending: str
    write: Callable[[Path], None]
    kind: str


def body(seed: int = 0, shape: Sequence[int] = SHAPE) -> NDArray[np.int16]:
    """An ellipsoid of tissue in air, in Hounsfield units."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.7
    return (np.where(inside, 40, -1000) + rng.normal(0, 12, size=shape)).astype(np.int16)


def affine(spacing: Sequence[float] = SPACING) -> NDArray[np.float64]:
    """An affine whose axes x and y run right and forward, as NIfTI's do."""
    return np.diag([*spacing, 1.0])


def write_nifti(path: Path, voxels: NDArray[Any], matrix: NDArray[np.float64] | None = None) -> None:
    """Write voxels (..., z, y, x) with nibabel, in their own number type."""
    image = nibabel.Nifti1Image(voxels.T, affine() if matrix is None else matrix, dtype=voxels.dtype)
    nibabel.save(image, path)


def write_itk(
    path: Path,
    voxels: NDArray[Any],
    spacing: Sequence[float] = SPACING,
    direction: Sequence[float] | None = None,
    packed: bool = True,
    vector: bool = False,
) -> None:
    """Write voxels (z, y, x) with SimpleITK in the format of the path's ending."""
    image = SimpleITK.GetImageFromArray(voxels, isVector=vector)
    if image.GetDimension() == 3:
        image.SetSpacing(list(spacing))
    if direction is not None:
        image.SetDirection(list(direction))
    SimpleITK.WriteImage(image, str(path), packed)


def cut(path: Path, share: float = 0.6) -> None:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def patch(path: Path, offset: int, code: str, *values: float) -> None:
    """Overwrite fields of an unpacked NIfTI header."""
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{len(values)}{code}", content, offset, *values)
    path.write_bytes(content)


def good_files() -> list[Good]:
    """One file of each kind that must be read."""
    return [
        Good("int16", ".nii.gz", lambda path: write_nifti(path, body(1))),
        Good("int16_plain", ".nii", lambda path: write_nifti(path, body(2))),
        Good("float", ".nrrd", lambda path: write_itk(path, body(3).astype(np.float32) / 3)),
        Good("short", ".mha", lambda path: write_itk(path, body(4))),
        Good("detached", ".mhd", lambda path: write_itk(path, body(5), packed=False)),
        Good("detached_nrrd", ".nhdr", lambda path: write_itk(path, body(6))),
        Good("slightly_sheared", ".nii.gz", lambda path: write_nifti(path, body(7), _sheared(0.02))),
        Good("one_volume_in_time", ".nii.gz", lambda path: write_nifti(path, body(8)[None])),
        Good("left_handed", ".nii.gz", lambda path: write_nifti(path, body(9), affine((-1.0, 1.0, 2.0)))),
        Good("upper_case", ".NII.GZ", _upper_case),
    ]


def _sheared(by: float) -> NDArray[np.float64]:
    matrix = affine()
    matrix[0, 1] = by
    return matrix


def _upper_case(path: Path) -> None:
    plain = path.with_name("lower.nii.gz")
    write_nifti(plain, body(10))
    plain.rename(path)


def _with(voxel: float) -> NDArray[np.float32]:
    voxels = body().astype(np.float32)
    voxels[8, 9, 10] = voxel
    return voxels


def _spaced(path: Path, *pixdim: float) -> None:
    write_nifti(path, body())
    patch(path, _QFORM_CODE, "h", 0, 0)  # and the code of the sform, which follows
    patch(path, _PIXDIM + 4, "f", *pixdim)


def _endless(path: Path) -> None:
    write_nifti(path, body())
    patch(path, _SROW_Y + 8, "f", 1.7e38, -np.inf)  # of y's row and, next, its offset


def _truncated(path: Path, **how: Any) -> None:
    if path.name.endswith((".nii", ".nii.gz")):
        write_nifti(path, body())
    else:
        write_itk(path, body(), **how)
    cut(path)


def _short_beside(path: Path, ending: str, **how: Any) -> None:
    write_itk(path, body(), **how)
    cut(path.with_name(path.stem + ending))


def _missing_beside(path: Path, ending: str) -> None:
    write_itk(path, body(), packed=False)
    path.with_name(path.stem + ending).unlink()


def _damaged(path: Path) -> None:
    """Flip bits in the middle of the compressed voxels."""
    if path.name.endswith(".nii.gz"):
        write_nifti(path, body())
    else:
        write_itk(path, body())
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 3
    for place in range(middle, middle + 8):
        content[place] ^= 0x55
    path.write_bytes(content)


def _colours(path: Path) -> None:
    voxels = np.zeros(SHAPE[::-1], dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(voxels, affine()), path)


def _junk(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def _web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n", encoding="utf-8")


def _meta_text(path: Path, *lines: str) -> None:
    path.write_text("\n".join(("ObjectType = Image", "NDims = 3", *lines, "")), encoding="utf-8")


def _edited(path: Path, old: str, new: str) -> None:
    """Replace text in the header of a MetaImage."""
    write_itk(path, body())
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode(), 1))


def faults() -> list[Fault]:
    """One file of each fault."""
    vector = np.stack([body()] * 3, axis=-1)
    return [
        Fault("truncated_nifti", ".nii.gz", _truncated, "truncated"),
        Fault("truncated_plain_nifti", ".nii", _truncated, "truncated"),
        Fault("truncated_nrrd", ".nrrd", _truncated, "truncated"),
        Fault("truncated_plain_nrrd", ".nrrd", lambda path: _truncated(path, packed=False), "truncated"),
        Fault("truncated_meta", ".mha", _truncated, "truncated"),
        Fault("truncated_plain_meta", ".mha", lambda path: _truncated(path, packed=False), "truncated"),
        Fault("short_raw", ".mhd", lambda path: _short_beside(path, ".raw", packed=False), "truncated"),
        Fault("short_zraw", ".mhd", lambda path: _short_beside(path, ".zraw"), "truncated"),
        Fault("short_nrrd_raw", ".nhdr", lambda path: _short_beside(path, ".raw", packed=False), "truncated"),
        Fault("missing_raw", ".mhd", lambda path: _missing_beside(path, ".raw"), "unreadable"),
        Fault("missing_nrrd_raw", ".nhdr", lambda path: _missing_beside(path, ".raw"), "unreadable"),
        Fault("damaged_nifti", ".nii.gz", _damaged, "unreadable"),
        Fault("damaged_meta", ".mha", _damaged, "unreadable"),
        Fault("damaged_nrrd", ".nrrd", _damaged, "unreadable"),
        Fault("empty_nifti", ".nii.gz", Path.touch, "empty"),
        Fault("empty_meta", ".mha", Path.touch, "empty"),
        Fault("empty_stream", ".nii.gz", lambda path: path.write_bytes(gzip.compress(b"")) and None, "unreadable"),
        *(Fault(f"junk_{ending[1:]}", ending, _junk, "unreadable") for ending in (".nii.gz", ".nii", ".nrrd", ".mha")),
        *(Fault(f"web_page_{ending[1:]}", ending, _web_page, "unreadable") for ending in (".nii.gz", ".nrrd", ".mha")),
        Fault("header_without_sizes", ".mhd", lambda path: _meta_text(path), "unreadable"),
        Fault(
            "negative_size",
            ".mha",
            lambda path: _meta_text(path, "DimSize = 4 -4 4", "ElementType = MET_SHORT", "ElementDataFile = LOCAL"),
            "unreadable",
        ),
        # Three headers that end ITK 5.4's process.
        Fault("negative_axes", ".mha", lambda path: _edited(path, "NDims = 3", "NDims =-3"), "unreadable"),
        Fault("short_matrix", ".mha", lambda path: _edited(path, "1 0 0 0 1 0 0 0 1", "1 0 0"), "unreadable"),
        Fault("damaged_key", ".mha", lambda path: _edited(path, "Matrix =", "Matrix \xff"), "unreadable"),
        Fault("series_over_time", ".nii.gz", lambda path: write_nifti(path, np.stack([body()] * 3)), "dimensions"),
        Fault("slice", ".nii.gz", lambda path: write_nifti(path, body()[0]), "dimensions"),
        Fault("slice_meta", ".mha", lambda path: write_itk(path, body()[0]), "dimensions"),
        Fault("slice_in_3d", ".nii.gz", lambda path: write_nifti(path, body()[:1]), "dimensions"),
        Fault("colours", ".nii.gz", _colours, "colour"),
        Fault("vector", ".nrrd", lambda path: write_itk(path, vector, vector=True), "colour"),
        Fault("vector_meta", ".mha", lambda path: write_itk(path, vector, vector=True), "colour"),
        Fault("vector_nifti", ".nii.gz", lambda path: write_itk(path, vector, vector=True), "colour"),
        Fault("complex", ".nii.gz", lambda path: write_nifti(path, body().astype(np.complex64)), "colour"),
        Fault("nan", ".nii.gz", lambda path: write_nifti(path, _with(np.nan)), "non-finite"),
        Fault("infinite", ".nrrd", lambda path: write_itk(path, _with(-np.inf)), "non-finite"),
        Fault("constant", ".nii.gz", lambda path: write_nifti(path, np.full(SHAPE, 7, np.int16)), "constant"),
        Fault("too_small", ".mha", lambda path: write_itk(path, body(shape=(7, 18, 20))), "too-small"),
        Fault("no_spacing", ".nii", lambda path: _spaced(path, 0, 0, 0), "spacing"),
        Fault("nan_spacing", ".nii", lambda path: _spaced(path, 1, 1, np.nan), "spacing"),
        Fault("spacing_in_metres", ".nii.gz", lambda path: write_nifti(path, body(), affine((0.001,) * 3)), "spacing"),
        Fault("spacing_in_microns", ".mha", lambda path: write_itk(path, body(), (800, 800, 1000)), "spacing"),
        Fault("one_absurd_spacing", ".nrrd", lambda path: write_itk(path, body(), (0.02, 1, 3)), "spacing"),
        Fault("endless_affine", ".nii", _endless, "direction"),
        Fault("sheared", ".nii.gz", lambda path: write_nifti(path, body(), _sheared(0.3)), "direction"),
        Fault(
            "sheared_meta", ".mha", lambda path: write_itk(path, body(), direction=(1, 0.3, 0, 0, 1, 0, 0, 0, 1)),
            "direction",
        ),
    ]  # fmt: skip


def write_good(folder: Path) -> dict[str, Path]:
    """Write all good files; returns their paths by name."""
    return {file.name: _write(folder, file) for file in good_files()}


def write_faults(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write all faulty files; returns their paths and the kind of refusal by name."""
    return {fault.name: (_write(folder, fault), fault.kind) for fault in faults()}


def _write(folder: Path, file: Good | Fault) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file.name}{file.ending}"
    file.write(path)
    return path
