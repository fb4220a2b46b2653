"""Nothing that says who was scanned leaves a header: words planted wherever one may stand, sought in all output.

Paths may name people, too. They stand in the files that docs/quarantine.md names, and in no other.
"""

from __future__ import annotations

import base64
import gzip
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import blosc2
import numpy as np
import pydicom
import pytest
from conftest import NnUNetFolders
from marked_scans import text_elements, write_marked, write_marked_series
from markers import DATE, NUMBER, TIME, UID, in_bytes, in_file, in_folder, of_header, word, word_of_path
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from training import TRAINER
from unlabeled import NAME

from nnunet_volf.cli import main

Capture = pytest.CaptureFixture[str]

# The value representations of DICOM that hold text, numbers as text, or what identifies.
_KINDS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")

# What docs/quarantine.md says may hold paths of the archive.
HOLD_PATHS = {
    f"nnUNet_raw/{NAME}/dataset.json",
    f"nnUNet_raw/{NAME}/import/journal.jsonl",
    f"nnUNet_raw/{NAME}/import/quarantine.csv",
    f"nnUNet_raw/{NAME}/import/sources.txt",
}


@pytest.fixture(autouse=True)
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


@pytest.fixture
def archive(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """An archive with more than 1,300 words in headers, in folders whose names are words as well."""
    folder = tmp_path / word_of_path("archive")
    write_marked(folder)
    assert len(of_header(set().union(*in_folder(folder).values()))) > 1300
    caplog.clear()
    return folder


def assert_private(folders: Iterable[Path], said: str) -> None:
    """No word of a header is in what was said or written, and words of paths are in the listed files alone."""
    assert of_header(in_bytes(said.encode())) == set()
    for folder in folders:
        found = in_folder(folder)
        assert {name: words for name, words in found.items() if of_header(words)} == {}
        assert {(Path(folder.name) / name).as_posix() for name in found} <= HOLD_PATHS


def test_importing_planning_and_preprocessing_tell_nothing_out_of_headers(
    nnunet_folders: NnUNetFolders, archive: Path, capfd: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    take = ["import", str(archive), "-d", "501", "-n", "Archive", "--most-refused", "1"]
    for command in (take, ["plan", "-d", "501"], ["preprocess", "-d", "501"]):
        assert main([*command, "-np", "0"]) == 0
    manifest = (nnunet_folders.raw / NAME / "import" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["format"] for line in manifest} == {"NIfTI", "NRRD", "MetaImage", "DICOM"}
    assert len((nnunet_folders.raw / NAME / "import" / "quarantine.csv").read_text(encoding="utf-8").splitlines()) > 30
    assert_private(nnunet_folders, "".join((*capfd.readouterr(), caplog.text)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_neither_do_training_exporting_and_a_benchmark_which_fine_tunes(
    phantoms: NnUNetFolders, archive: Path, tmp_path: Path, capfd: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    quick = ["epochs=1", "iterations=2", "validation_samples=2", "panel_every=1", "save_every_epochs=1"]
    given = ["--for", "901", "-np", "0", "-device", "cpu", "--most-refused", "1"]
    assert main(["pretrain", str(archive), *given, "--set", *quick]) == 0
    folder = phantoms.results / NAME / f"{TRAINER}__VolFPlans__3d_fullres" / "fold_all"
    weights, shared = str(folder / "checkpoint_final.pth"), tmp_path / "shared"
    assert main(["weights", "inspect", weights]) == 0
    assert main(["weights", "export", weights, "-o", str(shared / "w.pth")]) == 0
    assert main(["preview", "501", "-p", "VolFPlans", "-o", str(shared / "preview.png")]) == 0

    short = "--labels 2 --seeds 1 --epochs 1 --iterations 2 -device cpu --no-mirroring"
    arms = ["--arms", "scratch", "volf"]
    assert main(["benchmark", "901", "--pretrained", weights, *arms, *short.split()]) == 0
    assert list(phantoms.results.rglob("report.html"))
    said = "".join((*capfd.readouterr(), caplog.text))
    assert_private((*phantoms, shared), said)


def test_patterns_of_channels_match_descriptions_of_series_and_keep_none(
    nnunet_folders: NnUNetFolders, tmp_path: Path, capfd: Capture
) -> None:
    for channel in "ab":
        tags = {"SeriesDescription": f"{word('descript')} x_{channel}.", "StudyInstanceUID": UID}
        write_marked_series(tmp_path / "archive" / channel, ord(channel), slices=10)
        for path in (tmp_path / "archive" / channel).iterdir():
            _set(path, tags)
    patterns = ["--channels", "A=*x_a.*", "B=*x_b.*"]
    assert main(["import", str(tmp_path / "archive"), "-d", "501", "-n", "Archive", "-np", "0", *patterns]) == 0
    assert len(json.loads((nnunet_folders.raw / NAME / "dataset.json").read_text())["dataset"]) == 1
    assert_private(nnunet_folders, "".join(capfd.readouterr()))


def _set(path: Path, tags: dict[str, str]) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(dataset, name, value)
    with pydicom.config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=True)


# ------------------------------------------------------------------------------------ the search finds what it must


def test_every_kind_of_text_element_of_dicom_is_planted_and_found(tmp_path: Path) -> None:
    kinds = {element.VR for element in text_elements()}
    assert sorted(kinds) == list(_KINDS)
    write_marked_series(tmp_path / "series", 0)
    found = in_file(next((tmp_path / "series").iterdir()))
    assert {DATE, TIME, NUMBER, UID} <= found
    assert {word(place).lower() for place in ("00100010", "private1", "nested01", "preamble")} <= found
    assert len(found) > sum(element.VR in ("LO", "PN", "SH", "CS", "LT", "ST", "UT") for element in text_elements())


@pytest.mark.parametrize("hidden", ["utf-16", "gzip", "zip", "b2nd", "png", "png in a page", "file name"])
def test_the_search_finds_a_word_wherever_a_file_may_hide_it(hidden: str, tmp_path: Path) -> None:
    _hide(hidden, word("hidden00"), tmp_path)
    assert set().union(*in_folder(tmp_path).values()) == {word("hidden00").lower()}


def _hide(how: str, text: str, folder: Path) -> None:
    info = PngInfo()
    info.add_text("Comment", text, zip=True)
    picture = folder / "a.png"
    if "png" in how:
        Image.new("L", (40, 40)).save(picture, pnginfo=info)
    if how == "utf-16":
        (folder / "a.txt").write_bytes(text.encode("utf-16-le"))
    elif how == "gzip":
        (folder / "a.gz").write_bytes(gzip.compress(text.encode()))
    elif how == "zip":
        with zipfile.ZipFile(folder / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data.pkl", text * 3)
    elif how == "b2nd":
        case = blosc2.asarray(np.zeros(9), urlpath=str(folder / "a.b2nd"))
        case.schunk.vlmeta["note"] = {"name": text}
    elif how == "png in a page":
        (folder / "a.html").write_text(
            f'<img src="data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}">'
        )
        picture.unlink()
    elif how == "file name":
        (folder / text).touch()
