"""What is found in a folder, a glob, a table and an nnU-Net dataset, and what is passed over."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import NnUNetFolders

from nnunet_volf.errors import DataError
from nnunet_volf.preprocessing.sources import Found, find

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="names there are bytes, not text")
links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def dicom(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(128) + b"DICM" + bytes(20))


def names(found: Found) -> list[str]:
    return [item.name for item in found.items]


def table(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


# --------------------------------------------------------------------------------------------------- folders


def test_images_of_all_formats_are_found_at_every_depth_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "z.nii", "a/b/c/x.nii.gz", "a/y.NRRD", "m.mha", "n/o.mhd", "n/o.raw", "n/p.nhdr", "n/p.zraw")
    found = find(str(tmp_path))
    assert names(found) == ["a/b/c/x.nii.gz", "a/y.NRRD", "m.mha", "n/o.mhd", "n/p.nhdr", "z.nii"]
    assert [Path(item.path).relative_to(tmp_path).as_posix() for item in found.items] == names(found)
    assert not found.ignored  # the voxels of a header are no file of their own


def test_hidden_files_and_folders_and_what_macos_leaves_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "._a.nii.gz", ".b.nii.gz", "__MACOSX/a.nii.gz", ".cache/c.nii.gz", "d/.e/f.nii")
    found = find(str(tmp_path))
    assert names(found) == ["a.nii.gz"]
    assert not found.ignored


def test_labels_of_datasets_inside_a_folder_are_no_images(tmp_path: Path) -> None:
    parts = ("imagesTr", "imagesTs", "labelsTr", "labelsTs")
    touch(tmp_path, *(f"all/Dataset004_X/{part}/a_0000.nii.gz" for part in parts), "labelsTr/b.nii.gz")
    assert names(find(str(tmp_path))) == [
        "all/Dataset004_X/imagesTr/a_0000.nii.gz", "all/Dataset004_X/imagesTs/a_0000.nii.gz", "labelsTr/b.nii.gz",
    ]  # fmt: skip


def test_other_files_are_counted_by_their_ending(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.TXT", "c/d.txt", "README", "e.json", "f.1.2.840")
    assert dict(find(str(tmp_path)).ignored) == {".txt": 2, "no ending": 1, ".json": 1, ".840": 1}


def test_a_name_that_is_only_an_ending_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "nii.gz")
    assert names(find(str(tmp_path))) == ["a.nii.gz"]


def test_dicom_files_stand_for_their_folder_whatever_they_are_called(tmp_path: Path) -> None:
    dicom(tmp_path, "s1/IM0001", "s1/IM0002", "s2/1.2.840.113619.2", "s3/a.DCM", "s4/deep/x.ima", "s4/y.nii.gz")
    dicom(tmp_path, "s5/report.pdf", "s5/voxels.img")
    found = find(str(tmp_path))
    assert [(item.name, item.dicom) for item in found.items] == [
        ("s1", True), ("s2", True), ("s3", True), ("s4/deep", True), ("s4/y.nii.gz", False),
    ]  # fmt: skip
    assert dict(found.ignored) == {".pdf": 1}


def test_dicom_in_the_folder_itself_and_images_beside_it_are_both_found(tmp_path: Path) -> None:
    dicom(tmp_path, "IM1")
    touch(tmp_path, "a.mha")
    found = find(str(tmp_path))
    assert {(Path(item.path), item.dicom) for item in found.items} == {(tmp_path, True), (tmp_path / "a.mha", False)}


@links
def test_links_are_followed_and_a_loop_of_them_ends(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/x.nii.gz", "archive/a/y.nii.gz")
    (tmp_path / "archive/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "archive/a/up").symlink_to(tmp_path / "archive")
    (tmp_path / "archive/itself").symlink_to(tmp_path / "archive/itself")
    (tmp_path / "archive/z.nii.gz").symlink_to(tmp_path / "elsewhere/x.nii.gz")
    assert names(find(str(tmp_path / "archive"))) == ["a/y.nii.gz", "linked/x.nii.gz", "z.nii.gz"]


@links
def test_a_link_to_nothing_is_quarantined(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    found = find(str(tmp_path))
    assert names(found) == ["a.nii.gz"]
    assert [(line.item, line.stage, line.kind) for line in found.quarantined] == [("b.nii.gz", "find", "missing")]


@linux_only
def test_a_name_that_is_no_text_is_quarantined_as_simpleitk_would_end_the_process(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.nii.gz")).touch()
    dicom(tmp_path, os.fsdecode(b"M\xfcller/IM1"))
    found = find(str(tmp_path))
    assert names(found) == ["a.nii.gz"]
    assert [line.kind for line in found.quarantined] == ["unreadable", "unreadable"]
    assert found.quarantined[0].advice == "Rename it."


@linux_only
def test_a_source_whose_name_is_no_text_is_refused_with_a_message_that_can_be_printed(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    folder.mkdir()
    with pytest.raises(DataError, match=r"no UTF-8 text.*link to it") as refused:
        find(str(folder))
    str(refused.value).encode()


def test_a_relative_source_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "archive/x.nii.gz")
    monkeypatch.chdir(tmp_path)
    for source in ("archive", "archive/*.gz", "archive/x.nii.gz", table(tmp_path / "t.csv", "path\narchive/x.nii.gz")):
        (item,) = find(os.path.relpath(source)).items
        assert Path(item.path) == tmp_path / "archive/x.nii.gz", source


# ----------------------------------------------------------------------------------------------------- globs


@pytest.mark.parametrize("absolute", [True, False])
def test_a_glob_takes_what_it_matches_and_names_it_from_the_first_wildcard_on(
    absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "arch/s1/t1.nii.gz", "arch/s1/t2.nii.gz", "arch/s2/deep/t1.nii.gz", "other/t1.nii.gz")
    monkeypatch.chdir(tmp_path)
    root = f"{tmp_path.as_posix()}/" if absolute else ""
    assert names(find(f"{root}arch/**/t1.nii.gz")) == ["s1/t1.nii.gz", "s2/deep/t1.nii.gz"]
    assert names(find(f"{root}arch/s?/t1.nii.gz")) == ["s1/t1.nii.gz"]


def test_folders_that_a_glob_matches_are_searched(tmp_path: Path) -> None:
    touch(tmp_path, "s1/a/x.nii.gz", "s2/y.nii.gz", "t1/z.nii.gz", "s1/.hidden.nii.gz")
    dicom(tmp_path, "s3/IM1")
    found = find(str(tmp_path / "s*"))
    assert [(item.name, item.dicom) for item in found.items] == [
        ("s1/a/x.nii.gz", False), ("s2/y.nii.gz", False), ("s3", True),
    ]  # fmt: skip


def test_a_file_matched_beside_its_folder_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, "s1/a.nii.gz", "s1/b.nii.gz")
    dicom(tmp_path, "s1/IM1", "s1/IM2")
    assert names(find(str(tmp_path / "**"))) == ["s1", "s1/a.nii.gz", "s1/b.nii.gz"]


def test_dicom_files_that_a_glob_matches_stand_for_their_folder_once(tmp_path: Path) -> None:
    dicom(tmp_path, "s1/a.dcm", "s1/b.dcm", "s2/c.dcm")
    assert names(find(str(tmp_path / "*/*.dcm"))) == ["s1", "s2"]


def test_a_glob_that_matches_nothing_finds_nothing(tmp_path: Path) -> None:
    assert find(str(tmp_path / "*.nii.gz")) == Found()


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    assert names(find(str(tmp_path / "a.nii.gz"))) == ["a.nii.gz"]


# ---------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_may_be_written_by_any_program(delimiter: str, encoding: str, tmp_path: Path) -> None:
    touch(tmp_path, "in/a t1.nii.gz", "in/ä.nii.gz")
    rows = [("Subject", " PATH ", "Modality"), ("p1", "in/a t1.nii.gz", "T1"), ("p2", "in/ä.nii.gz", "T2")]
    source = table(tmp_path / "list.csv", "\r\n".join(delimiter.join(row) for row in rows), encoding)
    items = find(source).items
    assert [(item.name, item.subject, item.channel) for item in items] == [
        ("in/a t1.nii.gz", "p1", "T1"), ("in/ä.nii.gz", "p2", "T2"),
    ]  # fmt: skip
    assert Path(items[0].path) == tmp_path / "in/a t1.nii.gz"


def test_absolute_paths_and_paths_beside_the_table_both_work(tmp_path: Path) -> None:
    touch(tmp_path, "far/a.nii.gz", "near/b.nii.gz")
    source = table(tmp_path / "near/list.csv", f"file\n{tmp_path / 'far/a.nii.gz'}\nb.nii.gz\n")
    assert {Path(item.path) for item in find(source).items} == {tmp_path / "far/a.nii.gz", tmp_path / "near/b.nii.gz"}


def test_a_row_without_a_file_is_quarantined_and_the_others_go_on(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "c.txt")
    found = find(table(tmp_path / "list.csv", "path\na.nii.gz\nb.nii.gz\nc.txt\n"))
    assert names(found) == ["a.nii.gz"]
    (line,) = found.quarantined
    assert (line.item, line.stage, line.kind) == ("b.nii.gz", "find", "missing")
    assert "table" in line.reason
    assert "Bring the image back" in line.advice
    assert dict(found.ignored) == {".txt": 1}


def test_a_table_without_paths_says_which_columns_it_has_and_which_it_needs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Row 1 of the table names no image.*uid, age.*path, image_path"):
        find(table(tmp_path / "list.csv", "uid,age\n1,2\n"))


def test_an_empty_table_finds_nothing(tmp_path: Path) -> None:
    assert find(table(tmp_path / "list.csv", "")) == Found()


def test_a_table_in_another_encoding_is_refused_with_a_message(tmp_path: Path) -> None:
    source = table(tmp_path / "list.csv", "path\nMüller.nii.gz\n", "latin-1")
    with pytest.raises(DataError, match="UTF-8"):
        find(source)


def test_dicom_in_a_table_is_named_by_its_folder_or_by_a_file(tmp_path: Path) -> None:
    dicom(tmp_path, "s1/IM1", "s1/IM2", "s2/a.dcm", "s2/b.dcm")
    found = find(table(tmp_path / "list.csv", "path,subject\ns1,p1\ns2/a.dcm,p2\ns2/b.dcm,p2\n"))
    assert [(Path(item.path).name, item.dicom, item.subject) for item in found.items] == [
        ("s1", True, "p1"), ("s2", True, "p2"),
    ]  # fmt: skip


def test_a_folder_in_a_table_is_searched(tmp_path: Path) -> None:
    touch(tmp_path, "p1/a.nii.gz", "p1/deep/b.mha", "p2/readme.txt")
    dicom(tmp_path, "p1/dicom/IM1")
    found = find(table(tmp_path / "list.csv", "path,subject\np1,one\np2,two\n"))
    assert [(item.name, item.dicom, item.subject) for item in found.items] == [
        ("p1/a.nii.gz", False, "one"), ("p1/deep/b.mha", False, "one"), ("p1/dicom", True, "one"),
    ]  # fmt: skip
    assert [(line.item, line.kind) for line in found.quarantined] == [("p2", "missing")]
    assert dict(found.ignored) == {".txt": 1}


@pytest.mark.parametrize("bom", [True, False])
@pytest.mark.parametrize(
    ("content", "subjects"),
    [
        (["a.nii.gz", "b.nii.gz"], [None, None]),
        ([{"path": "a.nii.gz", "subject": "p1", "age": 3}, {"Image": "x", "image": "b.nii.gz"}], ["p1", None]),
        ({"images": ["a.nii.gz", "b.nii.gz"], "version": "1"}, [None, None]),
    ],
)
def test_json_may_be_a_list_of_paths_or_of_rows(content: Any, subjects: list[Any], bom: bool, tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    found = find(table(tmp_path / "list.json", json.dumps(content), "utf-8-sig" if bom else "utf-8"))
    assert [(item.name, item.subject) for item in found.items] == list(
        zip(("a.nii.gz", "b.nii.gz"), subjects, strict=True)
    )


def test_broken_json_is_refused_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.json is not valid JSON"):
        find(table(tmp_path / "list.json", '["a.nii.gz",'))


def nnssl(image: str, modality: str) -> dict[str, Any]:
    masks = {"anonymization_mask": "mask.nii.gz", "anatomy_mask": None}
    return {"name": "x", "image_path": image, "modality": modality, "associated_masks": masks, "image_info": {}}


def test_the_tree_of_nnssl_gives_subjects_by_session_and_channels_by_modality(tmp_path: Path) -> None:
    touch(tmp_path, "mask.nii.gz", *(f"{n}.nii.gz" for n in range(4)))
    sessions = {
        "ses1": {"session_id": "ses1", "images": [nnssl("0.nii.gz", "T1w"), nnssl("1.nii.gz", "T2w")]},
        "ses2": {"session_id": "ses2", "images": [nnssl("2.nii.gz", "T1w")]},
    }
    other = {"ses1": {"session_id": "ses1", "images": [nnssl("3.nii.gz", "T1w")]}}
    subjects = {"a": {"subject_id": "a", "sessions": sessions}, "b": {"subject_id": "b", "sessions": other}}
    tree = {"collection_name": "C", "datasets": {"d": {"name": "D", "dataset_info": None, "subjects": subjects}}}
    items = find(table(tmp_path / "pretrain_data.json", json.dumps(tree))).items
    assert [(item.name, item.channel) for item in items] == [
        ("0.nii.gz", "T1w"), ("1.nii.gz", "T2w"), ("2.nii.gz", "T1w"), ("3.nii.gz", "T1w"),
    ]  # fmt: skip
    assert items[0].subject == items[1].subject
    assert len({item.subject for item in items}) == 3


# --------------------------------------------------------------------------------------------------- nnU-Net


def nnunet(folder: Path, channels: dict[str, str], *files: str, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    touch(folder, *files)
    description = {"channel_names": channels, "labels": {"background": 0}, "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


TWO = {"0": "T1", "1": "T2"}


@pytest.mark.parametrize("how", ["folder", "number", "long number", "name"])
def test_an_nnunet_dataset_gives_both_parts_and_no_labels(how: str, nnunet_folders: NnUNetFolders) -> None:
    files = ("imagesTr/p_1_0000.nii.gz", "imagesTr/p_1_0001.nii.gz", "imagesTs/p_1_0000.nii.gz")
    folder = nnunet(nnunet_folders.raw / "Dataset004_Hip", TWO, *files, "labelsTr/p_1.nii.gz", "labelsTs/p_1.nii.gz")
    sources = {"folder": str(folder), "number": "4", "long number": "004", "name": "Dataset004_Hip"}
    found = find(sources[how])
    assert found.channel_names == ("T1", "T2")
    assert names(found) == list(files)
    assert [item.channel for item in found.items] == ["T1", "T2", "T1"]
    assert found.items[0].subject == found.items[1].subject != found.items[2].subject
    assert all(Path(item.path).is_absolute() for item in found.items)


def test_an_nnunet_dataset_may_have_other_endings_and_old_names_of_channels(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "D", {}, "imagesTr/a_0000.nrrd", "imagesTr/b_0000.mha", modality={"0": "CT"})
    assert find(str(folder)).channel_names == ("CT",)
    assert len(find(str(folder)).items) == 2


def test_what_is_no_channel_or_hidden_in_an_nnunet_dataset_is_left(tmp_path: Path) -> None:
    files = ("imagesTr/a_0000.nii.gz", "imagesTr/._a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/list.txt")
    found = find(str(nnunet(tmp_path / "D", {"0": "CT"}, *files)))
    assert names(found) == ["imagesTr/a_0000.nii.gz"]
    assert dict(found.ignored) == {".gz": 1, ".txt": 1}


@pytest.mark.parametrize("with_images_tr", [True, False])
def test_a_dataset_json_may_say_where_the_images_are(
    with_images_tr: bool, nnunet_folders: NnUNetFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "far/a.nii.gz", "far/env.nii.gz")
    monkeypatch.setenv("FAR_AWAY", str(tmp_path / "far"))
    files = ["imagesTr/c_0000.nii.gz", "imagesTr/d_0000.nii.gz"] if with_images_tr else ["near/c_0000.nii.gz"]
    entries = {
        "A": {"images": [str(tmp_path / "far/a.nii.gz")], "label": "x"},
        "B": {"images": ["$FAR_AWAY/env.nii.gz"], "label": "x"},
        "C": {"images": [files[0]], "label": "x"},
    }
    folder = nnunet(nnunet_folders.raw / "Dataset007_X", {"0": "CT"}, *files, dataset=entries)
    for source in ("7", str(folder)):
        found = find(source)
        paths = {Path(item.path) for item in found.items}
        assert paths == {tmp_path / "far/a.nii.gz", tmp_path / "far/env.nii.gz", *(folder / file for file in files)}


def test_an_image_that_a_dataset_json_lists_and_that_is_not_there_is_quarantined(tmp_path: Path) -> None:
    entries = {"A": {"images": ["gone.nii.gz"]}, "B": {"images": ["imagesTr/b_0000.nii.gz"]}}
    found = find(str(nnunet(tmp_path / "D", {"0": "CT"}, "imagesTr/b_0000.nii.gz", dataset=entries)))
    assert names(found) == ["B/CT"]
    assert [(line.item, line.kind) for line in found.quarantined] == [("A/CT", "missing")]


def test_a_task_of_the_medical_segmentation_decathlon_is_taken_without_its_labels(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/hip_001.nii.gz", "imagesTr/._hip_001.nii.gz", "imagesTs/hip_002.nii.gz")
    touch(tmp_path, "labelsTr/hip_001.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}, "training": [], "test": []}))
    found = find(str(tmp_path))
    assert names(found) == ["imagesTr/hip_001.nii.gz", "imagesTs/hip_002.nii.gz"]
    assert found.channel_names == ("MRI",)


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "has no dataset.json"), ("{", "not valid JSON"), ("{}", "has no 'channel_names'")]
)
def test_a_dataset_that_does_not_say_its_channels_is_refused_with_a_message(
    content: str | None, problem: str, nnunet_folders: NnUNetFolders
) -> None:
    touch(nnunet_folders.raw, "Dataset004_X/imagesTr/a_0000.nii.gz")
    if content is not None:
        (nnunet_folders.raw / "Dataset004_X/dataset.json").write_text(content)
    with pytest.raises(DataError, match=problem):
        find("4")


def test_a_folder_with_some_other_dataset_json_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "dataset.json").write_text('{"name": "BIDS has one too"}')
    assert names(find(str(tmp_path))) == ["a.nii.gz"]


# --------------------------------------------------------------------------------------------------- nothing


def test_a_source_that_is_nothing_says_what_a_source_can_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no folder, file, glob or nnU-Net dataset.*column 'path'"):
        find(str(tmp_path / "nowhere"))


def test_a_dataset_that_is_not_there_says_which_are(nnunet_folders: NnUNetFolders) -> None:
    nnunet(nnunet_folders.raw / "Dataset004_Hip", TWO)
    with pytest.raises(DataError, match=r"Dataset 5 is not there.*Dataset004_Hip"):
        find("5")
