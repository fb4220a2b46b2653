"""``nnunet-volf pretrain``: from a folder of scans to a pretrained network, in one line that can be repeated."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_volf import plans
from nnunet_volf.commands import import_archive, options, plan, preprocess
from nnunet_volf.datasets import MANIFEST, PREPROCESSED, RAW, find_dataset, nnunet_folder
from nnunet_volf.diagnosis import check_folders
from nnunet_volf.errors import VolFError
from nnunet_volf.launch import Training
from nnunet_volf.next_commands import benchmark_command, commands_after_pretraining
from nnunet_volf.pretext.catalogue import load_settings
from nnunet_volf.training_files import EXIT_REQUEUE

NAME = "pretrain"
HELP = "From a folder of scans to a pretrained network: import, plan, preprocess, train. Run again, it goes on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    options.add_source(parser)
    options.add_target(parser)
    options.add_planning(parser)
    options.add_workers(parser)
    options.add_dask(parser, "preprocess")
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of the preprocessed voxels [%(default)s]"
    )
    parser.add_argument("--ignore-disk", action="store_true", help="begin although the disk may not hold everything")
    parser.add_argument("-f", default="all", metavar="FOLD", help="0 to 4 hold a fifth of the cases out [%(default)s]")
    options.add_device(parser)
    parser.add_argument("-num_gpus", type=int, default=1, metavar="N", help="[%(default)s]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and what it takes")


def run(args: argparse.Namespace) -> int:
    """Say what will be done, then do it stage by stage; each stage finds out by itself what is done already."""
    _require_folders()
    args.device = options.device_here(args.device)
    target = plan.target_of(args, write=not args.dry_run)
    _require_planning(args, target)
    imported = _imported_before(args.source)
    found, request = (None, None) if imported else _look_around(args)  # type: tuple[Any, Any]
    _print_outlook(args, imported, found, request, target)
    if args.dry_run:
        print("\nnext: the same command without --dry-run")
        return 0

    from nnunet_volf.preprocessing.imported import imported_dataset

    if imported is None:
        _headline(1, "import")
        import_archive.import_and_report(request, found, args.target)
        imported = str(request.dataset)
    dataset = imported_dataset(imported)
    _headline(2, "plan")
    planned = plan.plan_and_say(args, dataset)
    training = _training(args, planned)
    if training.finished is None:
        if target is None:
            print(f"  {'time':15} {_time(args, planned, {})}")
        _headline(3, "preprocess")
        preprocess.preprocess_and_say(args, dataset, planned, args.c, check_disk=not args.ignore_disk)
        _headline(4, "train")
        print(training.command(), flush=True)
        code = training.run()
        if code:
            ended = "stopped" if code == EXIT_REQUEUE else f"the training failed with code {code}"
            print(f"\n{ended}; its log is in {training.folder}\nnext: the same command, which goes on from there")
            return code
    elif training.settings != planned.settings(args.c, method=training.method):
        print(f"  warning: this training is finished; other settings take effect in a new one: --as {args.name}2")
    return _finish(planned, args.c, training, len(dataset.cases))


def _require_folders() -> None:
    for finding in check_folders(os.environ):
        if finding.level == "error":
            raise VolFError(f"{finding.topic}: {finding.found}. {finding.advice}")
    for variable in (RAW, PREPROCESSED):  # not made where they are missing: their disk may be
        nnunet_folder(variable)


def _require_planning(args: argparse.Namespace, target: plans.PlannedDataset | None) -> None:
    """Find mistakes that would otherwise be told once an archive of any size is imported."""
    method = options.method_asked(args)
    settings = {name: value for name, value in plan.settings_of(args).items() if value is not None}
    if target is not None:
        target.pretext(args.c, settings, method)
        return
    from nnunet_volf.preprocessing.planners import find_planner

    load_settings(method).from_mapping(settings)
    find_planner(args.pl)


def _imported_before(source: str) -> str | None:
    """Return the name of an imported dataset where the source is one, by its number, name or folder."""
    if Path(source).is_dir():
        return Path(source).resolve().name if (Path(source) / MANIFEST).is_file() else None
    if not source.isdigit() and not source.startswith("Dataset"):
        return None
    folder = find_dataset(source, RAW)
    return folder.name if (folder / MANIFEST).is_file() else None


def _look_around(args: argparse.Namespace) -> tuple[Any, Any]:
    from nnunet_volf.preprocessing.asking import import_request
    from nnunet_volf.preprocessing.sources import find

    found = find(args.source)
    return found, import_request(args, found)


def _print_outlook(
    args: argparse.Namespace, imported: str | None, found: Any, request: Any, target: plans.PlannedDataset | None
) -> None:
    from nnunet_volf.preprocessing import outlook
    from nnunet_volf.preprocessing.reporting import describe_found

    folder = Path(os.environ["nnUNet_preprocessed"])
    before = _planned_before(folder / (imported or request.dataset), args.name)
    if imported is not None:
        print(f"1 import      done: {imported}")
        size = outlook.size_of(imported, target or before, args.c)
    else:
        first, *rest = describe_found(found, request).splitlines()
        print("\n".join([f"1 import      {first}", *(f"{'':14}{line}" for line in rest)]))
        size = outlook.guess_size(found, target or before, args.c)
    like = f"like {target.name}, {args.p}" if target else f"by {plan.planner_of(args)}, from the archive itself"
    print(f"2 plan        {args.c} {like}, as {args.name}")
    finished = before and _training(args, before).finished
    if finished:
        print(f"3 preprocess  not needed any more\n4 train       done: {finished}")
        return
    print(f"3 preprocess  {outlook.describe_disk(size, args.dtype, folder)}")
    known = target or before
    kept = before.configuration(args.c).get(options.method_asked(args).plans_key, {}) if before else {}
    when = "how long it takes is known once the archive is planned" if known is None else _time(args, known, kept)
    print(f"4 train       {when}")


def _planned_before(folder: Path, name: str) -> plans.PlannedDataset | None:
    there = (folder / f"{name}.json").is_file()
    return plans.PlannedDataset(folder.name, folder, plans.read_plans(folder, name)) if there else None


def _training(args: argparse.Namespace, planned: plans.PlannedDataset) -> Training:
    return Training(planned, args.c, args.name, args.f, args.device, args.num_gpus, options.method_asked(args))


def _time(args: argparse.Namespace, planned: plans.PlannedDataset, kept: Mapping[str, Any]) -> str:
    """Say how long a training takes, with the settings of a plan, those kept by another, and those asked for."""
    from nnunet_volf.preprocessing.outlook import describe_time

    settings = {**kept, **plan.settings_of(args)}
    method = options.method_asked(args)
    return str(describe_time(planned, args.c, settings, method, args.device, args.num_gpus))


def _headline(number: int, stage: str) -> None:
    print(f"\n== {number}/4 {stage}", flush=True)


def _finish(planned: plans.PlannedDataset, configuration: str, training: Training, cases: int) -> int:
    checkpoint = training.finished
    if checkpoint is None:
        raise VolFError(f"The training ended without an error, but {training.folder} has no final checkpoint.")
    print(f"\npretrained: {checkpoint}")
    if training.cases != cases:
        print(
            f"  warning: trained on {training.cases} cases, and the archive has {cases} now. To train on those, give "
            f"the new training a name of its own: --as {planned.plans['plans_name']}2"
        )
    for command in commands_after_pretraining(planned.plans, configuration, checkpoint):
        print(f"next: {command}")
    question = benchmark_command(planned.plans, configuration, checkpoint)
    if question:
        print(f"does it help? {question}")
    return 0
