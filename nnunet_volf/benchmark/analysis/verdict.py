"""What the comparison says, in one sentence that names its uncertainty; losses as plainly as wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nnunet_volf.benchmark.analysis.comparisons import Comparison, Level
from nnunet_volf.benchmark.analysis.convergence import Convergence
from nnunet_volf.benchmark.analysis.label_efficiency import Worth
from nnunet_volf.benchmark.analysis.score_grid import MEAN
from nnunet_volf.benchmark.analysis.statistics import CONFIDENCE, SAME
from nnunet_volf.benchmark.analysis.wording import change, count, dice, interval, listed
from nnunet_volf.benchmark.arms import ENCODER, KNOWN, PRETRAINED, SCRATCH, STOCK
from nnunet_volf.benchmark.results import METRIC_NAMES
from nnunet_volf.pretext.catalogue import METHODS

SIGNIFICANT = 1 - CONFIDENCE


@dataclass(frozen=True)
class Verdict:
    """The sentence, and what stands below it."""

    sentence: str
    details: tuple[str, ...]


def judge(
    levels: Sequence[Level],
    comparisons: Sequence[Comparison],
    convergence: Sequence[Convergence],
    worth: Sequence[Worth],
    invented: int,
) -> Verdict:
    """Say what came out for the arm that matters most: a method, else weights of the user's own, encoder, stock."""
    primary = [c for c in comparisons if (c.metric, c.label) == ("dice", MEAN)]
    against_scratch = [c for c in primary if c.reference == SCRATCH]
    arm = most_important(sorted({c.arm for c in against_scratch}))
    if arm is None:
        return Verdict("There is nothing to compare yet: no arm shares two test cases with training from scratch.", ())
    ours = [c for c in against_scratch if c.arm == arm]
    details = [
        *_other_arms(against_scratch, arm),
        *_against_encoder(primary),
        *_between_methods(primary),
        *_worth(worth, arm),
        *_convergence(convergence, arm),
        *_other_metrics(comparisons, arm),
        *_holm(primary),
    ]
    if invented:
        details.append(
            f"In {count(invented, 'pair')} of a test case and a class that it does not have, some trainings found the "
            "class: their Dice is 0 there, and that of the trainings that rightly left it out is 1."
        )
    return Verdict(_sentence(ours, levels), tuple(details))


def most_important(arms: Sequence[str]) -> str | None:
    """Return the arm that the sentence is about."""
    named = [arm for arm in arms if arm not in KNOWN]
    return next((arm for arm in (*METHODS, PRETRAINED, *named, ENCODER, STOCK) if arm in arms), None)


def _sentence(comparisons: Sequence[Comparison], levels: Sequence[Level]) -> str:
    first, *others = comparisons
    parts = [_first_part(first, levels), *(_further_part(comparison, first) for comparison in others)]
    single = [comparison.labels for comparison in comparisons if len(comparison.per_seed) == 1]
    if single:
        where = "" if len(single) == len(comparisons) else f" for {listed(single)} labelled cases"
        parts.append(f"one seed{where} cannot tell the effect of the start from the chance of a single training")
    return "; ".join(parts) + "."


def _first_part(comparison: Comparison, levels: Sequence[Level]) -> str:
    own, scratch = (_mean_dice(levels, arm, comparison.labels) for arm in (comparison.arm, SCRATCH))
    basis = f"{count(len(comparison.per_case), 'test case')}, {count(len(comparison.per_seed), 'seed')}"
    difference = change(comparison.difference.value)
    if abs(own - scratch - comparison.difference.value) > SAME:
        difference += " in the trainings that both have"
    difference += f" (95 % interval {interval(comparison.difference)}, {basis})"
    with_labels = f"With {count(comparison.labels, 'labelled case')}"
    if comparison.verdict == "unclear":
        return (
            f"{with_labels}, no difference between {comparison.arm} and training from scratch could be shown: a mean "
            f"Dice of {dice(own)} against {dice(scratch)}, {difference}"
        )
    return (
        f"{with_labels}, {comparison.arm} was {comparison.verdict} than training from scratch: a mean Dice of "
        f"{dice(own)} against {dice(scratch)}, {difference}"
    )


def _further_part(comparison: Comparison, first: Comparison) -> str:
    numbers = f"{change(comparison.difference.value)}, {interval(comparison.difference)}"
    if len(comparison.per_seed) != len(first.per_seed):
        numbers += f", {count(len(comparison.per_seed), 'seed')}"
    if len(comparison.per_case) != len(first.per_case):
        numbers += f", {count(len(comparison.per_case), 'test case')}"
    found = "no difference could be shown" if comparison.verdict == "unclear" else f"it was {comparison.verdict}"
    return f"with {comparison.labels}, {found} ({numbers})"


