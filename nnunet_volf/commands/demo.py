"""``nnunet-volf demo``: the whole way on made-up scans, with the commands that a user would type."""

from __future__ import annotations

import argparse
import shlex
import webbrowser
from pathlib import Path
from time import perf_counter

from nnunet_volf import demo
from nnunet_volf.console import run_command
from nnunet_volf.machine import usable_cpus
from nnunet_volf.progress import readable_time
from nnunet_volf.training_files import PICTURE

NAME = "demo"
HELP = "The whole way on made-up scans, on a CPU, within ten minutes: pretrain, fine-tune, benchmark, report"

_MOST_AT_A_TIME = 4  # trainings; each holds about a GiB of libraries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--folder", type=Path, help="a new folder for everything [volf-demo, or volf-demo-quick]")
    parser.add_argument(
        "--quick", action="store_true", help="within two minutes: shows that everything works, and learns nothing"
    )
    parser.add_argument("--open", action="store_true", help="open the report in the browser")


def run(args: argparse.Namespace) -> int:
    """Go through the stages that are not done yet, and say where the report is."""
    folder = (args.folder or Path("volf-demo-quick" if args.quick else "volf-demo")).resolve()
    amount = demo.QUICK if args.quick else demo.FULL
    took = demo.open_folder(folder, args.quick)
    stages = demo.stages(amount, folder, min(usable_cpus().value, _MOST_AT_A_TIME))
    for name, value in demo.folders(folder).items():
        print(f"export {name}={shlex.quote(value)}")
    for number, stage in enumerate(stages, start=1):
        if stage.name in took:
            print(f"\n=== {number}/{len(stages)} {stage.name}: done before")
            continue
        left = readable_time(demo.seconds_left(amount, took, [s.name for s in stages if s.name not in took]))
        print(f"\n=== {number}/{len(stages)} {stage.name}: {stage.purpose}; about {left} left in all", flush=True)
        started = perf_counter()
        code = _carry_out(stage, demo.environment(folder))
        if code:
            print(f"\nthe demo has stopped: the last command ended with code {code}\nnext: {_again(args)}")
            return code
        took[stage.name] = perf_counter() - started
        demo.note_progress(folder, args.quick, took)
        print(f"=== {stage.name} took {readable_time(took[stage.name])}", flush=True)
    _finish(folder, sum(took.values()), args.open)
    return 0


def _carry_out(stage: demo.Stage, environment: dict[str, str]) -> int:
    for command in stage.commands:
        print(f"\n$ {shlex.join(command)}", flush=True)
        code = run_command(command, {**environment, **stage.environment})
        if code:
            return code
    if stage.finish is not None:
        stage.finish()
    return 0


def _again(args: argparse.Namespace) -> str:
    folder = ["--folder", str(args.folder)] if args.folder else []
    return shlex.join(["nnunet-volf", "demo", *folder, *(["--quick"] if args.quick else [])])


def _finish(folder: Path, seconds: float, show: bool) -> None:
    report, weights = demo.report(folder), demo.pretrained_weights(folder)
    print(
        f"\nThe demo took {readable_time(seconds)}. Its scans are made up, its network is small and its training short:"
    )
    print("what the report compares says how such a comparison looks, not how much pretraining helps on your data.")
    print(f"\non the archive: {folder / 'raw' / demo.ARCHIVE / 'import_report.html'}")
    print(f"pretrained: {weights}")
    print(f"what it has learned to tell apart: {weights.with_name(PICTURE)}")
    print(f"report: {report}")
    if show:
        webbrowser.open(report.as_uri())
    print("\nWith your own scans, and nnU-Net's three folders set to your own:")
    print("next: nnunet-volf doctor")
    print("next: nnunet-volf pretrain YOUR_ARCHIVE --for YOUR_DATASET")
    print("next: nnunet-volf benchmark YOUR_DATASET --pretrained THE_PRINTED_FILE")
