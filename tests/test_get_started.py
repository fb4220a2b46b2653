"""The commands of the page "Get started", run one after the other as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, NnUNetFolders
from unlabeled import write_scans

from nnunet_volf.discovery import trainers_folder
from nnunet_volf.phantoms import write_phantom_dataset

PAGE = REPOSITORY / "docs" / "get-started.md"
TASK = "Dataset004_Task"


def blocks() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def environment(nnunet_folders: NnUNetFolders, tmp_path: Path) -> dict[str, str]:
    """What the page asks of its reader: scans, a dataset with labels, and the two variables."""
    write_scans(tmp_path / "scans", 2)
    task = write_phantom_dataset(nnunet_folders.raw, TASK, cases=8, shape=(14, 18, 16))
    (task / "imagesTs").mkdir()
    shutil.copy(task / "imagesTr" / "case_000_0000.nii.gz", task / "imagesTs" / "new_0000.nii.gz")
    found = {**os.environ, "SCANS": str(tmp_path / "scans"), "DEVICE": "cpu", "nnUNet_n_proc_DA": "1"}
    found["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 5):  # it calls no entry points
        found["nnUNet_extTrainer"] = str(trainers_folder())
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)  # ten commands, most of which load nnU-Net, and four trainings in the last
@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="the page is written for a shell of POSIX")
def test_the_page_leads_from_scans_to_a_segmentation_and_a_report(
    environment: dict[str, str], nnunet_folders: NnUNetFolders, tmp_path: Path
) -> None:
    script = "set -euxo pipefail\n" + "\n".join(blocks())
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert (nnunet_folders.raw / "Dataset501_Archive" / "import_report.html").is_file()
    assert (tmp_path / "predicted" / "new.nii.gz").is_file()
    assert re.search(r"encoder.stages.0 .* 100 %", done.stdout), "the check says what is carried over"
    assert len(list(nnunet_folders.results.rglob("report.html"))) == 1


def test_every_step_of_the_page_is_run() -> None:
    shown = "\n".join(blocks())
    for command in ("doctor", "plan_and_preprocess", "--dry-run", "-device", "weights check", "-pretrained_weights",
                    "nnUNetv2_predict", "benchmark 4"):  # fmt: skip
        assert command in shown
