"""Broken and hostile files of every kind that is read here: a kind and a number always give the same file.

Good files are made once, by `write_seeds`; `spoil` copies those of a kind and damages one of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import dicoms
import mutations
import nibabel
import numpy as np
import pydicom
import SimpleITK
import torch
from archives import SHAPE, affine, body, write_itk, write_nifti
from malicious import LEGACY
from mutations import Mutation, noise
from pretrained_files import network, nnssl_file
from unlabeled import import_scans, write_scans
from weight_files import write_checkpoint, write_planned, write_pretraining

from nnunet_volf.cli import main

# Where things lie in a folder of seeds and of a case: what is given to a command, and nnU-Net's folders.
SOURCE = "source"
RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
ARCHIVE, TARGET = "Dataset501_Archive", "Dataset007_Liver"


@dataclass(frozen=True)
class Kind:
    """Files that are read in one way: how good ones are made, which one is damaged, and how."""

    write: Callable[[Path], None]  # into a folder of its own
    damage: dict[str, tuple[Mutation, ...]]  # by pattern; a number takes a file and one of its mutations


def write_seeds(folder: Path, kinds: Iterable[str]) -> None:
    """Write the good files of some kinds."""
    for name in kinds:
        (folder / name).mkdir(parents=True)
        KINDS[name].write(folder / name)


def spoil(kind: str, number: int, seeds: Path, folder: Path) -> Path:
    """Copy the good files of a kind to a new folder, damage one of them, and return it."""
    shutil.copytree(seeds / kind, folder)
    dice = random.Random(f"{kind} {number}")
    places = [(path, ways) for pattern, ways in KINDS[kind].damage.items() for path in sorted(folder.glob(pattern))]
    path, ways = dice.choice(places)
    damaged = dice.choice(ways)(path.read_bytes().replace(bytes(seeds / kind), _HERE), dice)
    for text in folder.rglob("*.json*"):  # some of our own files hold places
        text.write_bytes(text.read_bytes().replace(bytes(seeds / kind), bytes(folder)))
    path.write_bytes(damaged.replace(_HERE, bytes(folder)))
    return path


_HERE = b"/@corpus@"  # so that a number gives the same damage wherever it is done


# Images. What is known of the layout of headers is from their specifications.

_NIFTI_1 = mutations.fields([
    (0, "i"), (40, "h"), (42, "h"), (44, "h"), (46, "h"), (48, "h"), (50, "h"), (70, "h"), (72, "h"), (76, "f"),
    (80, "f"), (84, "f"), (88, "f"), (108, "f"), (112, "f"), (116, "f"), (123, "B"), (252, "h"), (254, "h"),
    (256, "f"), (260, "f"), (268, "f"), (280, "f"), (292, "f"), (296, "f"), (312, "f"), (344, "I"),
])  # fmt: skip
_NIFTI_2 = mutations.fields([
    (0, "i"), (12, "h"), (14, "h"), (16, "q"), (24, "q"), (32, "q"), (40, "q"), (48, "q"), (104, "d"), (112, "d"),
    (168, "q"), (176, "d"), (184, "d"), (344, "i"), (348, "i"), (352, "d"), (400, "d"), (432, "d"),
])  # fmt: skip


def _nifti(folder: Path) -> None:
    write_nifti(folder / "plain.nii", body(1))
    write_nifti(folder / "packed.nii.gz", body(2).astype(np.float32))
    write_nifti(folder / "moving.nii.gz", np.stack([body(3), body(4)]))
    nibabel.save(nibabel.Nifti2Image(body(5).T, affine()), folder / "second.nii")


def _nrrd(folder: Path) -> None:
    write_itk(folder / "packed.nrrd", body(1))
    write_itk(folder / "plain.nrrd", body(2).astype(np.float32), packed=False)
    write_itk(folder / "apart.nhdr", body(3), packed=False)
    sizes = " ".join(map(str, SHAPE[::-1]))
    text = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nspacings: 1 1 2\nencoding: ascii\n\n"
    (folder / "text.nrrd").write_text(text + " ".join(map(str, body(4).ravel())), encoding="ascii")


def _meta(folder: Path) -> None:
    write_itk(folder / "packed.mha", body(1))
    write_itk(folder / "plain.mha", body(2).astype(np.float32), packed=False)
    write_itk(folder / "apart.mhd", body(3), packed=False)
    write_itk(folder / "packed_apart.mhd", body(4))


def _inside_meta(content: bytes, dice: random.Random) -> bytes:
    start = content.index(b"LOCAL\n") + 6
    return mutations.packed_again(content, start, noise, dice)


# DICOM.


def _dicom(folder: Path) -> None:
    dicoms.write_series(folder / "plain", dicoms.phantom(), modality="CT")
    dicoms.write_series(folder / "rle", dicoms.phantom(seed=1), rle=True)
    dicoms.write_enhanced(folder / "enhanced" / "one.dcm", dicoms.phantom(seed=2), slopes=[1.5] * 8)
    for path in dicoms.write_series(folder / "jpeg", dicoms.phantom((8, 24, 20), seed=3)):
        compress_by_gdcm(path)


def compress_by_gdcm(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG2000")
    writer.SetFileName(str(path.with_suffix(".tmp")))
    writer.Execute(SimpleITK.GetImageFromArray(dataset.pixel_array))
    compressed = pydicom.dcmread(path.with_suffix(".tmp"))
    dataset.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
    dataset.PixelData = compressed.PixelData
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    path.with_suffix(".tmp").unlink()


_LONG_LENGTHS = (b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT", b"OD", b"OL", b"UC", b"UR")


def dicom_value(content: bytes, dice: random.Random) -> bytes:
    """Replace the value of an element of an explicit little-endian file, or lie about its length."""
    places, place = [], 132
    while place + 8 <= len(content):
        wide = content[place + 4 : place + 6] in _LONG_LENGTHS
        start = place + (12 if wide else 8)
        length = struct.unpack_from("<I" if wide else "<H", content, start - (4 if wide else 2))[0]
        if length == 0xFFFFFFFF:  # a sequence, or pixels in pieces: what follows are items
            start, length = start + 8, 0
        places.append((place, start, length, wide))
        place = start + length
    place, start, length, wide = dice.choice(places)
    code, most = ("<I", 2**32 - 1) if wide else ("<H", 2**16 - 1)
    if dice.randrange(5) == 0:
        lie = struct.pack(code, dice.choice((0, 1, most, most - 1, most // 2, length + 2)))
        return content[: start - len(lie)] + lie + content[start:]
    value = dice.choice((*mutations.WORDS, "1\\2", "1\\2\\3\\4\\5\\6\\7")).encode("utf-8", "replace")[: most - 1]
    if length in (2, 4) and dice.randrange(2):
        value = dice.randbytes(length)
    value += b" " * (len(value) % 2)
    kept = start - struct.calcsize(code)
    return content[:kept] + struct.pack(code, len(value)) + value + content[start + length :]


# Lists of images, and descriptions of datasets.


def _few(folder: Path) -> None:
    write_scans(folder, 2, (16, 18, 17))


def _tables(folder: Path) -> None:
    _few(folder)
    names = sorted(path.name for path in folder.glob("*.nii.gz"))
    rows = [f"{name},subject{number},image" for number, name in enumerate(names)]
    (folder / "table.csv").write_text("\n".join(["path,subject,channel", *rows, ""]), encoding="utf-8")
    (folder / "table.tsv").write_text("\n".join(["path", *names, ""]), encoding="utf-8")
    (folder / "list.json").write_text(json.dumps(names), encoding="utf-8")
    tree = {"collection": {"subjects": {"one": {"images": [{"image_path": name} for name in names]}}}}
    (folder / "tree.json").write_text(json.dumps(tree), encoding="utf-8")


def _datasets(folder: Path) -> None:
    for name in ("placed", "listed"):
        _few(folder / name / "imagesTr")
        description = {"channel_names": {"0": "CT"}, "labels": {"background": 0}, "numTraining": 2}
        for path in sorted((folder / name / "imagesTr").iterdir()):
            path.rename(path.with_name(f"{path.name[:8]}_0000.nii.gz"))
        if name == "listed":
            entries = {case: {"images": [f"imagesTr/{case}_0000.nii.gz"]} for case in ("scan_000", "scan_001")}
            description["dataset"] = entries
        (folder / name / "dataset.json").write_text(json.dumps({**description, "file_ending": ".nii.gz"}))


# Our own files, in nnU-Net's folders.


def _imported(folder: Path) -> None:
    _nnunet_folders(folder)
    write_scans(folder / SOURCE, 3, (16, 18, 17))
    import_scans(folder / SOURCE)


def _planned(folder: Path) -> None:
    _imported(folder)
    assert main(["plan", "-d", "501", "-np", "0"]) == 0
    shutil.rmtree(folder / SOURCE)
    write_scans(folder / SOURCE, 3, (16, 18, 17))
    assert main(["preprocess", "-d", "501", "-np", "0"]) == 0
    write_checkpoint(folder / RESULTS / "weights.pth")


def _nnunet_folders(folder: Path) -> None:
    for name in (RAW, PREPROCESSED, RESULTS):
        (folder / name).mkdir()
        os.environ[name] = str(folder / name)


# Weights.


def _weights(folder: Path) -> None:
    _nnunet_folders(folder)
    write_planned(folder / PREPROCESSED)
    source = folder / SOURCE
    source.mkdir()
    write_checkpoint(source / "nnunet.pth")
    write_pretraining(source / "volf.pth", "volf")
    nnssl_file(source / "nnssl.pth", network().state_dict())
    torch.save(network().state_dict(), source / "tensors.pt")
    torch.save(torch.load(source / "nnunet.pth", weights_only=True), source / "stream.pth", **LEGACY)


_TEXT = (mutations.lines, mutations.lines, noise)
_JSON = (mutations.json_text,)
_ZIPPED = mutations.inside_zip({"data.pkl": mutations.pickle_text, "byteorder": noise})

KINDS = {
    "nifti": Kind(_nifti, {
        "plain.nii": (_NIFTI_1, _NIFTI_1, noise), "second.nii": (_NIFTI_2, noise),
        "*.nii.gz": (mutations.inside_gzip(_NIFTI_1), mutations.inside_gzip(_NIFTI_1), mutations.inside_gzip(noise)),
    }),
    "nrrd": Kind(_nrrd, {"*.n*": _TEXT}),
    "meta": Kind(_meta, {"*.m*": _TEXT, "packed.mha": (_inside_meta, mutations.lines), "*raw": (noise,)}),
    "dicom": Kind(_dicom, {"*/*.dcm": (dicom_value, dicom_value, noise)}),
    "table": Kind(_tables, {"*.csv": _TEXT, "*.tsv": _TEXT, "*.json": _JSON}),
    "dataset": Kind(_datasets, {"*/dataset.json": _JSON}),
    "imported": Kind(_imported, {
        f"{RAW}/{ARCHIVE}/dataset.json": _JSON, f"{RAW}/{ARCHIVE}/import/*.jsonl": (mutations.json_lines, noise),
        f"{RAW}/{ARCHIVE}/import/*.txt": _TEXT,
    }),
    "planned": Kind(_planned, {
        f"{PREPROCESSED}/{ARCHIVE}/*.json": _JSON, f"{PREPROCESSED}/{ARCHIVE}/VolFPlans.json": _JSON * 2,
    }),
    "case": Kind(_planned, {f"{PREPROCESSED}/{ARCHIVE}/*/*.b2nd": (noise,)}),
    "weights": Kind(_weights, {
        f"{SOURCE}/[ntv]*.p*": (_ZIPPED, _ZIPPED, noise), f"{SOURCE}/stream.pth": (mutations.pickle_text, noise),
    }),
    "described": Kind(_weights, {
        f"{SOURCE}/*.pth": (mutations.checkpoint,),
    }),
}  # fmt: skip
