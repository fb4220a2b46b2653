"""Pretrain with several pretexts on the same scans, in equal steps under one plan, and compare what they are worth.

It only drives the commands that a user types: `nnunet-volf pretrain` once for each pretext, then `nnunet-volf
benchmark` with an arm for each. Both go on where they were stopped, and so does this. It ends with tables as
docs/benchmarks.md has them.

    python benchmarks/pretexts.py --pool heads --for 31 -p Small --pretexts volf mae slem --steps 3000
        --channels 'T1=*_0000.nii.gz' 'T1ce=*_0001.nii.gz' 'T2=*_0002.nii.gz' 'FLAIR=*_0003.nii.gz'
        --set optimizer=adamw mae.masked=0.6 --labels 3 5 10 --seeds 3 -device cpu -o four_modalities
        -- --epochs 20 --iterations 10 --no-mirroring -np 2

What stands behind `--` goes to the benchmark as it is. With --variants, a JSON file, other settings of one pretext are
compared in the same way; each gets plans of its own:

    {"large": {"pretext": "volf", "steps": 6000, "set": {"size_fraction": [0.25, 0.5]}}, "usual": {"pretext": "volf"}}
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results_tables

from nnunet_volf.benchmark.arms import SCRATCH
from nnunet_volf.pretext.catalogue import METHODS
from nnunet_volf.training_files import SUMMARY

TABLES = "pretexts.md"
_FOUND = "pretrained: "  # what the command prints before the file


@dataclass(frozen=True)
class Variant:
    """A pretext with settings of its own, under the name that its arm gets."""

    name: str
    pretext: str
    steps: int
    plans: str
    settings: list[str]


def main() -> None:
    """Pretrain, benchmark, and print the tables, which also go beside the report."""
    own, behind = sys.argv[1:], list[str]()
    if "--" in own:
        own, behind = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True, help="the scans without labels: a folder, or an imported dataset")
    parser.add_argument("--channels", nargs="+", default=[], help="of a folder, as NAME=PATTERN")
    parser.add_argument("--for", dest="target", required=True, metavar="DATASET", help="the labelled dataset")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="of the labelled dataset")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION")
    parser.add_argument("-d", metavar="NUMBER", help="of the dataset that the scans are imported as")
    parser.add_argument("--as", dest="name", default="VolFPlans", metavar="PLANS", help="to write for the scans")
    parser.add_argument("-f", default="all", metavar="FOLD", help="of the pretraining [%(default)s]")
    parser.add_argument("--pretexts", nargs="+", choices=METHODS, default=["volf", "mae", "voco"])
    parser.add_argument("--variants", type=Path, metavar="FILE", help="instead of --pretexts")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the variants")
    parser.add_argument("--no-benchmark", action="store_true", help="pretrain, and say how that went")
    parser.add_argument("--steps", type=int, default=3000, help="of each pretraining")
    parser.add_argument("--iterations", type=int, default=50, help="steps to an epoch of the pretraining")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="[PRETEXT.]NAME=VALUE", help="settings of all pretexts, or of one"
    )
    parser.add_argument("--labels", nargs="+", default=["3", "5", "10"])
    parser.add_argument("--seeds", default="3")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("-o", type=Path, default=Path("pretexts"), help="where the benchmark goes [%(default)s]")
    arguments = parser.parse_args(own)
    variants = variants_of(arguments)
    for variant in variants:
        if variant.steps % arguments.iterations:
            parser.error(f"{variant.steps} steps are not a whole number of epochs of {arguments.iterations}.")

    checkpoints = {variant.name: pretrained(arguments, variant) for variant in variants}
    if arguments.no_benchmark:
        print(pretraining_table(checkpoints))
        return
    run(
        "benchmark", arguments.target, "-p", arguments.p, "-c", arguments.c, "--arms", SCRATCH,
        *(f"{name}={checkpoint}" for name, checkpoint in checkpoints.items()),
        "--labels", *arguments.labels, "--seeds", arguments.seeds, "-device", arguments.device,
        "-o", str(arguments.o), *behind,
    )  # fmt: skip
    first, *others = checkpoints
    against = [SCRATCH, first] if others else [SCRATCH]
    tables = "\n\n".join([pretraining_table(checkpoints), *(results_tables.table(arguments.o, arm) for arm in against)])
    (arguments.o / TABLES).write_text(f"{tables}\n", encoding="utf-8")
    print(f"\n{tables}\n\n{arguments.o / TABLES}")


def variants_of(arguments: argparse.Namespace) -> list[Variant]:
    """Return what is to be compared."""
    if arguments.variants is None:
        if arguments.only:
            raise SystemExit("--only chooses among the variants of a file: name it with --variants.")
        return [
            Variant(pretext, pretext, arguments.steps, arguments.name, settings_of(arguments.set, pretext))
            for pretext in arguments.pretexts
        ]
    described: dict[str, Any] = json.loads(arguments.variants.read_text(encoding="utf-8"))
    if unknown := set(arguments.only or ()) - described.keys():
        raise SystemExit(f"--only {' '.join(unknown)}: {arguments.variants} has {', '.join(described)}.")
    if unknown := {one["pretext"] for one in described.values()} - METHODS.keys():
        raise SystemExit(f"{arguments.variants}: there is no pretext {', '.join(unknown)}, but {', '.join(METHODS)}.")
    return [
        Variant(
            name,
            one["pretext"],
            one.get("steps", arguments.steps),
            f"{arguments.name}_{name}",
            [
                *settings_of(arguments.set, one["pretext"]),
                *(f"{setting}={json.dumps(value)}" for setting, value in one.get("set", {}).items()),
            ],
        )
        for name, one in described.items()
        if not arguments.only or name in arguments.only
    ]


def pretrained(arguments: argparse.Namespace, variant: Variant) -> Path:
    """Pretrain, or go on, and return the checkpoint."""
    epochs = variant.steps // arguments.iterations
    number = ["-d", arguments.d] if arguments.d else []
    channels = ["--channels", *arguments.channels] if arguments.channels else []
    lines = run(
        "pretrain", arguments.pool, *number, *channels, "--for", arguments.target, "-p", arguments.p, "-c", arguments.c,
        "--as", variant.plans, "--pretext", variant.pretext, "-f", arguments.f, "-device", arguments.device,
        "--set", f"epochs={epochs}", f"iterations={arguments.iterations}", *variant.settings,
    )  # fmt: skip
    return next(Path(line.removeprefix(_FOUND).strip()) for line in reversed(lines) if line.startswith(_FOUND))


def settings_of(asked: Sequence[str], pretext: str) -> list[str]:
    """Return the settings that are for all pretexts or for this one, without its name."""
    found = []
    for text in asked:
        owner, dot, _ = text.partition("=")[0].partition(".")
        if not dot:
            found.append(text)
        elif owner == pretext:
            found.append(text.removeprefix(f"{owner}."))
        elif owner not in METHODS:
            raise SystemExit(f"--set {text}: there is no pretext {owner}. There is {', '.join(METHODS)}.")
    return found


def run(*command: str) -> list[str]:
    """Run one of our commands, show what it prints, and return it; end where it does not succeed."""
    words = ["nnunet-volf", *command]
    print(f"\n$ {' '.join(words)}", flush=True)
    lines = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(process.returncode)
    return lines


def pretraining_table(checkpoints: dict[str, Path]) -> str:
    """Return how each pretraining went, in the words of its summary."""
    rows = ["| pretext | steps | loss | what its summary says |", "|---|---|---|---|"]
    for pretext, checkpoint in checkpoints.items():
        path = checkpoint.with_name(SUMMARY)
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        settings = summary.get("settings", {})
        steps = settings.get("epochs", 0) * settings.get("iterations", 0)
        numbers = {
            name: value
            for name, value in summary.items()
            if isinstance(value, float) and name not in ("loss", "chance")
        }
        said = ", ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        rows.append(f"| {pretext} | {steps:,} | {summary.get('loss', float('nan')):.3f} | {said} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
