"""nnU-Net's own lookup finds our trainers: however installed, wherever started, in every kind of worker."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import REPOSITORY, Published

from nnunet_volf import _autoload, discovery

TRAINERS = discovery.trainer_names(REPOSITORY / "trainers")
AUTOLOADS = tuple(int(number) for number in version("torch").split(".")[:2]) >= discovery.FIRST_TORCH
needs_autoload = pytest.mark.skipif(not AUTOLOADS, reason="torch before 2.5 does not call entry points")

# Prints the file in which nnU-Net finds each of the trainers named on its command line.
LOOKUP = """
import sys
from nnunet_volf.discovery import resolve_trainer, source_file
for name in sys.argv[1:]:
    print(source_file(resolve_trainer(name)))
"""

OTHER_TRAINER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class {name}(nnUNetTrainer):
    def on_train_start(self):
        pass
"""

WORKERS = """
import multiprocessing
import sys
from nnunet_volf.discovery import resolve_trainer

if __name__ == "__main__":
    resolve_trainer(sys.argv[2])
    worker = multiprocessing.get_context(sys.argv[1]).Process(target=resolve_trainer, args=sys.argv[2:])
    worker.start()
    worker.join()
    sys.exit(worker.exitcode)
"""


def environment(**variables: str) -> dict[str, str]:
    """Return an environment as a user has it: without what torch left in this one, with these variables."""
    ours = {_autoload.VARIABLE, _autoload.OPT_OUT, discovery.TORCH_SWITCH, "PYTHONPATH"}
    return {name: value for name, value in os.environ.items() if name not in ours} | variables


def lookup(
    cwd: Path, *names: str, python: str | Path = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Let nnU-Net look trainers up in a Python started in a folder, with variables set for it."""
    command = [str(python), "-c", LOOKUP, *names]
    return subprocess.run(command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, check=False)


def found_files(done: subprocess.CompletedProcess[str]) -> list[Path]:
    """Return the files that a successful lookup found trainers in."""
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Install a wheel or sdist into an environment of its own that borrows the dependencies of this one."""

    def into_new_environment(package: Path) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, symlinks=os.name != "nt")
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        spec = find_spec("nnunetv2")
        assert spec is not None
        assert spec.origin is not None
        # A folder named in a .pth file is searched last, and the .pth files inside it are not read: so the
        # editable install in this environment does not shine through.
        borrowed = {
            sysconfig.get_path("purelib"),
            sysconfig.get_path("platlib"),
            str(Path(spec.origin).parents[1]),
        }
        Path(packages, "borrowed.pth").write_text("\n".join(borrowed))
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        options = ["--no-deps", "--no-build-isolation", "--force-reinstall"]
        subprocess.run([*pip, *options, str(package)], env=environment(), check=True)
        return python

    return into_new_environment


def test_there_is_a_trainer() -> None:
    assert "nnUNetTrainerVolF" in TRAINERS


@needs_autoload
def test_every_trainer_is_found_without_a_step_from_a_foreign_folder(tmp_path: Path) -> None:
    assert [file.stem for file in found_files(lookup(tmp_path, *TRAINERS))] == list(TRAINERS)


@pytest.mark.slow
@needs_autoload
def test_every_trainer_is_found_when_python_is_started_in_the_checkout() -> None:
    assert [file.stem for file in found_files(lookup(REPOSITORY, *TRAINERS))] == list(TRAINERS)


@pytest.mark.slow
@needs_autoload
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_every_trainer_is_found_in_an_installed(
    kind: str, published: Published, install: Callable[[Path], Path], tmp_path: Path
) -> None:
    python = install(getattr(published, kind))
    files = found_files(lookup(tmp_path, *TRAINERS, python=python))
    assert [file.stem for file in files] == list(TRAINERS)
    assert all(file.is_relative_to(python.parents[1]) for file in files)


@pytest.mark.slow
def test_the_command_prints_a_folder_that_can_be_exported(
    published: Published, install: Callable[[Path], Path], tmp_path: Path
) -> None:
    python = install(published.wheel)
    command = python.parent / "nnunet-volf"
    done = subprocess.run([command, "trainers"], env=environment(), capture_output=True, text=True, check=True)
    variables = {_autoload.VARIABLE: done.stdout.strip(), _autoload.OPT_OUT: "0"}
    files = found_files(lookup(tmp_path, *TRAINERS, python=python, **variables))
    assert {file.parent for file in files} == {Path(done.stdout.strip())}


@needs_autoload
def test_the_users_own_folder_is_kept_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "nnUNetTrainerOfTheUser.py").write_text(OTHER_TRAINER.format(name="nnUNetTrainerOfTheUser"))
    names = ["nnUNetTrainerOfTheUser", *TRAINERS]
    files = found_files(lookup(tmp_path, *names, **{_autoload.VARIABLE: str(tmp_path)}))
    assert [file.stem for file in files] == names


@pytest.mark.slow
@needs_autoload
def test_the_users_own_folder_is_searched_before_ours(tmp_path: Path) -> None:
    file = tmp_path / "nnUNetTrainerVolF.py"
    file.write_text(OTHER_TRAINER.format(name=file.stem))
    assert found_files(lookup(tmp_path, file.stem, **{_autoload.VARIABLE: str(tmp_path)})) == [file]


@pytest.mark.slow
@pytest.mark.parametrize("switch", [_autoload.OPT_OUT, discovery.TORCH_SWITCH])
def test_an_opt_out_is_obeyed_and_the_error_names_the_trainer(switch: str, tmp_path: Path) -> None:
    done = lookup(tmp_path, "nnUNetTrainerVolF", **{switch: "0"})
    assert done.returncode != 0
    assert "VolFError: nnU-Net does not find the trainer nnUNetTrainerVolF. It says: Could not find" in done.stderr


@pytest.mark.slow
@needs_autoload
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_find_the_trainer_too(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    command = [sys.executable, str(script), method, "nnUNetTrainerVolF"]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True)
