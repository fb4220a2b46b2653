"""What is published: no package forgotten, nothing beside our own name, and cheap to import."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, Published

import nnunet_volf

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Where each folder of the repository is installed.
ROOMS = {
    "nnunet_volf": "nnunet_volf",
    "trainers": "nnunet_volf.trainers",
    "preprocessing": "nnunet_volf.preprocessing",
}


def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def modules_on_disk() -> dict[str, Path]:
    """Return every Python file of the package by the path it is installed under."""
    installed = {}
    for room, package in ROOMS.items():
        for file in (REPOSITORY / room).rglob("*.py"):
            installed[package.replace(".", "/") + "/" + file.relative_to(REPOSITORY / room).as_posix()] = file
    return installed


def test_every_folder_with_python_files_is_a_declared_package() -> None:
    on_disk = {name.rpartition("/")[0].replace("/", ".") for name in modules_on_disk()}
    assert on_disk == set(project()["tool"]["setuptools"]["packages"])


def test_every_package_has_an_init_file_without_which_editable_installs_fail() -> None:
    folders = {file.parent for file in modules_on_disk().values()}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_version_is_the_same_everywhere() -> None:
    declared = project()["project"]["version"]
    cited = re.search(r"^version: (.+)$", (REPOSITORY / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert nnunet_volf.__version__ == version("nnunet-volf") == declared == cited[1]


def test_an_unknown_attribute_of_the_package_is_named() -> None:
    with pytest.raises(AttributeError, match="module 'nnunet_volf' has no attribute 'fuse'"):
        nnunet_volf.fuse  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize("file", ["README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"])
def test_the_files_that_readers_expect_are_there(file: str) -> None:
    assert (REPOSITORY / file).stat().st_size > 0


def test_torch_is_told_about_the_entry_point() -> None:
    (ours,) = [point for point in entry_points(group="torch.backends") if point.name == "nnunet_volf"]
    assert ours.value == "nnunet_volf._autoload:register"


def test_importing_the_package_and_its_command_line_loads_no_torch() -> None:
    code = (
        "import sys, nnunet_volf._autoload, nnunet_volf.cli, nnunet_volf.discovery, nnunet_volf.machine\n"
        "heavy = {'torch', 'nnunetv2', 'numpy', 'matplotlib', 'SimpleITK'}.intersection(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_wheel_holds_every_module_under_one_name(published: Published) -> None:
    names = set(zipfile.ZipFile(published.wheel).namelist())
    assert {name for name in names if name.endswith(".py")} == set(modules_on_disk())
    assert "nnunet_volf/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {
        "nnunet_volf",
        f"nnunet_volf-{version('nnunet-volf')}.dist-info",
    }


def test_the_sdist_holds_what_is_needed_to_test_and_to_cite(published: Published) -> None:
    with tarfile.open(published.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {file.relative_to(REPOSITORY).as_posix() for file in (REPOSITORY / "tests").rglob("*.py")}
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml", *tests} <= names


def test_the_sdist_gives_the_same_wheel(published: Published) -> None:
    wheels = [zipfile.ZipFile(wheel).infolist() for wheel in (published.wheel, published.wheel_from_sdist)]
    first, second = ({(item.filename, item.CRC) for item in wheel} for wheel in wheels)
    assert first == second
