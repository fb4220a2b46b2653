"""A plan for a large archive: disk, hours and machines, computed from rates measured here on scans of its size.

Makes a few CT-like scans of the archive's shape, as compressed NIfTI and as DICOM, imports and preprocesses them in one
thread of this process, and counts the CPU's seconds and the bytes on disk; that is multiplied by the number of scans,
and shared out over the CPUs there will be. What each scan costs beside its voxels is measured by archive.py.

    python benchmarks/scale.py [--scans 100000] [--shape 200 512 512] [--spacing 1.5 0.8 0.8] [--to 1.5 0.8 0.8]
        [--cpus 32] [--machines 4] [--sample 3]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.ndimage import gaussian_filter, zoom
from timing import conditions

HOUR, GB, TB = 3600.0, 1e9, 1e12
SHARED = ("preprocess, float32", "preprocess, float16")  # over machines, by --dask or --part
STAGES = ("import NIfTI", "import DICOM", *SHARED)


@dataclass(frozen=True)
class Rate:
    """What a stage takes for one scan."""

    cpu_seconds: float
    bytes_read: float
    bytes_written: float


@dataclass(frozen=True)
class Row:
    """What a stage takes for a whole archive."""

    stage: str
    core_hours: float
    hours: float
    gigabytes_a_second: float  # read and written, for the CPUs not to wait
    terabytes: float  # written


def plan(rates: dict[str, Rate], scans: int, cpus: int, machines: int) -> list[Row]:
    """Return what each stage takes for an archive. An import has one journal, and so one machine."""
    rows = []
    for stage, rate in rates.items():
        core_hours = scans * rate.cpu_seconds / HOUR
        hours = core_hours / cpus / (machines if stage in SHARED else 1)
        flow = scans * (rate.bytes_read + rate.bytes_written) / (hours * HOUR)
        rows.append(Row(stage, core_hours, hours, flow / GB, scans * rate.bytes_written / TB))
    return rows


def main() -> None:
    """Measure, and print the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--shape", type=int, nargs=3, default=(200, 512, 512), help="z, y, x")
    parser.add_argument("--spacing", type=float, nargs=3, default=(1.5, 0.8, 0.8))
    parser.add_argument("--to", type=float, nargs=3, default=(1.5, 0.8, 0.8), help="the plan's spacing")
    parser.add_argument("--cpus", type=int, default=32, help="of a machine")
    parser.add_argument("--machines", type=int, default=4)
    parser.add_argument("--sample", type=int, default=3, help="scans that are measured")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), args.sample, args.shape, args.spacing, args.to)
    print(conditions())
    print(f"{args.sample} scans of {args.shape} voxels of {args.spacing} mm, int16, resampled to {args.to}")
    print("\n| a scan | CPU s | MB read | MB written |\n|---|---|---|---|")
    for stage, rate in rates.items():
        print(f"| {stage} | {rate.cpu_seconds:.1f} | {rate.bytes_read / 1e6:.0f} | {rate.bytes_written / 1e6:.0f} |")
    print(f"\n{args.scans:,} scans; importing on {args.cpus} CPUs, preprocessing on {args.machines} times that:\n")
    print("| | core hours | hours | GB/s read and written | TB written |\n|---|---|---|---|---|")
    for row in plan(rates, args.scans, args.cpus, args.machines):
        needs = f"{row.hours:.1f} | {row.gigabytes_a_second:.2f} | {row.terabytes:.1f}"
        print(f"| {row.stage} | {row.core_hours:,.0f} | {needs} |")


def measure(
    folder: Path, sample: int, shape: Sequence[int], spacing: Sequence[float], to: Sequence[float]
) -> dict[str, Rate]:
    """Return the rates of all stages."""
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir()
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    for number in range(sample):
        voxels = made_up_ct(shape, number)
        write_nifti(folder / "nifti" / f"scan_{number}.nii.gz", voxels, spacing)
        write_dicom(folder / "dicom" / f"scan_{number}", voxels, spacing)
    nifti, dicom = size_of(folder / "nifti"), size_of(folder / "dicom")
    used = [run("import", str(folder / kind), "-d", str(number)) for number, kind in ((501, "nifti"), (502, "dicom"))]
    run("plan", "-d", "501")
    (dataset,) = (folder / "preprocessed").glob("Dataset501_*")
    with_spacing(dataset / "VolFPlans.json", to)
    converted = size_of(next((folder / "raw").glob("Dataset502_*")) / "converted")
    totals = [(used[0], nifti, 0), (used[1], dicom, converted)]
    for kind in ("float32", "float16"):
        seconds = run("preprocess", "-d", "501", "--dtype", kind)
        totals.append((seconds, nifti, sum(size_of(path) for path in dataset.iterdir() if path.is_dir())))
    return {stage: Rate(*(total / sample for total in row)) for stage, row in zip(STAGES, totals, strict=True)}


def run(*arguments: str) -> float:
    """Run a command of ours here, in one thread, and return the CPU's seconds; libraries are loaded before."""
    from nnunet_volf.cli import main as command

    before = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = command([*arguments, "-np", "0"])
    if code:
        sys.exit(said.getvalue())
    return time.process_time() - before


def made_up_ct(shape: Sequence[int], seed: int) -> NDArray[np.int16]:
    """Return a body of smooth organs in air, with the noise of a scanner: what compresses like a CT."""
    rng = np.random.default_rng(seed)
    small = gaussian_filter(rng.normal(size=[max(4, n // 16) for n in shape]), 1.0)
    organs = zoom(small, [n / m for n, m in zip(shape, small.shape, strict=True)], order=1)
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape[1:])]
    inside = (axes[0] / 0.7) ** 2 + (axes[1] / 0.85) ** 2 < 1
    voxels = np.where(inside, 40 + 400 * organs, -1000) + rng.normal(0, 12, organs.shape)
    return np.clip(np.round(voxels), -1024, 3071).astype(np.int16)


def write_nifti(path: Path, voxels: NDArray[np.int16], spacing: Sequence[float]) -> None:
    """Write a scan as compressed NIfTI."""
    path.parent.mkdir(exist_ok=True)
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing([float(step) for step in reversed(spacing)])
    SimpleITK.WriteImage(image, str(path))


def write_dicom(folder: Path, voxels: NDArray[np.int16], spacing: Sequence[float]) -> None:
    """Write a scan as a series of uncompressed slices."""
    folder.mkdir(parents=True)
    series, study = generate_uid(), generate_uid()
    for number, pixels in enumerate(voxels):
        slice_ = pydicom.Dataset()
        slice_.file_meta = pydicom.dataset.FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = CTImageStorage
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID, slice_.Modality = series, study, "CT"
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        slice_.ImagePositionPatient = [0, 0, number * spacing[0]]
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.InstanceNumber = [spacing[1], spacing[2]], number + 1
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.PixelData = pixels.tobytes()
        slice_.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def with_spacing(plans: Path, spacing: Sequence[float]) -> None:
    """Have plans ask for a spacing."""
    content = json.loads(plans.read_text())
    content["configurations"]["3d_fullres"]["spacing"] = list(spacing)
    plans.write_text(json.dumps(content))


def size_of(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
