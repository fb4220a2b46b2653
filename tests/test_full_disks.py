"""A disk that is full at any writer ends a command with one message, spares what was there, and costs nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import benchmark_results
import pytest
import test_import_killed as archive_of_everything
from small_disks import small_disk
from unlabeled import import_scans, write_scans
from weight_files import write_checkpoint, write_planned, write_pretraining

from nnunet_volf.benchmark.folder import RESULT, collect, note_failure, open_folder, run_folder
from nnunet_volf.benchmark.publishing import publish
from nnunet_volf.cli import main
from nnunet_volf.errors import StorageError
from nnunet_volf.files import write_json

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
# Not part of a result: locks, and a report that says how much of it the last run did.
OF_NO_ACCOUNT = (".locks", "lock", "import_report.html")


class Writer(NamedTuple):
    """A command that writes: what has to be there before it, and what it is."""

    prepare: Callable[[Path], None]
    run: Callable[[Path], int]
    names: str  # of files, one of which the message is to name
    shares: Sequence[float] = (0.0, 0.6)  # of what it writes, for which there is room


def command(*arguments: str) -> Callable[[Path], int]:
    return lambda base: main([argument.replace("BASE", str(base)) for argument in map(os.path.expandvars, arguments)])


def archive(base: Path) -> None:
    archive_of_everything.write_archive(Path(os.environ["ARCHIVE"]))
    archive_of_everything.write_target(base / "nnUNet_raw")


def imported(base: Path) -> None:
    write_scans(Path(os.environ["ARCHIVE"]), 3)
    import_scans(Path(os.environ["ARCHIVE"]))


def planned(base: Path) -> None:
    imported(base)
    assert main(["plan", "-d", "501", "-np", "0"]) == 0


def weights(base: Path) -> None:
    write_planned(base / "nnUNet_preprocessed")
    write_checkpoint(base / "stock.pth", channels=("CT", "PET"))
    write_pretraining(base / "pretrained.pth", "volf")


def benchmark(base: Path) -> int:
    """Write what a benchmark writes itself; its trainings are another matter."""
    asked = benchmark_results.experiment(labels=(3,), seeds=2)
    try:
        folder = base / "nnUNet_results/benchmark"
        open_folder(folder, asked)
        for outcome in benchmark_results.outcomes(asked)[1:]:
            run_folder(folder, outcome.run).mkdir(parents=True, exist_ok=True)
            write_json(run_folder(folder, outcome.run) / RESULT, outcome.to_mapping())
        lost = asked.runs()[0]
        run_folder(folder, lost).mkdir(parents=True, exist_ok=True)
        note_failure(folder, lost, "made up")
        publish(folder, asked, *collect(folder, asked.runs()), "nnunet-volf benchmark 4")
    except StorageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


WRITERS = {
    "import": Writer(
        archive,
        command("import", "$ARCHIVE", "-np", "0", *archive_of_everything.ARGUMENTS),
        "channels|sources|journal|converted|quarantine|dataset|manifest|report",
        (0.0, 0.15, 0.3, 0.5, 0.7, 0.9),
    ),
    "plan": Writer(imported, command("plan", "-d", "501", "-np", "0"), "dataset|fingerprint|VolFPlans|journal"),
    "settings": Writer(planned, command("settings", "501", "-p", "VolFPlans", "--set", "epochs=5"), "VolFPlans"),
    "preprocess": Writer(planned, command("preprocess", "-d", "501", "-np", "0", "--ignore-disk"), "case_"),
    "preprocess in workers": Writer(
        planned, command("preprocess", "-d", "501", "-np", "2", "--ignore-disk"), "case_", (0.4,)
    ),
    "weights export": Writer(
        weights, command("weights", "export", "BASE/pretrained.pth", "-o", "BASE/exported.pth"), "exported"
    ),
    "weights import": Writer(weights, command("weights", "import", "BASE/stock.pth", "-o", "BASE/taken.pth"), "taken"),
    "weights adapt": Writer(
        weights, command("weights", "adapt", "BASE/stock.pth", "-d", "7", "-o", "BASE/fitted.pth"), "fitted"
    ),
    "benchmark": Writer(
        lambda base: (base / "nnUNet_preprocessed/Dataset004_Hippocampus").mkdir(), benchmark, "json|csv|html"
    ),
}


def contents(base: Path) -> dict[str, bytes]:
    """All files, with the place where they lie taken out."""
    files = [path for path in sorted(base.rglob("*")) if path.is_file()]
    return {
        path.relative_to(base).as_posix(): path.read_bytes().replace(str(base).encode(), b"BASE")
        for path in files
        if not set(path.relative_to(base).parts) & set(OF_NO_ACCOUNT)
    }


def use(base: Path, patch: pytest.MonkeyPatch) -> None:
    for name in FOLDERS:
        (base / name).mkdir(exist_ok=True, parents=True)
        patch.setenv(name, str(base / name))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_ends_it_with_a_message_and_the_same_command_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer, prepared = WRITERS[name], tmp_path / "prepared"
    monkeypatch.setenv("ARCHIVE", str(tmp_path / "archive"))
    use(prepared, monkeypatch)
    writer.prepare(prepared)
    shutil.copytree(prepared, tmp_path / "undisturbed")
    use(tmp_path / "undisturbed", monkeypatch)
    assert writer.run(tmp_path / "undisturbed") == 0
    expected = contents(tmp_path / "undisturbed")
    was = contents(prepared)
    written = sum(len(content) for file, content in expected.items() if was.get(file) != content)

    stopped = 0
    for share in writer.shares:
        with small_disk(tmp_path / f"disk_{share}", 24) as disk:
            base = disk.folder / "base"
            shutil.copytree(prepared, base)
            use(base, monkeypatch)
            before = contents(base)
            disk.fill(leaving=int(share * written))
            capsys.readouterr()
            if writer.run(base) == 0:  # what is left over of the last page of a file can be enough
                continue
            stopped += 1
            said = capsys.readouterr().err.strip().splitlines()[-1]
            assert "the disk is full, 0.0 MB are free. Make room there" in said, said
            assert any(part in said for part in writer.names.split("|")), said
            after = contents(base)
            assert [file for file in before if not after.get(file, b"").startswith(before[file])] == []
            assert [file for file in after if "tmp" in file or ".unfinished/" in file] == []
            disk.make_room()
            assert writer.run(base) == 0
            assert contents(base) == expected
    assert stopped > len(writer.shares) / 2


def test_a_file_that_may_not_grow_is_told_of_like_a_full_disk(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "plans.json").write_text("before", encoding="utf-8")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(StorageError, match=r"plans\.json: the file is larger than its file system, or a limit"):
            write_json(tmp_path / "plans.json", list(range(5000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["plans.json"]
    assert (tmp_path / "plans.json").read_text(encoding="utf-8") == "before"
