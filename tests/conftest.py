"""What every test needs: a quiet and small nnU-Net, and the packages as they would be published."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from nnunet_volf import machine

REPOSITORY = Path(__file__).parent.parent

# Set before torch or matplotlib are imported: no window, no compiler, and threads only for those who ask.
os.environ["MPLBACKEND"] = "Agg"
os.environ["nnUNet_compile"] = "0"
os.environ["nnUNet_def_n_proc"] = "1"
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# The datasets of whoever runs the tests are none of theirs: a number that is taken there would be refused here.
for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.pop(variable, None)
# nnUNetv2_train on a CPU takes as many threads as there are cores, whatever is asked for. Let them sleep while they
# wait: spinning beside other tests made a step of a small network ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# How long an example takes says something of the machine, and nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_report_header() -> str:
    """Tell which nnU-Net and which torch the tests ran with."""
    return ", ".join(f"{package} {version(package)}" for package in ("nnunetv2", "torch", "batchgeneratorsv2"))


class NnUNetFolders(NamedTuple):
    """The three folders that nnU-Net reads from the environment."""

    raw: Path
    preprocessed: Path
    results: Path


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NnUNetFolders:
    """Three empty nnU-Net folders, named by nnU-Net's variables for the time of a test."""
    folders = NnUNetFolders(*(tmp_path / f"nnUNet_{name}" for name in NnUNetFolders._fields))
    for folder in folders:
        folder.mkdir()
        monkeypatch.setenv(folder.name, str(folder))
    return folders


class Published(NamedTuple):
    """The files of a release, and the wheel that the sdist gives."""

    wheel: Path
    sdist: Path
    wheel_from_sdist: Path


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Build the package from a copy of the repository, so that nothing is left behind in it."""
    folder = tmp_path_factory.mktemp("published")
    junk = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(REPOSITORY, folder / "repository", ignore=junk)
    _build("--wheel", folder / "repository", folder / "wheel")
    _build("--sdist", folder / "repository", folder / "sdist")
    (sdist,) = (folder / "sdist").glob("*.tar.gz")
    only_data: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", **only_data)
    (unpacked,) = (folder / "unpacked").iterdir()
    _build("--wheel", unpacked, folder / "wheel_from_sdist")
    (wheel,) = (folder / "wheel").glob("*.whl")
    (again,) = (folder / "wheel_from_sdist").glob("*.whl")
    return Published(wheel, sdist, again)


def _build(kind: str, source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def phantom_dataset(tmp_path_factory: pytest.TempPathFactory) -> NnUNetFolders:
    """A raw and preprocessed phantom dataset, made once by nnU-Net itself; not to be written to."""
    from training import build_phantom_dataset

    base = tmp_path_factory.mktemp("phantoms")
    folders = NnUNetFolders(*(base / name for name in NnUNetFolders._fields))
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in zip(NnUNetFolders._fields, folders, strict=True):
            folder.mkdir()
            patch.setenv(f"nnUNet_{name}", str(folder))
        build_phantom_dataset(folders.raw)
    return folders


@pytest.fixture
def phantoms(
    phantom_dataset: NnUNetFolders, nnunet_folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch
) -> NnUNetFolders:
    """A copy of the phantom dataset for one test, with a loader in the process itself."""
    return copied(phantom_dataset, nnunet_folders, monkeypatch)


def copied(made: NnUNetFolders, folders: NnUNetFolders, monkeypatch: pytest.MonkeyPatch) -> NnUNetFolders:
    """Copy datasets that were made once into a test's own folders; loaders then run in the process itself."""
    shutil.copytree(made.raw, folders.raw, dirs_exist_ok=True)
    shutil.copytree(made.preprocessed, folders.preprocessed, dirs_exist_ok=True)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    return folders


@pytest.fixture(autouse=True)
def same_precision_on_every_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests compare networks to the rounding of float32, also where the CPU has instructions for bfloat16."""
    told = machine.computes_bfloat16
    monkeypatch.setattr(machine, "computes_bfloat16", lambda root=None: root is not None and told(root))


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture of each epoch's progress, which takes ten times as long as such an epoch."""
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda _self, _folder: None)
