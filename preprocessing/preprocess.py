"""All cases of an imported dataset, preprocessed for one configuration of its plans.

A case that is done stays done until its voxels or its plan change. The run may be stopped at any time, be run again,
be done by a cluster, and be split into parts on several machines that share the folder.
"""

from __future__ import annotations

import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_volf.cluster.checking import Needs
from nnunet_volf.cluster.connecting import Cluster
from nnunet_volf.errors import DataError, StorageError
from nnunet_volf.plans import PlannedDataset

from .budget import gigabytes, memory_to_use
from .imported import ImportedDataset
from .on_cluster import run_on_cluster
from .outputs import write_quarantine
from .parallel import Done, run_parallel
from .part_lock import only_part
from .progress import show
from .refusals import Quarantined
from .stages import TISSUE, Stopwatch, shares
from .storage import ENDING, MASK_ENDING, remove_unfinished, write_case
from .survey import Survey, Work, missing_parts, survey

# Long enough for the largest volumes on a slow disk; a worker that hangs in a driver must not hold up the others.
CASE_SECONDS = 3600.0
FEWEST_DONE = 20  # before a share of refusals says anything
_PRELOAD = (
    "nnunet_volf.preprocessing.preprocess_case",
    "nnunet_volf.preprocessing.storage",
    "nnunet_volf.preprocessing.tissue",
    "nnunetv2.training.dataloading.nnunet_dataset",
)


@dataclass(frozen=True)
class PreprocessSummary:
    """What a run came to; counts are of its part."""

    survey: Survey
    written: int
    refused: tuple[Quarantined, ...]
    bytes_written: int
    seconds: float
    missing: Mapping[int, int]  # cases that each part still lacks; empty when all are there
    stages: Mapping[str, float] = field(default_factory=dict)  # share of each in the time of the cases written

    @property
    def complete(self) -> bool:
        """Whether every case of the dataset is there or refused."""
        return not self.missing


@dataclass(frozen=True)
class _Written:
    bytes: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Task:
    name: str
    images: tuple[Path, ...]
    folder: Path
    plans: str
    configuration: str
    patch_size: tuple[int, ...]
    signature: Mapping[str, Any]
    dtype: str
    memory: int


def preprocess(
    dataset: ImportedDataset,
    planned: PlannedDataset,
    configuration: str,
    *,
    workers: int,
    part: tuple[int, int] = (0, 1),
    dtype: str = "float32",
    memory: int | None = None,
    most_refused: float = 0.5,
    check_disk: bool = True,
    progress: bool = True,
    announce: Callable[[Survey], None] | None = None,
    cluster: Cluster | None = None,
) -> PreprocessSummary:
    """Preprocess what is to do and return what became of it.

    Args:
        dataset: the images.
        planned: the plans.
        configuration: such as 3d_fullres.
        workers: processes; 0 works in this one.
        part: this part's number and the number of parts; part i does every n-th case.
        dtype: float32, or float16 at half the disk.
        memory: bytes that all workers of a machine may use together; what is free now, or what the workers of a cluster
            were given, where not said.
        most_refused: the share of refused cases at which the run stops: the fault is then not in single files.
        check_disk: whether to refuse to begin when the disk might not hold the result.
        progress: whether to show a bar.
        announce: called with what was found before anything is done.
        cluster: whose workers do it, in place of processes here.
    """
    started = time.monotonic()
    with only_part(planned.folder / planned.configuration(configuration)["data_identifier"], part):
        found = survey(dataset, planned, configuration, part=part, dtype=dtype)
        if announce is not None:
            announce(found)
        if check_disk:
            require_disk(found)
        _clear(found, part)
        outcomes = _outcomes(found, configuration, workers, memory, cluster)
        written, refused = _do_all(found, outcomes, most_refused, progress)
        return PreprocessSummary(
            found,
            len(written),
            tuple(refused),
            sum(case.bytes for case in written),
            time.monotonic() - started,
            missing_parts(found),
            shares(case.seconds for case in written),
        )


def _clear(found: Survey, part: tuple[int, int]) -> None:
    """Make the folder, or remove what was left half-written in it and what is of other plans or cases.

    That is done before the first new case: a folder in which two plans are mixed would be trained on without a word.
    """
    found.folder.mkdir(parents=True, exist_ok=True)
    number, parts = part
    elsewhere = {case.name for index, case in enumerate(found.cases) if index % parts != number}
    remove_unfinished(found.folder, spared=elsewhere)
    for name in (*found.outdated, *found.strays):
        for ending in (ENDING, MASK_ENDING):
            (found.folder / f"{name}{ending}").unlink(missing_ok=True)


