"""Names and links that lead elsewhere: read where a user names them, never written to."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from archives import body, write_nifti
from conftest import NnUNetFolders
from unlabeled import import_scans, write_scans
from weight_files import write_planned

from nnunet_volf.cli import main
from nnunet_volf.described import is_file_name
from nnunet_volf.errors import DataError
from nnunet_volf.plans import planned_dataset
from nnunet_volf.preprocessing.dicom_headers import series_in
from nnunet_volf.preprocessing.imported import imported_dataset
from nnunet_volf.preprocessing.sources import find

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="pipes and links")

LEADING_AWAY = [
    "../x", "..", ".", "a/../../x", "/etc/x", "C:\\x", "C:x", "..\\x", "\\\\host\\x", "x\0y", "x\ny", "x" * 300, "con",
    "NUL.txt", "lpt1", "x ", " x", "x.", "", "\u202ex", "a:b", "x?", "x*",
]  # fmt: skip


@pytest.mark.parametrize("name", LEADING_AWAY)
def test_names_that_lead_away_are_no_names_of_files(name: str) -> None:
    assert not is_file_name(name)


@pytest.mark.parametrize("name", ["case_0123456789ab", "nnUNetPlans_3d_fullres", "Größe 1", "a.b", "..a", "console"])
def test_names_are(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize("key", ["data_identifier", "plans_name"])
@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "con"])
def test_plans_write_nowhere_else(nnunet_folders: NnUNetFolders, key: str, name: str) -> None:
    write_planned(nnunet_folders.preprocessed)
    path = nnunet_folders.preprocessed / "Dataset007_Liver" / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    (plans if key in plans else plans["configurations"]["3d_fullres"])[key] = name
    path.write_text(json.dumps(plans))
    with pytest.raises(DataError, match=f"{key} is .*, which is not a name that a file can have"):
        planned_dataset("7")


def test_plans_that_inherit_in_a_circle_are_told(nnunet_folders: NnUNetFolders) -> None:
    write_planned(nnunet_folders.preprocessed, inherits_from="3d_fullres")
    with pytest.raises(DataError, match="inherits from '3d_fullres', which inherits from that"):
        planned_dataset("7").configuration("3d_fullres")


def test_a_manifest_names_no_case_elsewhere(tmp_path: Path, nnunet_folders: NnUNetFolders) -> None:
    write_scans(tmp_path / "scans", 1, (16, 18, 17))
    import_scans(tmp_path / "scans")
    folder = nnunet_folders.raw / "Dataset501_Archive"
    manifest = folder / "import" / "manifest.jsonl"
    entry = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**entry, "case": "../../outside"}) + "\n")
    with pytest.raises(DataError, match=r"line 1: case is .*outside.*which is not a name that a file can have"):
        imported_dataset("501")


@linux_only
def test_pipes_are_not_waited_for_and_links_in_circles_end(tmp_path: Path, nnunet_folders: NnUNetFolders) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    write_nifti(archive / "good.nii.gz", body(1))
    for name in ("pipe.nii.gz", "pipe", "pipe.nrrd"):
        os.mkfifo(archive / name)
    (archive / "circle").symlink_to(archive)
    (archive / "self.nii.gz").symlink_to(archive / "self.nii.gz")
    (archive / "device.nii.gz").symlink_to("/dev/zero")
    found = find(str(archive))
    assert [item.name for item in found.items] == ["good.nii.gz"]
    reasons = {line.item: line.reason for line in found.quarantined}
    for name in ("pipe.nii.gz", "pipe.nrrd", "device.nii.gz"):
        assert "It is no file but a pipe, a socket or a device" in reasons[name]
    os.mkfifo(archive / "pipe.dcm")
    assert series_in(str(archive)) == []
    assert main(["import", str(archive), "-d", "501", "-n", "Archive", "-np", "0"]) == 0


@linux_only
def test_a_link_where_an_output_goes_is_replaced_and_not_followed(
    tmp_path: Path, nnunet_folders: NnUNetFolders
) -> None:
    write_scans(tmp_path / "scans", 2, (16, 18, 17))
    import_scans(tmp_path / "scans")
    folder, outside = nnunet_folders.raw / "Dataset501_Archive", tmp_path / "outside"
    outside.write_text("left alone")
    outputs = ["dataset.json", "import/manifest.jsonl", "import/quarantine.csv", "import_report.html"]
    for name in outputs:
        (folder / name).unlink()
        (folder / name).symlink_to(outside)
    (folder / "dataset.json").unlink()
    import_scans(tmp_path / "scans")
    assert outside.read_text() == "left alone"
    assert not any((folder / name).is_symlink() for name in outputs)


@pytest.mark.parametrize(
    "name", ["x\0y.nii.gz", "a" * 5000 + ".nii.gz", "~nobody-of-that-name/x.nii.gz", "../../../../nowhere/x.nii.gz"]
)
def test_a_table_may_name_anything(tmp_path: Path, name: str) -> None:
    write_nifti(tmp_path / "good.nii.gz", body(1))
    (tmp_path / "table.json").write_text(json.dumps(["good.nii.gz", name]), encoding="utf-8")
    found = find(str(tmp_path / "table.json"))
    assert [item.name for item in found.items] == ["good.nii.gz"]
    assert [line.kind for line in found.quarantined] == ["missing"]


def test_a_dataset_json_with_more_images_than_channels_is_told(tmp_path: Path) -> None:
    description = {"channel_names": {"0": "CT"}, "dataset": {"a": {"images": ["x.nii.gz", "y.nii.gz"]}}}
    (tmp_path / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(DataError, match="lists 2 images for 'a', and names 1 channels"):
        find(str(tmp_path))


def test_a_message_does_not_command_the_terminal(
    tmp_path: Path, nnunet_folders: NnUNetFolders, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "inspect", str(tmp_path / "a\x1b]0;x\x07\u202e.pth")]) == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(capsys.readouterr().err)
