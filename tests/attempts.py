"""What is done with a broken or hostile file, and what must hold whatever is in it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from corpus import PREPROCESSED, RAW, RESULTS, SOURCE, spoil
from surroundings import Surroundings, stamps

from nnunet_volf.errors import VolFError

MOST_SECONDS = 20.0  # of the processor, as the machine may be busy with other things
PATIENCE = 300.0  # until a process that only waits is taken for one that hangs
# Beyond what the process has: libraries that are loaded on the way, and a network of the smallest plans.
MOST_MEMORY = 400 << 20
LONGEST_MESSAGE = 2500

_OUTSIDE = "outside"


@dataclass(frozen=True)
class Case:
    """A file of the corpus, by its two numbers, and where there is room for it."""

    kind: str
    number: int
    seeds: str
    room: str

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


@dataclass(frozen=True)
class Outcome:
    """What became of it: in a word, and what is wrong with that."""

    said: str
    problem: str
    seconds: float  # of the processor
    memory: int


def attempt(case: Case) -> Outcome:
    """Give a file of the corpus to the commands that read its kind, in a process that is watched."""
    folder = Path(case.room) / f"{case.kind}-{case.number}-{os.getpid()}"
    before = _peak(reset=True)
    started = time.process_time()
    try:
        folder.mkdir(parents=True)
        damaged = spoil(case.kind, case.number, Path(case.seeds), folder / "here")
        with _folders(folder):
            (folder / _OUTSIDE).write_text("left alone", encoding="utf-8")
            around = stamps(folder)
            started = time.process_time()
            with _watch().watched(*_outputs(folder / "here", case.kind)):
                said, problem = _outcome(_ATTEMPTS[case.kind], damaged, case.number)
        seconds, memory = time.process_time() - started, _peak() - before
        problem = problem or _what_is_wrong(folder, case.kind, around, seconds, memory)
        return Outcome(said, problem, seconds, memory)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _outcome(read: Callable[[Path, int], str], damaged: Path, number: int) -> tuple[str, str]:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return read(damaged, number), ""
    except VolFError as error:
        return type(error).__name__, _wrong_with(str(error))
    except Exception:
        return "crash", traceback.format_exc(limit=-4)


def _what_is_wrong(folder: Path, kind: str, around: dict[str, tuple[int, int]], seconds: float, memory: int) -> str:
    outputs = tuple(f"{output}{os.sep}" for output in _outputs(folder / "here", kind))
    changed = [path for path, found in (stamps(folder).items() ^ around.items()) if not path.startswith(outputs)]
    if _watch().noted:
        return f"it did more than read: {_watch().noted[:3]}"
    if changed:
        return f"it changed {changed[:3]}"
    if seconds > MOST_SECONDS:
        return f"it took {seconds:.1f} s"
    return f"it took {memory >> 20} MB" if memory > MOST_MEMORY else ""


def _wrong_with(message: str) -> str:
    """Say what is wrong with a message, which is a paragraph that a user can read."""
    if not message.strip() or "\n" in message:
        return f"a message that is no paragraph: {message!r}"
    return f"a message of {len(message)} letters: {message[:200]!r}" if len(message) > LONGEST_MESSAGE else ""


# What is done with each kind.


def _image(path: Path, number: int) -> str:
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    from nnunet_volf.preprocessing.preprocess_case import read_images

    header = _header_of(path)
    said = _taken_in(header, number, dicom=False)
    if said == "taken" and number % 4 == 0:
        read_images([header], SimpleITKIO())
    return said


def _header_of(path: Path) -> Path:
    """Return the file that is given to a reader, where what is damaged is the file of voxels beside it."""
    for ending in (".mhd", ".nhdr"):
        if path.suffix in (".raw", ".zraw") and path.with_suffix(ending).is_file():
            return path.with_suffix(ending)
    return path


def _series(path: Path, number: int) -> str:
    from nnunet_volf.preprocessing.dicom_headers import series_in

    series_in(str(path.parent))
    return _taken_in(path.parent, number, dicom=True)


def _taken_in(path: Path, number: int, dicom: bool) -> str:
    from nnunet_volf.preprocessing.channels import parse_channels
    from nnunet_volf.preprocessing.dicom_series import DicomPolicy
    from nnunet_volf.preprocessing.intake import IntakeTask, take_in
    from nnunet_volf.preprocessing.request import Policy

    policy = Policy(
        parse_channels(["image"]),
        ("first", "mean", "refuse")[number % 3],
        DicomPolicy(("resample", "refuse")[number % 2], 2 + number % 5, number % 2 == 0),
    )
    converted = str(path.parent / "converted")
    task = IntakeTask(str(path), path.name, "", (str(path),), dicom, None, None, "x", policy, converted, True, 1)
    result = take_in(task)
    wrong = [found for line in result["quarantined"] for found in (_wrong_with(f"{line['reason']} {line['advice']}"),)]
    if any(wrong):
        raise AssertionError(next(filter(None, wrong)))
    kinds = sorted({line["kind"] for line in result["quarantined"]})
    return "taken" if result["images"] else ", ".join(kinds) or "nothing"


def _command(*arguments: str) -> str:
    """Run a command as a user does, but for its exit code, and take the error that it would print."""
    from nnunet_volf.cli import parser

    args = parser().parse_args(arguments)
    code = args.run(args)
    for table in Path(os.environ[RAW]).parent.rglob("quarantine*.csv"):
        line = next((line for line in table.read_text(errors="replace").splitlines() if ",error," in line), "")
        assert not line, line
    return f"done, {code}"


def _given_to_import(path: Path, number: int) -> str:
    source = path.parent if path.name == "dataset.json" else path
    return _command("import", str(source), "-d", "502", "-np", "0", *(["--dry-run"] if number % 3 == 0 else []))


def _used_as_imported(path: Path, number: int) -> str:
    commands = (
        ("import", str(path.parents[3 if path.parent.name == "import" else 2] / SOURCE), "-d", "501", "-np", "0"),
        ("plan", "-d", "501", "-np", "0"),
    )
    return _command(*commands[number % 2])


def _used_as_planned(path: Path, number: int) -> str:
    weights = str(Path(os.environ[RESULTS]) / "weights.pth")
    commands = (
        ("preprocess", "-d", "501", "-np", "0"),
        ("preprocess", "-d", "501", "-np", "0"),
        ("settings", "501", "-p", "VolFPlans"),
        ("weights", "check", weights, "-d", "501", "-p", "VolFPlans"),
        ("plan", "-d", "501", "-np", "0"),
    )
    return _command(*commands[number % len(commands)])


def _preprocessed_again(path: Path, number: int) -> str:
    return _command("preprocess", "-d", "501", "-np", "0")


def _taken_for_weights(path: Path, number: int) -> str:
    output = str(path.parent / "out.pth")
    commands = (
        ("inspect", str(path)),
        ("check", str(path), "-d", "7"),
        ("adapt", str(path), "-d", "7", "-o", output),
        ("import", str(path), "-o", output),
        ("export", str(path), "-o", output),
        ("plan", str(path), "-d", "7", "--as", "Other"),
    )
    return _command("weights", *commands[number % len(commands)])


_ATTEMPTS = {
    "nifti": _image,
    "nrrd": _image,
    "meta": _image,
    "dicom": _series,
    "table": _given_to_import,
    "dataset": _given_to_import,
    "imported": _used_as_imported,
    "planned": _used_as_planned,
    "case": _preprocessed_again,
    "weights": _taken_for_weights,
    "described": _taken_for_weights,
}


def _outputs(here: Path, kind: str) -> tuple[Path, ...]:
    """Return the only folders in which anything may change."""
    if kind in ("nifti", "nrrd", "meta"):
        return (here / "converted",)
    if kind == "dicom":
        return tuple(here / name for name in ("converted",))
    return here / RAW, here / PREPROCESSED, here / SOURCE if kind in ("weights", "described") else here / RAW


# The process.


@contextlib.contextmanager
def _folders(folder: Path) -> object:
    """Have nnU-Net's folders in those of a case."""
    os.environ["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir(), "matplotlib"))  # it writes a list of fonts
    for name in (RAW, PREPROCESSED, RESULTS):
        os.environ[name] = str(folder / "here" / name)
        (folder / "here" / name).mkdir(exist_ok=True)
    yield


@cache
def _watch() -> Surroundings:
    return Surroundings()


def _peak(reset: bool = False) -> int:
    """Return the most memory that the process has had, since it was reset where the system allows that."""
    if sys.platform != "linux":
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) << 10  # type: ignore[index]
