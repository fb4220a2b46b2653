"""An archive whose headers name a person wherever a header can: every text element of DICOM, and all other formats.

Some of its files are whole, and some are damaged just there, as a message that quotes a broken value names it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from archives import affine, body, cut, write_itk
from dicoms import phantom, write_series
from markers import DATE, NUMBER, TIME, UID, word, word_of_path
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from nnunet_volf.phantoms import make_phantom
from nnunet_volf.preprocessing.dicom_frames import FRAME_TAGS
from nnunet_volf.preprocessing.dicom_headers import _TAGS as HEADER_TAGS

_WORDS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_OTHERS = {"AS": "737Y", "DA": DATE, "DT": f"{DATE}{TIME}", "TM": TIME, "DS": NUMBER, "IS": NUMBER, "UI": UID}
_READ = [tag for tag in (*HEADER_TAGS, *FRAME_TAGS) if isinstance(tag, str)]  # the others are makers' own
_PIXELS = 0x0028  # the group that says how pixels are stored
_CHARACTER_SET = 0x00080005  # how all other texts are written


def write_marked(folder: Path) -> None:
    """Write whole and broken scans of every format; folders are named after the person as well."""
    person = folder / word_of_path("folder")
    for number, write in enumerate((_write_nifti, _write_nrrd, _write_meta)):
        for seed in range(2):
            write(person / f"{word_of_path('file')}_{number}_{seed}", seed + 10 * number)
    for seed in range(2):
        write_marked_series(person / f"series_{seed}", seed, slices=16)
    write_broken_series(person / "broken")
    _write_broken_files(person)


def write_marked_series(folder: Path, seed: int, slices: int = 6, **how: Any) -> None:
    image, _ = make_phantom(np.random.default_rng(seed + 70), (slices, 26, 24))
    for path in write_series(folder, np.round(image[0] * 4).astype(np.int16), spacing=(1.0, 1.0, 1.2), **how):
        mark_dicom(path)


def mark_dicom(path: Path) -> None:
    """Fill every text element that DICOM knows, makers' own ones, items of sequences, and the preamble."""
    dataset = pydicom.dcmread(path)
    dataset.update(text_elements())
    dataset.add(_element(0x0008103E, "LO", word("0008103e")))  # the series description, which channels are matched with
    for name in ("SeriesInstanceUID", "StudyInstanceUID"):
        setattr(dataset, name, f"{UID}.{len(path.parent.name)}.{sum(map(ord, path.parent.name))}")
    nested = Dataset()
    nested.add(_element(0x00100010, "PN", word("nested01")))
    dataset.RequestAttributesSequence = dataset.OtherPatientIDsSequence = [nested]
    private = dataset.private_block(0x0019, word("privateb"), create=True)
    private.add_new(0x01, "LO", word("private1"))
    private.add_new(0x02, "UN", word("private2").encode())
    dataset.preamble = word("preamble").encode().ljust(128, b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = word("0002aeti")
    with pydicom.config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=True)


def write_broken_series(folder: Path) -> None:
    """Write a series for each element that is read, with a name in it on one slice; and files that end within names."""
    for number, tag in enumerate(_READ):
        paths = write_series(folder / f"value_{number}", phantom((6, 12, 10), number))
        dataset = pydicom.dcmread(paths[2])
        number_of_tag = pydicom.datadict.tag_for_keyword(tag)
        kind = "LO" if tag.endswith("Sequence") else pydicom.datadict.dictionary_VR(number_of_tag)
        value = word("broken00").encode() + b" "
        dataset[tag] = RawDataElement(Tag(number_of_tag), kind, len(value), value, 0, False, True)
        with pydicom.config.disable_value_validation():
            dataset.save_as(paths[2])
    for share in (0.02, 0.1, 0.3, 0.5, 0.9):
        write_marked_series(folder / f"cut_{share}", 40)
        cut(min((folder / f"cut_{share}").iterdir()), share)
    write_marked_series(folder / "scout", 41, image_type=("LOCALIZER",))
    write_marked_series(folder / "gap", 42, missing=(3,))


@cache
def text_elements() -> Dataset:
    """Return every element of DICOM's dictionary that holds text, but those that say how the rest is read."""
    marked = Dataset()
    for number, (kind, count, _, retired, keyword) in DicomDictionary.items():
        if retired or not keyword or keyword in _READ or number == _CHARACTER_SET:
            continue
        value = word(f"{number:08x}") if kind in _WORDS else _OTHERS.get(kind)
        if value is not None and count != "0" and number >> 16 not in (0x0000, 0x0002, _PIXELS):
            marked.add(_element(number, kind, value))
    return marked


def _element(tag: int, kind: str, value: Any) -> DataElement:
    return DataElement(tag, kind if isinstance(value, str) else "UN", value, validation_mode=pydicom.config.IGNORE)


def _write_nifti(stem: Path, seed: int) -> None:
    image = nibabel.Nifti1Image(body(seed).T, affine())
    header = image.header
    for field, size in (("descrip", 80), ("aux_file", 24), ("intent_name", 16), ("db_name", 18), ("data_type", 10)):
        header[field] = word(f"nii{field}").encode()[:size]
    for code in (2, 4, 6):  # DICOM, AFNI, comment
        header.extensions.append(nibabel.nifti1.Nifti1Extension(code, word(f"niiext{code}").encode()))
    stem.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, stem.with_name(f"{stem.name}.nii.gz"))


def _write_nrrd(stem: Path, seed: int) -> None:
    path = stem.with_name(f"{stem.name}.nrrd")
    write_itk(path, body(seed))
    first, _, rest = path.read_bytes().partition(b"\n")
    lines = (f"# {word('nrrdcomm')}", f"content: {word('nrrdcont')}", f"PatientName:={word('nrrdkey1')}")
    path.write_bytes(b"\n".join((first, *(line.encode() for line in lines), rest)))


def _write_meta(stem: Path, seed: int) -> None:
    path = stem.with_name(f"{stem.name}.mha")
    write_itk(path, body(seed))
    lines = (f"Comment = {word('metacomm')}", f"Name = {word('metaname')}", f"PatientName = {word('metakey1')}")
    first, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(b"\n".join((first, *(line.encode() for line in lines), rest)))


def _write_broken_files(folder: Path) -> None:
    for share in (0.01, 0.05, 0.7):
        for write, ending in ((_write_nifti, ".nii.gz"), (_write_nrrd, ".nrrd"), (_write_meta, ".mha")):
            write(folder / f"cut_{share}", 50)
            cut(folder / f"cut_{share}{ending}", share)
    for ending, old in ((".nrrd", b"type: short"), (".nrrd", b"sizes: 20"), (".nrrd", b"encoding: gzip"),
                        (".mha", b"MET_SHORT"), (".mha", b"NDims = 3"), (".mha", b"DimSize = 20")):  # fmt: skip
        path = folder / f"value_{len(list(folder.iterdir()))}{ending}"
        write_itk(path, body(51))
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, old + word("broken01").encode(), 1))
