"""``nnunet-volf weights export``: pass weights on, for fine-tuning or for prediction, with nothing private in them."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_volf.commands import options

if TYPE_CHECKING:
    from nnunet_volf.weights.pretrained import Pretrained

NAME = "export"
HELP = "Write weights for others: tensors and plain types only, with a model card; or a model for stock nnU-Net"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", type=Path, help="checkpoint; with --as-stock also the folder of a training")
    parser.add_argument("-o", required=True, type=Path, metavar="OUT", help="file to write (.pth), or folder")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--as-stock", action="store_true", help="a fine-tuned model, as a folder that stock nnU-Net predicts with"
    )
    forms.add_argument(
        "--nnssl", action="store_true", help="add the plan that nnU-Net's nnUNetv2_preprocess_like_nnssl reads"
    )
    parser.add_argument("--license", metavar="NAME", help="of the weights, for the card; for example CC-BY-4.0")
    parser.add_argument("--authors", metavar="NAMES", help="for the card")
    parser.add_argument("--citation", metavar="TEXT", help="how to cite the weights, for the card")
    options.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Write the files, and say what is in them, what is not, and what to do next."""
    return _as_stock(args) if args.as_stock else _weights(args)


def _weights(args: argparse.Namespace) -> int:
    from nnunet_volf import next_commands
    from nnunet_volf.weights.export import export_weights
    from nnunet_volf.weights.model_card import Terms

    terms = Terms(args.license, args.authors, args.citation)
    exported = export_weights(args.file, args.o, terms, args.trust, args.nnssl)
    weights = exported.weights
    print(f"{args.o}: {weights.parameters:,} parameters and the plans that describe them; card {exported.written[1]}")
    if args.nnssl:
        print(f"{exported.written[2]}: for a repository on Hugging Face")
    _say_left_out(exported.left_out)
    if terms.license is None:
        print("No licence is stated, and without one others may not use the weights: state it with --license.")
    for warning in exported.warnings:
        print(f"warning: {warning}")
    check = next_commands.check_command(weights.path, weights.plans or {}, weights.configuration)
    print(f"\nnext: {_nnssl_command(weights) if args.nnssl else check}")
    return 0


def _as_stock(args: argparse.Namespace) -> int:
    from nnunet_volf.errors import WeightsError
    from nnunet_volf.weights.as_stock import export_as_stock

    if args.license or args.authors or args.citation:
        raise WeightsError(
            "--license, --authors and --citation are for the model card of pretrained weights, and --as-stock writes "
            "none. Leave them out."
        )
    model = export_as_stock(args.file, args.o, args.trust)
    where = " where nnunet-volf is installed" if model.own_network else ""
    print(f"{model.folder}: predicts with stock nnU-Net{where}, folds {', '.join(model.folds)}")
    if model.own_network:
        print(
            f"Its network, {model.own_network}, is of this package: whoever predicts needs 'pip install nnunet-volf' "
            "beside nnU-Net, and no trainer of ours."
        )
    if model.unfinished:
        print(f"Left out, because they are not finished: folds {', '.join(model.unfinished)}")
    _say_left_out(model.left_out)
    print(f"Put it at nnUNet_results/{model.installed_as} for nnUNetv2_predict to find it by its dataset.")
    folder, folds = shlex.quote(str(model.folder)), " ".join(model.folds)
    before = " -prev_stage_predictions FOLDER" if model.cascaded else ""
    print(f"\nnext: nnUNetv2_predict_from_modelfolder -i INPUT -o OUTPUT -m {folder} -f {folds}{before}")
    return 0


def _say_left_out(names: tuple[str, ...]) -> None:
    if names:
        print(f"Left out, because others have no use for it or it may tell of patients: {', '.join(names)}")


def _nnssl_command(weights: Pretrained) -> str:
    file, name = shlex.quote(str(weights.path)), shlex.quote(weights.path.stem)
    return f"nnUNetv2_preprocess_like_nnssl -d DATASET -n {name} -pc {file} -am like_pretrained"
