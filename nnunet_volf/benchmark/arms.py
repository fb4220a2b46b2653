"""The arms of a comparison: what a training starts from, and which trainer trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nnunet_volf.errors import BenchmarkError
from nnunet_volf.next_commands import FINE_TUNER
from nnunet_volf.pretext.catalogue import METHODS, method_labelled

SCRATCH, ENCODER, PRETRAINED, STOCK = "scratch", "encoder", "pretrained", "stock"
KNOWN = (SCRATCH, ENCODER, *METHODS, PRETRAINED, STOCK)  # from all weights: the name of their method, if it is known
STOCK_TRAINER = "nnUNetTrainer"


@dataclass(frozen=True)
class Arm:
    """A name, the trainer, and the weights it starts from, if any."""

    name: str
    trainer: str = FINE_TUNER
    weights: str | None = None
    scope: str = "all"  # of the weights: all, or the encoder only, which is what nnU-Net's import of nnssl carries
    method: str = ""  # that the weights were pretrained by, in words, where they say

    def __str__(self) -> str:
        if self.weights is None:
            return f"{self.trainer} without weights"
        pretrained = f", pretrained by {self.method}" if self.method else ""
        return f"{self.trainer} from {'the encoder of ' if self.scope == 'encoder' else ''}{self.weights}{pretrained}"


@dataclass(frozen=True)
class Weights:
    """What an arm has to know of a file of weights."""

    path: str
    label: str | None = None  # of the method, as the file has it
    encoder_only: bool = False  # all that was trained: the decoder then starts as that of scratch does

    @property
    def method(self) -> str:
        """The name of the method in the catalogue, where it is known."""
        known = method_labelled(self.label)
        return known.name if known else ""

    @property
    def in_words(self) -> str:
        """The method as a report names it, where it is known."""
        return METHODS[self.method].title if self.method else ""


# Finds out about a file; the second text says whose it is, for messages.
Look = Callable[[str, str], Weights]


def parse_arms(asked: Sequence[str], pretrained: str | None, look: Look) -> tuple[Arm, ...]:
    """Read arms such as ``scratch volf mae=FILE``; those without a file of their own start from the pretrained one."""
    weights = None if pretrained is None else look(pretrained, "--pretrained")
    arms: dict[str, Arm] = {}
    for text in asked or _usual(weights):
        arm = _parse(text, weights, look)
        if arm.name in arms:
            raise BenchmarkError(f"The arm {arm.name} is named twice in --arms {' '.join(asked)}.")
        _require_another_start(arm, arms.values())
        arms[arm.name] = arm
    if SCRATCH not in arms:  # everything is compared with it
        arms = {SCRATCH: Arm(SCRATCH), **arms}
    return tuple(arms.values())


def _usual(weights: Weights | None) -> tuple[str, ...]:
    """Return the arms where none are asked for; without a trained decoder, encoder and all weights are the same."""
    if weights is None:
        return SCRATCH, STOCK
    encoder = () if weights.encoder_only else (ENCODER,)
    return SCRATCH, *encoder, weights.method or PRETRAINED, STOCK


def _parse(text: str, pretrained: Weights | None, look: Look) -> Arm:
    name, sign, file = text.partition("=")
    if sign:
        if name not in METHODS and (name in KNOWN or not name.isidentifier()):
            others = ", ".join(known for known in KNOWN if known not in METHODS)
            raise BenchmarkError(
                f"{name!r} cannot be the name of an arm with weights of its own. Take a method ({', '.join(METHODS)}), "
                f"or letters, digits and _, but none of {others}: --arms mine={file or 'FILE'}."
            )
        return _from(name, look(file, f"the arm {name}"))
    if name not in KNOWN:
        raise BenchmarkError(f"There is no arm {name!r}. Known: {', '.join(KNOWN)}; others are given as NAME=FILE.")
    if name in (SCRATCH, STOCK):
        return Arm(name, trainer=STOCK_TRAINER if name == STOCK else FINE_TUNER)
    if pretrained is None:
        own = f", or --arms {name}=FILE" if name in METHODS else ""
        raise BenchmarkError(f"The arm {name} starts from pretrained weights: name them with --pretrained FILE{own}.")
    if name == ENCODER:
        return Arm(name, weights=pretrained.path, scope="encoder", method=pretrained.in_words)
    return _from(name, pretrained)


def _from(name: str, weights: Weights) -> Arm:
    """Return the arm that starts from all that was trained of some weights."""
    if name in METHODS and weights.method not in ("", name):
        raise BenchmarkError(
            f"The arm {name} starts from weights of {METHODS[name].title}, and {weights.path} is of "
            f"{weights.in_words}: call that arm {weights.method}, or give this one other weights, --arms {name}=FILE."
        )
    scope = "encoder" if weights.encoder_only else "all"
    return Arm(name, weights=weights.path, scope=scope, method=weights.in_words)


def _require_another_start(arm: Arm, others: Iterable[Arm]) -> None:
    for other in others:
        if arm.weights is not None and (arm.weights, arm.scope) == (other.weights, other.scope):
            raise BenchmarkError(
                f"The arms {other.name} and {arm.name} are the same trainings: both are {arm}. Leave one of them out."
            )