def _mean_dice(levels: Sequence[Level], arm: str, labels: int) -> float:
    wanted = (arm, labels, "dice", MEAN)
    return next(lev.mean.value for lev in levels if (lev.arm, lev.labels, lev.metric, lev.label) == wanted)


def _other_arms(against_scratch: Sequence[Comparison], primary: str) -> Iterator[str]:
    for arm in dict.fromkeys(c.arm for c in against_scratch if c.arm != primary):
        yield f"{arm} against scratch: {_summary([c for c in against_scratch if c.arm == arm])}."


def _against_encoder(primary: Sequence[Comparison]) -> Iterator[str]:
    decoder = [c for c in primary if c.reference == ENCODER]
    if decoder:
        yield f"{decoder[0].arm} against {ENCODER}, which is what the pretrained decoder adds: {_summary(decoder)}."


def _between_methods(primary: Sequence[Comparison]) -> Iterator[str]:
    for reference in dict.fromkeys(c.reference for c in primary if c.reference in METHODS):
        between = [c for c in primary if c.reference == reference]
        yield f"{between[0].arm} against {reference}: {_summary(between)}."


def _summary(comparisons: Sequence[Comparison]) -> str:
    return "; ".join(
        f"with {count(c.labels, 'labelled case')} {c.verdict} ({change(c.difference.value)}, {interval(c.difference)})"
        for c in comparisons
    )


def _worth(worth: Sequence[Worth], arm: str) -> Iterator[str]:
    for found in worth:
        if found.arm != arm or found.scratch_labels is None or arm == STOCK:  # which has no pretraining to be worth
            continue
        bound = f"{found.bound} " if found.bound else "about "
        needed = f"{found.scratch_labels:.0f}" if found.scratch_labels >= 10 else f"{found.scratch_labels:.2g}"
        why = ", the most that were tried" if found.bound == "more than" else ""
        why = ", the fewest that were tried" if found.bound == "fewer than" else why
        yield (
            f"{arm} with {count(found.labels, 'labelled case')} has the mean Dice of training from scratch with "
            f"{bound}{needed}{why} (read off the means, without an interval)."
        )


def _convergence(convergence: Sequence[Convergence], arm: str) -> Iterator[str]:
    for curve in convergence:
        if curve.arm != arm:
            continue
        with_labels = f"With {count(curve.labels, 'labelled case')}"
        target = f"scratch's final validation Dice of {dice(curve.target)}"
        if curve.reached is None:
            yield f"{with_labels}, {arm} never reached {target}."
        else:
            yield (
                f"{with_labels}, {arm} first reached {target} after {curve.reached} iterations, scratch after "
                f"{curve.scratch_reached}."
            )


def _other_metrics(comparisons: Sequence[Comparison], arm: str) -> Iterator[str]:
    """Say where another metric gives another verdict than the Dice."""
    ours = [c for c in comparisons if c.arm == arm and c.reference == SCRATCH and c.label == MEAN]
    by_dice = {c.labels: c.verdict for c in ours if c.metric == "dice"}
    for c in ours:
        if c.labels in by_dice and c.verdict not in ("unclear", by_dice[c.labels]):
            yield (
                f"With {count(c.labels, 'labelled case')}, {METRIC_NAMES[c.metric]} says otherwise than the Dice: "
                f"{arm} was {c.verdict} ({change(c.difference.value, c.metric)}, {interval(c.difference, c.metric)})."
            )


def _holm(primary: Sequence[Comparison]) -> Iterator[str]:
    """Say where the interval and Wilcoxon's test, corrected for asking several times, disagree, and why."""
    tested = [(c, c.p_holm) for c in primary if c.p_holm is not None]
    test = f"Wilcoxon's test, corrected for {count(len(tested), 'comparison')},"
    unconfirmed = [_with_p(c, p) for c, p in tested if c.verdict != "unclear" and p >= SIGNIFICANT]
    if unconfirmed:
        yield f"The interval excludes 0, but {test} does not confirm it: {listed(unconfirmed)}."
    of_these_seeds = [_with_p(c, p) for c, p in tested if c.verdict == "unclear" and p < SIGNIFICANT]
    if of_these_seeds:
        yield (
            f"{test} finds a difference between these very trainings, but the interval says that trainings with other "
            f"seeds may not show it: {listed(of_these_seeds)}."
        )


def _with_p(comparison: Comparison, p: float) -> str:
    labels = count(comparison.labels, "labelled case")
    return f"{comparison.arm} against {comparison.reference} with {labels} (p = {p:.2g})"