def _do_all(
    found: Survey, outcomes: Generator[Done[_Task, _Written], None, None], most_refused: float, progress: bool
) -> tuple[list[_Written], list[Quarantined]]:
    """Wait for every case, and leave the quarantine whatever ends the run."""
    refused: list[Quarantined] = []
    written: list[_Written] = []
    try:
        with closing(outcomes) as running:
            for done in show(running, len(found.todo), "preprocess") if progress else running:
                if done.result is not None:
                    written.append(done.result)
                    continue
                refused.append(_quarantined(done))
                _stop_if_most_are_refused(refused, len(written), most_refused, found.quarantine)
    except StorageError as error:
        there, cases = found.done + len(written), found.done + len(found.todo)
        raise StorageError(f"{error} {there} of {cases} cases are done.") from error
    finally:
        _write_or_remove(found.quarantine, refused)
    return written, refused


def require_disk(found: Survey) -> None:
    """Stop before the start when the cases might not fit on the disk."""
    there = next(folder for folder in (found.folder, *found.folder.parents) if folder.is_dir())
    replaced = sum(
        (found.folder / f"{name}{ENDING}").stat().st_size
        for name in (*found.outdated, *found.strays)
        if (found.folder / f"{name}{ENDING}").is_file()
    )
    free = shutil.disk_usage(there).free + replaced
    if found.disk > free:
        half = "" if found.dtype == "float16" else "store float16 (--dtype float16, half of it), "
        raise DataError(
            f"{len(found.todo)} cases need up to {gigabytes(found.disk)} in {found.folder}, where "
            f"{gigabytes(free)} are free. Free some space, {half}or, as compression mostly leaves a third to a half, "
            "go on all the same with --ignore-disk; the run can be continued at any time."
        )


def _outcomes(
    found: Survey, configuration: str, workers: int, memory: int | None, cluster: Cluster | None
) -> Generator[Done[_Task, _Written], None, None]:
    tasks = (_task(work, found, configuration) for work in found.todo)
    if cluster is None:
        return run_parallel(
            _preprocess,
            tasks,
            workers=workers,
            memory_of=_memory,
            memory=memory_to_use() if memory is None else memory,
            timeout=CASE_SECONDS,
            preload=_PRELOAD,
        )
    example = found.todo[0].case.images if found.todo else ()
    return run_on_cluster(
        _preprocess,
        tasks,
        cluster,
        needs=Needs(found.folder.parent, (found.folder, *example)),
        memory_of=_memory,
        memory=memory,
        timeout=CASE_SECONDS,
        preload=_PRELOAD,
    )


def _preprocess(task: _Task) -> _Written:
    from .preprocess_case import preprocess_case  # loads nnU-Net and torch, here in the worker
    from .tissue import tissue_locations

    watch = Stopwatch()
    case = preprocess_case(task.images, task.plans, task.configuration, watch)
    seed = zlib.crc32(str(task.signature["content"]).encode())  # the same voxels give the same locations
    with watch.during(TISSUE):
        locations = tissue_locations(case.data, seed)
    size = write_case(
        task.folder, task.name, case.data, task.patch_size, task.signature, locations, task.dtype, case.mask, watch
    )
    return _Written(size, watch.seconds)


def _task(work: Work, found: Survey, configuration: str) -> _Task:
    return _Task(
        work.case.name,
        work.case.images,
        found.folder,
        found.plans,
        configuration,
        tuple(found.configuration["patch_size"]),
        work.signature,
        found.dtype,
        work.memory,
    )


def _memory(task: _Task) -> int:
    return task.memory


def _quarantined(done: Done[_Task, _Written]) -> Quarantined:
    assert done.failure is not None
    paths = "; ".join(str(image) for image in done.task.images)
    failure = done.failure
    return Quarantined(f"{done.task.name} ({paths})", "preprocess", failure.kind, failure.reason, failure.advice)


def _stop_if_most_are_refused(refused: list[Quarantined], written: int, most: float, table: Path) -> None:
    finished = len(refused) + written
    if finished < FEWEST_DONE or len(refused) <= most * finished:
        return
    (kind, count), *_ = Counter(line.kind for line in refused).most_common(1)
    example = next(line for line in refused if line.kind == kind)
    raise DataError(
        f"{len(refused)} of the first {finished} cases were refused, more than {most:.0%}; most often ({count}) as "
        f"{kind!r}: {example.reason} {example.advice} All are listed in {table}. What is done stays done."
    )


def _write_or_remove(table: Path, refused: list[Quarantined]) -> None:
    if refused:
        write_quarantine(table, refused)
    else:
        table.unlink(missing_ok=True)
