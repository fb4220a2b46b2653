"""``nnunet-volf settings``: show the settings of a dataset's trainings, or change them in a plans file of our own."""

from __future__ import annotations

import argparse
import json

from nnunet_volf import next_commands, plans
from nnunet_volf.commands.options import add_pretext, method_asked
from nnunet_volf.datasets import is_imported
from nnunet_volf.errors import SettingsError
from nnunet_volf.finetune_settings import FINE_TUNE_PRESETS, FineTuneSettings
from nnunet_volf.locks import only_planning
from nnunet_volf.pretext.catalogue import load_settings
from nnunet_volf.setting_rules import Settings, parse_assignments

NAME = "settings"
HELP = "Show the settings of pretraining or fine-tuning on a dataset, or change them (--set epochs=200 scheme=boxes)"


_PATIENCE = 60.0  # seconds, for another change of settings: most of what one takes is loading torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("dataset", help="dataset number or name, for example 4")
    parser.add_argument("-p", default=plans.DEFAULT_PLANS, metavar="PLANS", help="plans to start from [%(default)s]")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION", help="[%(default)s]")
    add_pretext(parser)
    parser.add_argument("--fine-tune", action="store_true", help="the settings of fine-tuning, not of pretraining")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings to change; null resets one"
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"several at once, for example reference-2025; with --fine-tune: {', '.join(FINE_TUNE_PRESETS)}",
    )
    parser.add_argument(
        "--as",
        dest="target",
        metavar="PLANS",
        help=f"plans file to write [{plans.OUR_PLANS}, or -p where that is one of ours]; others are left as they are",
    )


def run(args: argparse.Namespace) -> int:
    """Print the settings in force, after writing changes if there are any."""
    dataset = plans.planned_dataset(args.dataset, args.p)
    method = method_asked(args)
    kind: type[Settings] = FineTuneSettings if args.fine_tune else load_settings(method)
    if args.fine_tune and is_imported(dataset.name):
        raise SettingsError(
            f"{dataset.name} was imported without labels, and fine-tuning needs them. Name the dataset with labels, "
            "or leave --fine-tune out."
        )
    changes = parse_assignments(args.set)
    if args.preset:
        changes["preset"] = args.preset
    plans_name = args.p
    if changes or args.target:
        plans_name = args.target or (args.p if args.p.startswith("VolF") else plans.OUR_PLANS)
        with only_planning(dataset.folder, plans_name, patience=_PATIENCE):
            dataset = plans.write_settings(dataset, args.c, changes, plans_name, kind)
    _print_settings(dataset.settings_of(kind, args.c), f"{dataset.name}, {args.c}, {plans_name}")
    if args.fine_tune:
        command = next_commands.fine_tune_command(dataset.number, plans_name, args.c, "CHECKPOINT")
    else:
        command = dataset.pretrain_command(args.c, plans_name, method)
    print(f"\nnext: {command}")
    return 0


def _print_settings(settings: Settings, where: str) -> None:
    defaults = type(settings)().to_mapping()
    print(f"{where} (* differs from the default)")
    for name, value in settings.to_mapping().items():
        mark = "*" if value != defaults[name] else " "
        print(f"{mark} {name:22} {json.dumps(value)}")
