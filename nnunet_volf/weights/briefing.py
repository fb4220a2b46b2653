"""What a user is told before weights are used for a task: what they are, what of them fits, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_volf import next_commands
from nnunet_volf.pretext.catalogue import DEFAULT_METHOD, METHODS, method_labelled
from nnunet_volf.printable import printable
from nnunet_volf.weights.choices import ADAPTED, CARRIED, FITS, FITS_ADAPTED, FITS_NOT, HEAD, UNTRAINED
from nnunet_volf.weights.differences import differences
from nnunet_volf.weights.matching import Match, as_stock_loads, match
from nnunet_volf.weights.network_differences import context_differences, network_differences, of_other_kinds
from nnunet_volf.weights.pretrained import Preparation, Pretrained
from nnunet_volf.weights.target import Task
from nnunet_volf.weights.trained import encoder_only

# Below this, what is left to learn anew is most of the network, and the word "pretrained" would mislead.
_WORTH = 0.5


@dataclass(frozen=True)
class Briefing:
    """What there is to say about a file of weights and a task."""

    lines: tuple[str, ...]  # what the weights are
    warnings: tuple[str, ...]  # where the task's images are prepared otherwise
    match: Match
    fits: bool  # nnU-Net takes the file as it is, and should
    problem: str  # why it does not; '' where it does
    other_network: bool = False  # of another kind, which a plan of its own would make room for
    encoder_only: bool = False  # all that was trained
    pretext: str = DEFAULT_METHOD  # the name of the method that the file is of, where it is one of ours

    @property
    def share(self) -> float:
        """The share of what was trained, heads aside, that is taken over, adapted or not."""
        return self.match.share(CARRIED, ADAPTED)

    @property
    def code(self) -> int:
        """Return what `weights check` ends with."""
        return FITS if self.fits else FITS_ADAPTED if self.share else FITS_NOT


def brief(pretrained: Pretrained, task: Task, scope: str = "all", channels: str = "name") -> Briefing:
    """Compare a file of weights with a task."""
    matched = match(pretrained, task, scope, channels)
    refusals = as_stock_loads(pretrained.stored, task)
    fits = not refusals and matched.share(CARRIED) == 1
    return Briefing(
        lines=tuple(map(printable, _lines(pretrained))),
        warnings=tuple(map(printable, _warnings(pretrained, task))),
        match=matched,
        fits=fits,
        problem="" if fits else _problem(pretrained, task, matched, refusals),
        other_network=of_other_kinds(pretrained.architecture, task.architecture),
        encoder_only=encoder_only(pretrained.trained),
        pretext=_pretext(pretrained),
    )


def _pretext(pretrained: Pretrained) -> str:
    return (method_labelled(pretrained.method) or METHODS[DEFAULT_METHOD]).name


def _lines(pretrained: Pretrained) -> list[str]:
    origin = f"{pretrained.path.name}: {pretrained.kind}"
    origin += f", {pretrained.method}" if pretrained.method else ""
    origin += f", {pretrained.trainer}" if pretrained.trainer else ""
    lines = [origin]
    if pretrained.dataset:
        trained = f"trained on {pretrained.dataset}"
        trained += f", {pretrained.data['cases']} cases" if pretrained.data.get("cases") else ""
        trained += f", {pretrained.configuration}" if pretrained.configuration else ""
        trained += f", {pretrained.epochs} epoch{'s' * (pretrained.epochs > 1)}" if pretrained.epochs else ""
        lines.append(trained)
    if encoder_only(pretrained.trained):
        lines.append("only its encoder was trained; its decoder is as it was initialised, as in training from scratch")
    if pretrained.preparation:
        lines.append(_prepared(pretrained.preparation))
    return [*lines, *pretrained.notes]


def _prepared(p: Preparation) -> str:
    scheme = ", ".join(p.normalization) or "normalisation not stated"
    spacing = f"{' x '.join(f'{side:.3g}' for side in p.spacing)} mm" if p.spacing else "spacing not stated"
    return f"prepared as {', '.join(p.channels)}; {scheme}; {spacing}; patch {' x '.join(map(str, p.patch))}"


def _warnings(pretrained: Pretrained, task: Task) -> list[str]:
    context = context_differences(pretrained.tensors.keys(), task.shapes.keys())
    if pretrained.preparation is None:
        unknown = "the file does not say how its images were prepared: compare spacing and normalisation yourself"
        return [unknown, *context]
    warnings = differences(pretrained.preparation, task.preparation)
    if pretrained.architecture is not None:
        warnings += network_differences(pretrained.architecture, task.architecture)
    return [*warnings, *context]


def _problem(pretrained: Pretrained, task: Task, matched: Match, refusals: list[str]) -> str:
    share = matched.share(CARRIED, ADAPTED)
    why = refusals[0] if refusals else _first_reason(matched)
    more = f" (and {len(refusals) - 1} more like this)" if len(refusals) > 1 else ""
    problem = (
        f"{pretrained.path} does not fit {task.dataset}, {task.plans_name}, {task.configuration} as it is: {why}{more}."
    )
    if share == 0:
        return f"{problem} No tensor of it can be made to fit. {_instead(pretrained, task)}"
    what = _what(encoder_only(pretrained.trained))
    return (
        f"{problem} Adapted, {share:.1%} of the {what} is taken over: {adapt_command(pretrained.path, task, matched)}"
    )


def _instead(pretrained: Pretrained, task: Task) -> str:
    """Say what to do where nothing fits."""
    if of_other_kinds(pretrained.architecture, task.architecture):
        return f"Give the task a plan with this network: {plan_command(pretrained.path, task)}"
    return f"Pretrain for this task: {pretrain_command(task, _pretext(pretrained))}"


def _first_reason(matched: Match) -> str:
    row = next(row for row in matched.rows if row.outcome not in (CARRIED, HEAD, UNTRAINED))
    return f"{row.name}: {row.detail}"


def _what(only_encoder: bool) -> str:
    return "encoder" if only_encoder else "network"


def verdict(briefing: Briefing, task: Task) -> str:
    """Say in a sentence whether and how the weights can be used."""
    share = briefing.share
    if briefing.code == FITS_NOT:
        return "does not fit: nothing of this file can be taken over"
    if briefing.fits and briefing.encoder_only:
        return (
            f"fits: nnU-Net takes the encoder of {task.dataset}'s network from this file as it is; the decoder, which "
            "was not trained, starts as initialised"
        )
    if briefing.fits:
        return f"fits: nnU-Net takes all of {task.dataset}'s network but the heads from this file as it is"
    text = f"fits after adapting: {share:.1%} of the {_what(briefing.encoder_only)} is taken over"
    if share < _WORTH:
        text += ", which is little: most of it would still start from nothing"
    return f"{text}; the decoder, which was not trained, starts as initialised" if briefing.encoder_only else text


def next_command(briefing: Briefing, path: Path, task: Task) -> str:
    """Return what to do with a file that was compared with a task."""
    if briefing.code == FITS:
        return fine_tune_command(path, task)
    if briefing.code == FITS_ADAPTED:
        return adapt_command(path, task, briefing.match)
    return plan_command(path, task) if briefing.other_network else pretrain_command(task, briefing.pretext)


def adapt_command(path: Path, task: Task, matched: Match) -> str:
    """Return the command that adapts a file to a task as it was compared with it."""
    output = adapted_name(path, task)
    return next_commands.adapt_command(path, *_options(task), output, matched.scope, matched.channels)


def plan_command(path: Path, task: Task) -> str:
    """Return the command that gives a task's dataset plans with the network of a file."""
    return next_commands.plan_with_weights_command(path, *_options(task))


def pretrain_command(task: Task, pretext: str) -> str:
    """Return the command that pretrains for a task."""
    return next_commands.pretrain_command(*_options(task), pretext)


def adapted_name(path: Path, task: Task) -> Path:
    """Return where an adapted file goes by default: beside the file, named after the task."""
    number = f"for-{task.dataset.split('_')[0]}-{task.plans_name}-{task.configuration}"
    return path.with_name(f"{path.stem}-{number}.pth")


def fine_tune_command(path: Path, task: Task) -> str:
    """Return the command that fine-tunes from a file that fits."""
    return next_commands.fine_tune_command(*_options(task), path)


def _options(task: Task) -> tuple[int, str, str]:
    return task.number, task.plans_name, task.configuration
