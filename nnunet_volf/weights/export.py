"""A file of pretrained weights for others, with its model card beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_volf.checkpoints import write_checkpoint
from nnunet_volf.errors import WeightsError
from nnunet_volf.files import file_hash, replacing, write_json
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.dialects.nnssl import PLAN_KEY
from nnunet_volf.weights.model_card import Terms, model_card
from nnunet_volf.weights.nnssl import ADAPTATION_PLAN, warnings, with_adaptation_plan
from nnunet_volf.weights.portable import portable
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.reading import open_weights


@dataclass(frozen=True)
class Exported:
    """What was written, read back from it, and what a user should know."""

    weights: Pretrained
    written: tuple[Path, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def export_weights(source: Path, output: Path, terms: Terms, trust: bool = False, nnssl: bool = False) -> Exported:
    """Write a checkpoint's network and description, and a card made from what was written.

    The same checkpoint gives the same bytes each time with one version of torch.
    """
    card = card_of(output)
    plan = output.with_name(ADAPTATION_PLAN)
    refuse_to_overwrite(output, card, *([plan] if nnssl else []))
    reduced = portable(open_weights(source, trust))
    checkpoint = with_adaptation_plan(reduced) if nnssl else reduced.checkpoint
    output.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(output, checkpoint)
    weights = read_pretrained(output)
    with replacing(card) as aside:
        aside.write_text(model_card(weights, file_hash(output), terms), encoding="utf-8")
    if nnssl:
        write_json(plan, checkpoint[PLAN_KEY])
    return Exported(
        weights,
        (output, card, plan) if nnssl else (output, card),
        reduced.left_out,
        warnings(reduced.task, reduced.plans, weights.trained) if nnssl else (),
    )


def card_of(output: Path) -> Path:
    """Return where the card of a file of weights goes."""
    if output.suffix != ".pth":
        raise WeightsError(f"-o is {output}; give the file a name that ends in .pth. Its card goes beside it, as .md.")
    return output.with_suffix(".md")


def refuse_to_overwrite(*paths: Path) -> None:
    """Refuse where something is there already."""
    for path in paths:
        if path.exists():
            raise WeightsError(f"{path} exists. Choose another name with -o, or remove it first.")
