"""The command ``import`` on archives of every kind and every fault."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import archives
import dicoms
import import_tasks
import nibabel
import numpy as np
import pytest
import SimpleITK
from archives import body, write_itk, write_nifti
from conftest import NnUNetFolders
from filelock import FileLock

from nnunet_volf.cli import main
from nnunet_volf.preprocessing import archive as archive_module
from nnunet_volf.preprocessing.imported import imported_dataset
from nnunet_volf.preprocessing.sources import find
from nnunet_volf.preprocessing.volumes import read_volume

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="names there are bytes, not text")
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

NAME = "Dataset501_Archive"
OUTPUTS = ("dataset.json", "import/manifest.jsonl", "import/quarantine.csv", "import_report.html")
# What could say who was scanned; these stand in the names of folders and files, and in headers.
SECRETS = ("Springfield", "Doe_Jane", "doe_jane", "MRN4711", "20010203")


class Archive:
    """A folder of scans and what is imported from it."""

    def __init__(self, source: Path, raw: Path) -> None:
        self.source, self.raw = source, raw
        source.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        return self.raw / NAME

    def add(self, name: str, seed: int, **how: Any) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write = write_nifti if name.endswith((".nii", ".nii.gz")) else write_itk
        write(path, body(seed), **how)
        return path

    def run(self, *arguments: str, source: str | Path | None = None) -> int:
        given = () if "-d" in arguments else ("-d", "501")
        return main(["import", str(source or self.source), *given, "-np", "0", *arguments])

    def cases(self) -> dict[str, list[str]]:
        """Images by case, relative to the archive where they lie there."""
        entries = json.loads((self.folder / "dataset.json").read_text())["dataset"]
        return {case: [self.short(image) for image in entry["images"]] for case, entry in entries.items()}

    def images(self) -> set[str]:
        return {image for images in self.cases().values() for image in images}

    def case_of(self, name: str) -> str:
        return next(case for case, images in self.cases().items() if name in images)

    def short(self, image: str) -> str:
        path = Path(image)
        return path.relative_to(self.source).as_posix() if path.is_relative_to(self.source) else path.name

    def manifest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "import/manifest.jsonl").read_text().splitlines()]

    def quarantine(self) -> list[dict[str, str]]:
        with (self.folder / "import/quarantine.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def kinds(self) -> dict[str, str]:
        return {line["item"]: line["kind"] for line in self.quarantine()}

    def contents(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in OUTPUTS}

    def looks(self) -> int:
        """Lines of the journal: looks at images, by all runs together."""
        return len((self.folder / "import/journal.jsonl").read_bytes().splitlines())


@pytest.fixture
def archive(tmp_path: Path, nnunet_folders: NnUNetFolders) -> Archive:
    return Archive(tmp_path / "archive", nnunet_folders.raw)


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """The message on standard error, less the progress bars."""

    def read() -> str:
        lines = re.split(r"[\r\n]", capsys.readouterr().err)
        return "\n".join(line for line in lines if "nnunet-volf:" in line)

    return read


# ------------------------------------------------------------------------------------- good files and faults


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, str]:
    """One import of every good and every faulty file, with DICOM beside them, and what it printed."""
    base = tmp_path_factory.mktemp("mixed")
    archive = Archive(base / "Springfield", base / "raw")
    archive.raw.mkdir()
    good, faulty = archive.source / "Doe_Jane", archive.source / "MRN4711"
    for folder, files in ((good, archives.good_files()), (faulty, archives.faults())):
        folder.mkdir()
        for file in files:
            file.write(folder / f"{file.name}_20010203{file.ending}")
    dicoms.write_series(archive.source / "Doe_Jane/ct", dicoms.phantom((9, 12, 10)), modality="CT", name="IM")
    dicoms.write_series(archive.source / "MRN4711/scout", dicoms.phantom((3, 12, 10)), image_type=("LOCALIZER",))
    dicoms.write_series(archive.source / "MRN4711/gap", dicoms.phantom((9, 12, 10), 1), missing=(4,))
    (archive.source / "Doe_Jane/ct/._IM0001.dcm").write_bytes(b"\0\5\x16\7 of macOS")
    (archive.source / "notes.doe_jane").touch()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setenv("nnUNet_raw", str(archive.raw))
        assert archive.run("--most-refused", "1") == 0
    return archive, printed.getvalue()


def test_every_fault_is_quarantined_with_its_kind_and_nothing_else_is(mixed: tuple[Archive, str]) -> None:
    archive, _ = mixed
    expected = {f"MRN4711/{fault.name}_20010203{fault.ending}": fault.kind for fault in archives.faults()}
    kinds = archive.kinds()
    in_dicom = {item: kind for item, kind in kinds.items() if item not in expected}
    assert {item: kind for item, kind in kinds.items() if item in expected} == expected
    assert sorted((item.rsplit("/", 1)[0], kind) for item, kind in in_dicom.items()) == [
        ("MRN4711/gap", "missing-slices"), ("MRN4711/scout", "localizer"),
    ]  # fmt: skip
    assert all(re.fullmatch(r"\S+\.dcm \(of \d files, series \w+\)", item) for item in in_dicom)
    assert all(line["reason"] and line["advice"] for line in archive.quarantine())


def test_every_good_file_is_a_case_and_lies_where_it_lay(mixed: tuple[Archive, str]) -> None:
    archive, _ = mixed
    expected = {f"Doe_Jane/{file.name}_20010203{file.ending}" for file in archives.good_files()}
    images = archive.images()
    assert {image for image in images if "/" in image} == expected
    assert len(images) == len(expected) + 1  # and the DICOM series, converted
    (converted,) = (archive.folder / "converted").iterdir()
    assert converted.name in images
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(converted))), dicoms.phantom((9, 12, 10))
    )


def test_the_manifest_tells_the_truth_about_each_case(mixed: tuple[Archive, str]) -> None:
    archive, _ = mixed
    entries = json.loads((archive.folder / "dataset.json").read_text())["dataset"]
    manifest = archive.manifest()
    assert [entry["case"] for entry in manifest] == sorted(entries)
    for entry in manifest:
        volume = read_volume(Path(entries[entry["case"]]["images"][0]))
        assert re.fullmatch("case_[0-9a-f]{12}", entry["case"])
        assert entry["content"].startswith(entry["case"][5:])
        assert entry["shape"] == list(volume.voxels.shape)
        np.testing.assert_allclose(entry["spacing"], volume.spacing[::-1], rtol=1e-5)
        (facts,) = entry["channels"]
        assert (facts["minimum"], facts["maximum"]) == (volume.voxels.min(), volume.voxels.max())
    assert Counter(entry["format"] for entry in manifest) == {"NIfTI": 6, "NRRD": 2, "MetaImage": 2, "DICOM": 1}


def test_the_dataset_can_be_read_as_an_imported_one(
    mixed: tuple[Archive, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", str(mixed[0].raw))
    dataset = imported_dataset("501")
    assert (dataset.name, dataset.channel_names, len(dataset.cases)) == (NAME, ("image",), 11)
    assert all(image.is_file() for case in dataset.cases for image in case.images)


@pytest.mark.parametrize("name", ["import/manifest.jsonl", "import_report.html"])
def test_what_may_be_shown_to_others_names_nobody(name: str, mixed: tuple[Archive, str]) -> None:
    archive, _ = mixed
    text = (archive.folder / name).read_text(encoding="utf-8")
    told = [secret for secret in (*SECRETS, *dicoms.SECRETS.values(), str(archive.source)) if secret in text]
    assert told == []
    named = [file.name for file in archives.faults() if "_" in file.name and file.name in text]
    assert named == []


def test_no_output_and_no_word_on_the_screen_holds_a_header(mixed: tuple[Archive, str]) -> None:
    archive, printed = mixed
    texts = [path.read_text("utf-8") for path in (archive.folder / "import").iterdir()]
    texts += [(archive.folder / name).read_text("utf-8") for name in OUTPUTS]
    printed = printed.replace(str(archive.source), "")
    assert [secret for secret in SECRETS if secret in printed] == []  # also not the ending of "notes.doe_jane"
    for text in [printed, *texts]:
        assert [secret for secret in dicoms.SECRETS.values() if secret in text] == []
    for path in (archive.folder / "converted").iterdir():
        keys = SimpleITK.ReadImage(str(path)).GetMetaDataKeys()
        values = [str(SimpleITK.ReadImage(str(path)).GetMetaData(key)) for key in keys]
        assert [secret for secret in dicoms.SECRETS.values() if secret in " ".join(values)] == []


def test_the_table_on_the_screen_counts_and_names_no_file(mixed: tuple[Archive, str]) -> None:
    _, _, after = mixed[1].partition(f"into {NAME}")
    assert "11 cases" in after
    assert "next: nnunet-volf plan -d 501" in after
    assert not [line for line in after.splitlines() if "MRN4711" in line or "Doe_Jane" in line]


# -------------------------------------------------------------------------------------------- running it again


def test_running_it_again_looks_at_nothing_and_changes_nothing(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        archive.add(f"{seed}.nii.gz", seed)
    archive.add("constant.nrrd", 0).write_bytes(b"no image")
    dicoms.write_series(archive.source / "d", dicoms.phantom((9, 12, 10)))
    assert archive.run() == 0
    before, looks = archive.contents(), archive.looks()
    monkeypatch.setattr(archive_module, "take_in", None)
    assert archive.run() == 0
    assert archive.looks() == looks
    after = archive.contents()
    for name in OUTPUTS[:3]:
        assert after[name] == before[name]
    # The page says how many cases are new; nothing else of it differs.
    archive.run()
    assert archive.contents() == after


def test_a_grown_archive_adds_what_is_new(archive: Archive) -> None:
    archive.add("a.nii.gz", 1)
    archive.run()
    before = archive.cases()
    archive.add("0.nii.gz", 2)
    archive.add("sub/b.mha", 3)
    archive.run()
    assert archive.looks() == 3
    assert before.items() < archive.cases().items()
    assert archive.images() == {"0.nii.gz", "a.nii.gz", "sub/b.mha"}


def test_what_is_removed_from_the_archive_leaves_the_dataset(archive: Archive) -> None:
    for seed, name in enumerate(("a.nii.gz", "b.nii.gz", "broken.nii.gz")):
        archive.add(name, seed)
    archives.cut(archive.source / "broken.nii.gz")
    dicoms.write_series(archive.source / "d", dicoms.phantom((9, 12, 10)))
    dicoms.write_series(archive.source / "e", dicoms.phantom((9, 12, 10), 1))
    archive.run()
    assert len(archive.cases()) == 4
    (archive.source / "a.nii.gz").unlink()
    (archive.source / "broken.nii.gz").unlink()
    shutil.rmtree(archive.source / "d")
    for path in (archive.source / "e").iterdir():
        path.unlink()
    archive.run()
    assert archive.images() == {"b.nii.gz"}
    assert len(archive.manifest()) == 1
    assert archive.quarantine() == []


def test_a_changed_file_is_looked_at_again(archive: Archive) -> None:
    archive.add("a.nii.gz", 1)
    archive.add("b.nii.gz", 2)
    archive.run()
    a, b = archive.case_of("a.nii.gz"), archive.case_of("b.nii.gz")
    archive.add("a.nii.gz", 3)
    archive.run()
    assert archive.looks() == 3
    assert archive.case_of("a.nii.gz") != a
    assert archive.case_of("b.nii.gz") == b


def test_a_renamed_file_keeps_the_name_of_its_case(archive: Archive) -> None:
    archive.add("a.nii.gz", 1)
    archive.run()
    (archive.source / "sub").mkdir()
    (archive.source / "a.nii.gz").rename(archive.source / "sub/z.nii.gz")
    before = archive.manifest()
    archive.run()
    assert archive.cases() == {before[0]["case"]: ["sub/z.nii.gz"]}
    assert archive.manifest() == before


def test_retry_looks_again_at_what_was_refused_and_only_at_that(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("a.nii.gz", 1)
    archive.add("b.nii.gz", 2)

    def storage_fails(task: Any) -> Any:
        return task.name if task.name == "b.nii.gz" and 1 / 0 else real(task)

    real = archive_module.take_in
    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "take_in", storage_fails)
        archive.run()
    assert archive.kinds() == {"b.nii.gz": "error"}
    archive.run()
    assert archive.kinds() == {"b.nii.gz": "error"}
    archive.run("--retry")
    assert archive.kinds() == {}
    assert archive.looks() == 3
    assert archive.images() == {"a.nii.gz", "b.nii.gz"}


def test_two_archives_go_into_one_dataset_though_their_files_have_the_same_names(archive: Archive) -> None:
    archive.add("one/scan.nii.gz", 1)
    archive.add("two/scan.nii.gz", 2)
    archive.run(source=archive.source / "one")
    archive.run(source=archive.source / "two")
    assert archive.images() == {"one/scan.nii.gz", "two/scan.nii.gz"}
    assert archive.quarantine() == []


def test_an_archive_imported_before_finds_its_dataset_by_itself(
    archive: Archive, nnunet_folders: NnUNetFolders
) -> None:
    (nnunet_folders.preprocessed / "Dataset501_Taken").mkdir()
    archive.add("a.nii.gz", 1)
    assert main(["import", str(archive.source), "-np", "0", "-n", "CT-1"]) == 0
    archive.add("b.nii.gz", 2)
    assert main(["import", f"{archive.source}/", "-np", "0"]) == 0
    assert sorted(path.name for path in archive.raw.iterdir()) == ["Dataset502_CT-1"]
    assert len(imported_dataset("502").cases) == 2


def test_a_relative_source_gives_a_dataset_that_is_read_from_anywhere(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive.add("a.nii.gz", 1)
    monkeypatch.chdir(tmp_path)
    assert archive.run(source="archive") == 0
    monkeypatch.chdir("/")
    assert [case.images for case in imported_dataset("501").cases] == [(archive.source / "a.nii.gz",)]


def test_converted_images_that_were_deleted_are_converted_again(archive: Archive) -> None:
    two_grids(archive)
    for seed, name in enumerate(("t1", "t2")):
        tags = {"SeriesDescription": f"x_{name}.nii.gz"}
        dicoms.write_series(archive.source / name, dicoms.phantom((9, 12, 10), seed), study_uid="1.2", tags=tags)
    arguments = (*PAIRS, "--grids", "resample")
    archive.run(*arguments)
    before, files = archive.contents()["dataset.json"], sorted((archive.folder / "converted").iterdir())
    assert len(files) == 3
    shutil.rmtree(archive.folder / "converted")
    archive.run(*arguments)
    assert sorted((archive.folder / "converted").iterdir()) == files
    assert archive.contents()["dataset.json"] == before


def test_an_archive_that_holds_nnunets_folders_does_not_import_its_own_output(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.raw = archive.source / "a_raw"
    archive.raw.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(archive.raw))
    dicoms.write_series(archive.source / "d", dicoms.phantom((9, 12, 10)))
    archive.run()
    archive.run()
    assert archive.quarantine() == []
    assert [entry["format"] for entry in archive.manifest()] == ["DICOM"]


@linux_only
@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_a_name_that_is_no_text_costs_no_other(ending: str, archive: Archive) -> None:
    archive.add("a.nii.gz", 1)
    odd = os.fsencode(archive.source) + b"/M\xfcller" + ending.encode()
    archive.add(f"b{ending}", 2).rename(Path(os.fsdecode(odd)))
    assert archive.run() == 0
    assert archive.images() == {"a.nii.gz"}
    assert b"M\xfcller" in (archive.folder / "import/quarantine.csv").read_bytes()
    before = archive.contents()["dataset.json"]
    assert archive.run() == 0
    assert archive.contents()["dataset.json"] == before


def test_a_file_that_vanishes_while_the_import_runs_costs_no_other(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("a.nii.gz", 1)
    gone = archive.add("b.nii.gz", 2)
    found = find(str(archive.source))
    gone.unlink()
    monkeypatch.setattr("nnunet_volf.preprocessing.sources.find", lambda _source: found)
    assert archive.run() == 0
    assert archive.images() == {"a.nii.gz"}
    assert archive.kinds() == {"b.nii.gz": "unreadable"}


# -------------------------------------------------------------------------------------------- duplicates, known


def test_the_same_voxels_in_other_files_are_taken_once(archive: Archive) -> None:
    archive.add("a.nii.gz", 1)
    archive.add("b.nrrd", 1)
    write_itk(archive.source / "c.mha", body(1).astype(np.float64))
    write_nifti(archive.source / "d.nii", body(1)[:, :, ::-1], archives.affine((-1.0, 1.0, 2.0)))
    archive.add("e.nii.gz", 2)
    archive.run()
    # NIfTI's axes run right and forward where ITK's run left and back: b and c are other scans than a and d.
    assert archive.kinds() == {"c.mha": "duplicate", "d.nii": "duplicate"}
    assert archive.images() == {"a.nii.gz", "b.nrrd", "e.nii.gz"}


def labelled(
    raw: Path, *files: tuple[str, int], channels: tuple[str, ...] = ("CT",), name: str = "Dataset004_T"
) -> Path:
    folder = raw / name
    for file, seed in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_nifti(folder / file, body(seed))
    description = {"channel_names": dict(enumerate(channels)), "labels": {"background": 0}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.fixture
def guarded(archive: Archive) -> Archive:
    """An archive of which four images occur in dataset 4, in three ways of storing them."""
    labelled(archive.raw, ("imagesTr/x_0000.nii.gz", 1), ("imagesTr/y_0000.nii.gz", 2), ("imagesTs/z_0000.nii.gz", 3))
    archive.add("same.nii.gz", 1)
    write_nifti(archive.source / "as_double.nii", body(2).astype(np.float64))
    write_nifti(archive.source / "flipped.nii.gz", body(2)[:, ::-1, ::-1], archives.affine((-1.0, -1.0, 2.0)))
    flipped = body(3)[:, ::-1, ::-1]  # to ITK's left and back
    write_itk(archive.source / "of_tests.nrrd", flipped)
    archive.add("new.nii.gz", 4)
    return archive


def test_images_of_the_target_are_left_out_however_they_are_stored(guarded: Archive) -> None:
    assert guarded.run("--for", "4") == 0
    assert guarded.images() == {"new.nii.gz"}
    reasons = {line["item"]: line["reason"] for line in guarded.quarantine()}
    assert set(reasons) == {"same.nii.gz", "as_double.nii", "flipped.nii.gz", "of_tests.nrrd"}
    assert {line["kind"] for line in guarded.quarantine()} == {"known"}
    assert "imagesTs of dataset 4" in reasons["of_tests.nrrd"]
    assert "imagesTr of dataset 4" in reasons["same.nii.gz"]


def test_exclude_leaves_out_as_well_and_names_may_be_given(guarded: Archive) -> None:
    guarded.run("--exclude", "Dataset004_T")
    assert guarded.images() == {"new.nii.gz"}


def test_keep_known_keeps_them_and_without_it_a_second_run_takes_them_out(guarded: Archive) -> None:
    guarded.run("--for", "4", "--keep-known")
    assert len(guarded.cases()) == 4
    assert Counter(guarded.kinds().values()) == {"duplicate": 1}
    guarded.run("--for", "4")
    assert guarded.images() == {"new.nii.gz"}


def test_the_guard_looks_at_the_dataset_and_not_at_a_folder_of_that_name(
    guarded: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "4").mkdir()
    monkeypatch.chdir(tmp_path)
    guarded.run("--for", "4")
    assert guarded.images() == {"new.nii.gz"}


def test_an_image_of_the_target_that_cannot_be_read_does_not_stop_the_guard_and_is_counted(
    guarded: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    (guarded.raw / "Dataset004_T/imagesTr/bad_0000.nii.gz").write_bytes(b"no image")
    guarded.run("--for", "4")
    assert guarded.images() == {"new.nii.gz"}
    assert "warning: 1 images of dataset 4 cannot be read, so whether they occur here" in capsys.readouterr().out


def test_an_imported_dataset_can_be_excluded_too(archive: Archive) -> None:
    archive.add("one/a.nii.gz", 1)
    archive.add("two/a_again.nii.gz", 1)
    archive.add("two/b.nii.gz", 2)
    archive.run(source=archive.source / "one")
    archive.run("-d", "502", "--exclude", "501", source=archive.source / "two")
    assert [case.images for case in imported_dataset("502").cases] == [(archive.source / "two/b.nii.gz",)]


def test_a_target_that_is_not_there_is_refused_before_anything_is_written(
    archive: Archive, error: Callable[[], str]
) -> None:
    archive.add("a.nii.gz", 1)
    assert archive.run("--for", "4") == 2
    assert "Dataset 4 is not there" in error()
    assert not any(archive.raw.iterdir())


def test_a_target_that_does_not_say_its_channels_is_refused_with_a_message(
    archive: Archive, error: Callable[[], str]
) -> None:
    labelled(archive.raw, ("imagesTr/x_0000.nii.gz", 1))
    (archive.raw / "Dataset004_T/dataset.json").write_text("{")
    archive.add("a.nii.gz", 1)
    assert archive.run("--for", "4") == 2
    assert "not valid JSON" in error()


def test_the_channel_of_the_target_is_taken_over_and_several_have_to_be_told(
    archive: Archive, error: Callable[[], str]
) -> None:
    labelled(archive.raw, ("imagesTr/x_0000.nii.gz", 8))
    labelled(archive.raw, ("imagesTr/x_0000.nii.gz", 8), channels=("T1", "T2"), name="Dataset005_MR")
    archive.add("a.nii.gz", 1)
    archive.run("--for", "4")
    assert imported_dataset("501").channel_names == ("CT",)
    assert archive.run("--for", "5", "-d", "502") == 2
    assert "--channels 'T1=*_0000.nii.gz' 'T2=*_0001.nii.gz'" in error()


# ------------------------------------------------------------------------------------------- channels and grids


def test_channels_are_put_together_and_incomplete_subjects_left_out(archive: Archive) -> None:
    for seed, name in enumerate(("p1_t1", "p1_t2", "p2_t1", "sub/p1_t1", "sub/p1_t2", "p3_flair")):
        archive.add(f"{name}.nii.gz", seed)
    archive.run("--channels", "T1=*_t1.nii.gz", "T2=*_t2.nii.gz")
    assert sorted(archive.cases().values()) == [
        ["p1_t1.nii.gz", "p1_t2.nii.gz"], ["sub/p1_t1.nii.gz", "sub/p1_t2.nii.gz"],
    ]  # fmt: skip
    assert archive.kinds() == {"p2_t1.nii.gz": "incomplete"}
    assert imported_dataset("501").channel_names == ("T1", "T2")
    assert all(len(entry["channels"]) == 2 for entry in archive.manifest())


def test_a_channel_that_comes_later_completes_its_subject(archive: Archive) -> None:
    channels = ("--channels", "T1=*_t1.nii.gz", "T2=*_t2.nii.gz")
    archive.add("p1_t1.nii.gz", 1)
    assert archive.run(*channels) == 2
    archive.add("p1_t2.nii.gz", 2)
    assert archive.run(*channels) == 0
    assert len(archive.cases()) == 1


def test_a_table_tells_channels_and_subjects_and_can_be_corrected(archive: Archive) -> None:
    for seed, name in enumerate("abc"):
        archive.add(f"{name}.nii.gz", seed)
    table = archive.source / "list.csv"
    table.write_text("path,subject,channel\na.nii.gz,p1,T1\nb.nii.gz,p2,T2\nc.nii.gz,p1,PD\n")
    assert archive.run("--channels", "T1", "T2", source=table) == 2
    table.write_text("path,subject,channel\na.nii.gz,p1,T1\nb.nii.gz,p1,T2\nc.nii.gz,p1,PD\n")
    assert archive.run("--channels", "T1", "T2", source=table) == 0
    assert list(archive.cases().values()) == [["a.nii.gz", "b.nii.gz"]]


def test_a_labelled_dataset_is_a_source_with_its_channels(archive: Archive) -> None:
    files = [(f"imagesTr/{case}_000{channel}.nii.gz", channel + 2 * n)
             for n, case in enumerate("xy") for channel in (0, 1)]  # fmt: skip
    folder = labelled(archive.raw, *files, ("labelsTr/x.nii.gz", 9), channels=("T1", "T2"))
    archive.run(source="4")
    dataset = imported_dataset("501")
    assert dataset.channel_names == ("T1", "T2")
    assert {case.images for case in dataset.cases} == {
        tuple(folder / f"imagesTr/{case}_000{channel}.nii.gz" for channel in (0, 1)) for case in "xy"
    }


def two_grids(archive: Archive) -> None:
    archive.add("p1_t1.nii.gz", 1)
    write_nifti(archive.source / "p1_t2.nii.gz", body(2, (20, 22, 24)), archives.affine((0.9, 0.9, 1.7)))
    archive.add("p2_t1.nii.gz", 3)
    far = archives.affine()
    far[:3, 3] = 900
    write_nifti(archive.source / "p2_t2.nii.gz", body(4), far)
    archive.add("p3_t1.nii.gz", 5)
    archive.add("p3_t2.nii.gz", 6)


PAIRS = ("--channels", "T1=*_t1.nii.gz", "T2=*_t2.nii.gz")


def test_channels_on_different_grids_are_refused_unless_asked_otherwise(archive: Archive) -> None:
    two_grids(archive)
    archive.run(*PAIRS)
    assert archive.kinds() == {"p1_t1.nii.gz": "grids", "p2_t1.nii.gz": "grids"}
    assert list(archive.cases().values()) == [["p3_t1.nii.gz", "p3_t2.nii.gz"]]


def test_channels_on_different_grids_are_resampled_onto_the_first(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_grids(archive)
    archive.run(*PAIRS, "--grids", "resample")
    assert archive.kinds() == {"p2_t1.nii.gz": "grids"}
    images = next(images for images in archive.cases().values() if "p1_t1.nii.gz" in images)
    first = SimpleITK.ReadImage(str(archive.source / images[0]))
    second = SimpleITK.ReadImage(str(archive.folder / "converted" / images[1]))
    assert first.GetSize() == second.GetSize()
    np.testing.assert_allclose(first.GetOrigin(), second.GetOrigin())
    before = archive.contents()["dataset.json"]
    monkeypatch.setattr(archive_module, "align", None)
    archive.run(*PAIRS, "--grids", "resample")  # remembered
    assert archive.contents()["dataset.json"] == before
    archive.run(*PAIRS)
    assert len(archive.cases()) == 1


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("time", ["first", "mean"])
def test_a_fourth_axis_is_reduced_by_option(time: str, endian: str, archive: Archive) -> None:
    volumes = np.stack([body(seed) for seed in range(3)])
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(np.dtype(f"{endian}i2"))
    nibabel.save(nibabel.Nifti1Image(volumes.T, archives.affine(), header), archive.source / "film.nii.gz")
    archive.add("a.nii.gz", 9)
    archive.run()
    assert archive.kinds() == {"film.nii.gz": "dimensions"}
    archive.run("--time", time)
    assert archive.kinds() == {}
    (path,) = (archive.folder / "converted").iterdir()
    written = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    expected = volumes[0] if time == "first" else volumes.mean(axis=0)
    np.testing.assert_allclose(written, expected, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ limits


def test_an_import_that_refuses_too_much_stops_and_can_go_on(archive: Archive, error: Callable[[], str]) -> None:
    for number in range(30):
        (archive.source / f"bad{number:02d}.nii.gz").write_bytes(b"no image")
    for seed in range(3):
        archive.add(f"good{seed}.nii.gz", seed)
    assert archive.run() == 2
    message = error()
    assert "20 of the first 20 images were refused (20 unreadable)" in message
    assert "share of 0.5 that --most-refused allows" in message
    assert "--most-refused 1" in message
    assert len(archive.quarantine()) == archive.looks() == 20
    assert not (archive.folder / "dataset.json").exists()
    assert archive.run() == 2, "trying again must not get past it image by image"
    assert "21 of the first 21 images were refused (21 unreadable)" in error()
    assert archive.run("--most-refused", "1") == 0
    assert archive.looks() == 33
    assert len(archive.cases()) == 3


def test_what_every_archive_holds_is_no_reason_to_stop(archive: Archive) -> None:
    archive.add("a.nii.gz", 1)
    for number in range(25):
        dicoms.write_series(archive.source / f"scout{number}", dicoms.phantom((1, 9, 9)), image_type=("LOCALIZER",))
    assert archive.run() == 0


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_share_that_is_none_is_refused(share: str, archive: Archive, error: Callable[[], str]) -> None:
    archive.add("a.nii.gz", 1)
    assert archive.run(f"--most-refused={share}") == 2
    assert "it is a share, above 0 and at most 1" in error()


def test_images_of_no_channel_are_counted(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("a_ct", "a_mask", "b_ct", "b_mask")):
        archive.add(f"{name}.nii.gz", seed)
    assert archive.run("--channels", "CT=*_ct.nii.gz") == 0
    assert "2 images belong to none of the channels and were not looked at" in capsys.readouterr().out
    assert archive.images() == {"a_ct.nii.gz", "b_ct.nii.gz"}


def test_converted_images_that_nothing_refers_to_are_removed(archive: Archive) -> None:
    archive.add("a.nii.gz", 1)
    dicoms.write_series(archive.source / "ct", dicoms.phantom((9, 12, 10)))
    assert archive.run() == 0
    (converted,) = (archive.folder / "converted").iterdir()
    for path in (archive.source / "ct").iterdir():
        path.unlink()
    assert archive.run() == 0
    assert archive.images() == {"a.nii.gz"}
    assert not converted.exists()


def test_a_negative_number_of_workers_is_refused(archive: Archive, error: Callable[[], str]) -> None:
    archive.add("a.nii.gz", 1)
    assert archive.run("-np=-1") == 2
    assert "-np is -1" in error()


def test_where_nothing_can_be_taken_the_kinds_and_the_table_are_named(
    archive: Archive, error: Callable[[], str]
) -> None:
    (archive.source / "bad.nii.gz").write_bytes(b"no image")
    assert archive.run() == 2
    message = error()
    assert "1 unreadable" in message
    assert str(archive.folder / "import/quarantine.csv") in message
    assert archive.kinds() == {"bad.nii.gz": "unreadable"}


def test_a_source_without_images_says_what_it_holds(archive: Archive, error: Callable[[], str]) -> None:
    (archive.source / "a.txt").touch()
    assert archive.run() == 2
    assert "holds no image that can be read. Found there: 1 .txt" in error()
    assert not any(archive.raw.iterdir())


@posix
def test_a_worker_that_dies_costs_its_image_only(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("a", "deadly", "z")):
        archive.add(f"{name}.nii.gz", seed)
    monkeypatch.setattr(archive_module, "take_in", import_tasks.take_in_or_die)
    assert archive.run("-np", "1") == 0
    assert archive.kinds() == {"deadly.nii.gz": "worker"}
    assert archive.images() == {"a.nii.gz", "z.nii.gz"}


# --------------------------------------------------------------------------------------- datasets and their names


def test_a_labelled_dataset_is_not_written_over(archive: Archive, error: Callable[[], str]) -> None:
    folder = labelled(archive.raw, ("imagesTr/x_0000.nii.gz", 1))
    archive.add("a.nii.gz", 1)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert archive.run("-d", "4") == 2
    message = error()
    assert "Dataset004_T exists and was not made by nnunet-volf import" in message
    assert f"give {folder} as the source" in message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_imported_dataset_keeps_its_channels(archive: Archive, error: Callable[[], str]) -> None:
    archive.add("a.nii.gz", 1)
    archive.run("--channels", "CT")
    before = archive.contents()
    assert archive.run("--channels", "MR") == 2
    assert "was imported with --channels CT, and now --channels MR is asked for" in error()
    assert archive.contents() == before


def test_channels_that_matched_nothing_can_be_corrected(archive: Archive) -> None:
    archive.add("a_t1.nii.gz", 1)
    archive.add("a_t2.nii.gz", 2)
    assert archive.run("--channels", "T1=*_T1w.nii.gz", "T2=*_T2w.nii.gz") == 2
    assert archive.run("--channels", "T1=*_t1.nii.gz", "T2=*_t2.nii.gz") == 0
    assert len(archive.cases()) == 1


def test_two_imports_into_one_dataset_do_not_run_at_once(archive: Archive, error: Callable[[], str]) -> None:
    archive.add("a.nii.gz", 1)
    (archive.folder / "import").mkdir(parents=True)
    with FileLock(archive.folder / "import/lock"):
        assert archive.run() == 2
    assert f"Another import into {NAME} is at work" in error()
    assert archive.run() == 0


def test_a_number_that_only_preprocessed_data_or_results_have_is_taken(
    archive: Archive, nnunet_folders: NnUNetFolders, error: Callable[[], str]
) -> None:
    (nnunet_folders.preprocessed / "Dataset004_Heart").mkdir()
    (nnunet_folders.results / "Dataset005_Liver").mkdir()
    archive.add("a.nii.gz", 1)
    for number, name in ((4, "Dataset004_Heart"), (5, "Dataset005_Liver")):
        assert archive.run("-d", str(number)) == 2
        assert f"Number {number} is taken by {name}" in error()
    assert not any(archive.raw.iterdir())


@pytest.mark.parametrize("number", ["0", "1000", "-3"])
def test_a_number_that_nnunet_has_not_is_refused(number: str, archive: Archive, error: Callable[[], str]) -> None:
    archive.add("a.nii.gz", 1)
    assert main(["import", str(archive.source), "-np", "0", f"-d={number}"]) == 2
    assert "dataset numbers go from 1 to 999" in error()


@pytest.mark.parametrize("name", ["a b", "../x", "", "_x", "é/"])
def test_a_name_that_is_no_folder_name_is_refused(name: str, archive: Archive, error: Callable[[], str]) -> None:
    archive.add("a.nii.gz", 1)
    assert archive.run("-n", name) == 2
    assert f"-n is {name!r}" in error()
    assert not any(archive.raw.iterdir())


def test_a_taken_number_with_another_name_is_refused_and_without_a_name_added_to(
    archive: Archive, error: Callable[[], str]
) -> None:
    archive.add("a.nii.gz", 1)
    archive.run("-n", "One")
    assert archive.run("-n", "Two") == 2
    assert "Number 501 is taken by Dataset501_One" in error()
    assert archive.run() == 0
    assert [path.name for path in archive.raw.iterdir()] == ["Dataset501_One"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.add("a.nii.gz", 1)
    archive.add("b.mha", 1)
    dicoms.write_series(archive.source / "d", dicoms.phantom((9, 12, 10)))
    (archive.source / "x.txt").touch()
    assert archive.run("--dry-run") == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in ("1 NIfTI", "1 MetaImage", "1 DICOM folders", "1 .txt", NAME, "image"))
    assert not any(archive.raw.iterdir())


def test_without_nnunets_folder_the_message_says_what_to_set(
    archive: Archive, error: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("a.nii.gz", 1)
    monkeypatch.delenv("nnUNet_raw")
    assert archive.run() == 2
    assert "nnUNet_raw is not set" in error()


# ------------------------------------------------------------------------------------------------------ DICOM


def test_dicom_and_other_files_of_one_folder_are_both_taken(archive: Archive) -> None:
    archive.add("p/a.nii.gz", 1)
    dicoms.write_series(archive.source / "p", dicoms.phantom((9, 12, 10)))
    archive.run()
    assert Counter(entry["format"] for entry in archive.manifest()) == {"NIfTI": 1, "DICOM": 1}


def test_a_series_in_two_folders_is_one_case_though_one_of_them_was_there_first(archive: Archive) -> None:
    uid, voxels, at = dicoms.generate_uid(), dicoms.phantom((16, 12, 10)), dicoms.positions(16)
    dicoms.write_series(archive.source / "disc2", voxels[8:], series_uid=uid, study_uid="1.2", at=at[8:])
    archive.run()
    (first,) = archive.manifest()
    assert first["shape"] == [8, 12, 10]
    dicoms.write_series(archive.source / "disc1", voxels[:8], series_uid=uid, study_uid="1.2", at=at[:8])
    archive.run()
    (second,) = archive.manifest()
    assert second["shape"] == [16, 12, 10]
    assert archive.quarantine() == []


def test_a_series_exported_twice_is_taken_once(archive: Archive) -> None:
    voxels = dicoms.phantom((9, 12, 10))
    dicoms.write_series(archive.source / "a", voxels)
    dicoms.write_series(archive.source / "b", voxels)
    archive.run()
    assert len(archive.cases()) == 1
    assert list(archive.kinds().values()) == ["duplicate"]


def test_a_table_tells_the_subjects_and_channels_of_dicom_too(archive: Archive) -> None:
    for seed, name in enumerate(("x", "y", "z")):
        dicoms.write_series(archive.source / name, dicoms.phantom((9, 12, 10), seed))
    table = archive.source / "list.csv"
    table.write_text("path,subject,channel\nx,p1,T1\ny,p1,T2\nz,p2,T2\n")
    archive.run("--channels", "T1", "T2", source=table)
    assert [len(images) for images in archive.cases().values()] == [2]
    assert list(archive.kinds().values()) == ["incomplete"]


def test_channels_of_a_study_are_told_by_what_their_series_are_called(archive: Archive) -> None:
    for seed, (study, kind) in enumerate((s, k) for s in ("1.2.1", "1.2.2") for k in ("t1", "t2")):
        dicoms.write_series(
            archive.source / f"{seed}", dicoms.phantom((9, 12, 10), seed), study_uid=study,
            tags={"SeriesDescription": f"Jane {kind} axial"},
        )  # fmt: skip
    archive.run("--channels", "T1=* t1 *", "T2=* t2 *")
    assert [len(images) for images in archive.cases().values()] == [2, 2]
    assert "Jane" not in (archive.folder / "import/journal.jsonl").read_text()
