"""``nnunet-volf preprocess``: an imported dataset's voxels for one or more configurations of its plans."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from nnunet_volf import plans
from nnunet_volf.commands import options
from nnunet_volf.errors import DataError
from nnunet_volf.machine import Limit, worker_processes

if TYPE_CHECKING:
    from nnunet_volf.cluster.connecting import Cluster
    from nnunet_volf.preprocessing.imported import ImportedDataset
    from nnunet_volf.preprocessing.preprocess import PreprocessSummary
    from nnunet_volf.preprocessing.survey import Survey

NAME = "preprocess"
HELP = "Preprocess an imported dataset for its plans, without labels; continues where a run before it ended"

_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="dataset number or name, for example 501")
    parser.add_argument("-p", default=plans.OUR_PLANS, metavar="PLANS", help="[%(default)s]")
    parser.add_argument("-c", nargs="+", default=["3d_fullres"], metavar="CONFIGURATION", help="[3d_fullres]")
    options.add_workers(parser)
    options.add_dask(parser, "preprocess")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="one of N parts, from 0/N on [%(default)s: all]")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="[%(default)s]")
    parser.add_argument(
        "--memory", type=float, metavar="GB", help="for all workers of a machine together [80%% of what is free]"
    )
    parser.add_argument("--ignore-disk", action="store_true", help="begin although the disk may not hold everything")


def run(args: argparse.Namespace) -> int:
    """Preprocess each configuration."""
    from nnunet_volf.preprocessing.imported import imported_dataset

    part = _parse_part(args.part)
    memory = None if args.memory is None else int(args.memory * 1e9)
    dataset = imported_dataset(args.d)
    planned = plans.planned_dataset(dataset.name, args.p)
    for configuration in args.c:
        summary = preprocess_and_say(args, dataset, planned, configuration, part, memory, not args.ignore_disk)
        if summary.complete:
            for method in planned.methods(configuration):
                print(f"next: {planned.pretrain_command(configuration, args.p, method)}")
        else:
            lacking = ", ".join(f"{n}/{part[1]} ({count} cases)" for n, count in sorted(summary.missing.items()))
            print(f"next: the other parts, on this or another machine: {lacking}")
    return 0


def preprocess_and_say(
    args: argparse.Namespace,
    dataset: ImportedDataset,
    planned: plans.PlannedDataset,
    configuration: str,
    part: tuple[int, int] = (0, 1),
    memory: int | None = None,
    check_disk: bool = True,
) -> PreprocessSummary:
    """Preprocess a dataset with -np, --dask and --dtype of the arguments; print what is to do and what was done."""
    from nnunet_volf.preprocessing.preprocess import preprocess

    workers = worker_processes(args.np)
    with options.cluster_asked(args, workers.value) as cluster:

        def announce(found: Survey) -> None:
            _print_work(found, configuration)
            if found.todo:
                _print_workers(found, workers if cluster is None else cluster, memory)

        summary = preprocess(
            dataset,
            planned,
            configuration,
            workers=workers.value,
            part=part,
            dtype=args.dtype,
            memory=memory,
            check_disk=check_disk,
            announce=announce,
            cluster=cluster,
        )
    _print_result(summary)
    if summary.complete and len(summary.refused) == len(summary.survey.cases):
        raise DataError(f"Not one case of {dataset.name} could be preprocessed. See {summary.survey.quarantine}.")
    return summary


def _parse_part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None:
        raise DataError(f"--part is {text!r}; it is written I/N, such as 0/4, 1/4, 2/4 and 3/4 for four parts.")
    return int(found[1]), int(found[2])


def _print_work(found: Survey, configuration: str) -> None:
    number, parts = found.part
    print(f"{found.folder.parent.name}, {configuration} -> {found.folder}")
    of_part = f" (part {number}/{parts} of {len(found.cases)})" if parts > 1 else ""
    print(f"cases   {len(found.todo)} to do, {found.done} done before{of_part}")
    if found.outdated:
        print(f"        {len(found.outdated)} of them are there, but damaged or of another input or plan: done again")
    if found.strays:
        print(f"        {len(found.strays)} are no longer in the dataset: removed")
    if found.todo:
        print(
            f"disk    at most {found.disk / 1e9:.2f} GB as {found.dtype}; compression mostly leaves a third to a half"
        )


def _print_workers(found: Survey, workers: Limit | Cluster, memory: int | None) -> None:
    from nnunet_volf.preprocessing.budget import memory_to_use

    most = max(work.memory for work in found.todo)
    if not isinstance(workers, Limit):
        given = "what they were given" if memory is None else f"{memory / 1e9:.1f} GB a machine"
        print(f"workers {workers}, within {given}; the largest case needs about {most / 1e9:.1f} GB", flush=True)
        return
    print(f"workers {workers.value} ({workers.source})", end="")
    budget = memory_to_use() if memory is None else memory
    if budget is None:
        print()
        return
    print(f", within {budget / 1e9:.1f} GB of memory; the largest case needs about {most / 1e9:.1f}")
    if workers.value * most > budget:
        print(f"        so at most {max(1, budget // most)} of the largest at once")


def _print_result(summary: PreprocessSummary) -> None:
    line = f"wrote {summary.written} cases, {summary.bytes_written / 1e9:.2f} GB, in {summary.seconds:.0f} s"
    print(f"{line} ({summary.seconds / summary.written:.2f} s a case)" if summary.written else line)
    if summary.stages:
        print(f"time    {', '.join(f'{stage} {share:.0%}' for stage, share in summary.stages.items())}")
    if not summary.refused:
        return
    print(f"refused {len(summary.refused)}, listed in {summary.survey.quarantine}")
    for refused in summary.refused[:_SHOWN]:
        print(f"  {refused.item.split(' ')[0]}: {refused.reason} {refused.advice}")
    if len(summary.refused) > _SHOWN:
        print(f"  and {len(summary.refused) - _SHOWN} more")
