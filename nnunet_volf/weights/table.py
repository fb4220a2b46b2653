"""A comparison of weights and task as people read it: a row a module, or a row a tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nnunet_volf.weights.choices import ADAPTED, CARRIED, HEAD, MISSING, SKIPPED, UNTRAINED
from nnunet_volf.weights.matching import Match, Row, share_of

OUTCOMES = (CARRIED, ADAPTED, SKIPPED, MISSING)  # and UNTRAINED, where it occurs

_MODULE = re.compile(r"(?:encoder|decoder)\.[a-z_]+(?:\.\d+)?")


def module_of(name: str) -> str:
    """Return ``encoder.stages.2`` for the tensors of that stage, and ``heads`` for those that segment."""
    if ".seg_layers." in name:
        return "heads"
    found = _MODULE.match(name)
    return (found[0] if found else name.split(".")[0]).removesuffix(".convs.0")


def module_table(match: Match) -> str:
    """Return a line a module: its parameters, what share of them has which outcome, and the reasons."""
    modules: dict[str, list[Row]] = {}
    for row in match.rows:
        modules.setdefault(module_of(row.name), []).append(row)
    outcomes = (*OUTCOMES, UNTRAINED) if any(row.outcome == UNTRAINED for row in match.rows) else OUTCOMES
    header = ("module", "parameters", *outcomes, "")
    body = [_module_line(module, rows, outcomes) for module, rows in modules.items()]
    whole = ("all but heads", f"{sum(r.parameters for r in match.rows if r.outcome != HEAD):,}")
    total = (*whole, *(_percent(match.share_of_network(outcome)) for outcome in outcomes), "")
    return _columns([header, *body, total])


def _module_line(module: str, rows: Sequence[Row], outcomes: Sequence[str]) -> tuple[str, ...]:
    parameters = f"{sum(row.parameters for row in rows):,}"
    if all(row.outcome == HEAD for row in rows):
        return (module, parameters, *("" for _ in outcomes), "new: they belong to the task")
    shares = [_percent(share_of(rows, outcome)) for outcome in outcomes]
    reasons = filter(None, (_main_reason(rows, outcome) for outcome in outcomes if outcome != CARRIED))
    return (module, parameters, *shares, "; ".join(reasons))


def _main_reason(rows: Sequence[Row], outcome: str) -> str:
    """Return why the largest tensor of a module has an outcome; the others follow from it, or ``-v`` shows them."""
    having = [row for row in rows if row.outcome == outcome]
    return max(having, key=lambda row: row.parameters).detail if having else ""


def tensor_table(match: Match) -> str:
    """Return a line a tensor."""
    header = ("tensor", "shape", "outcome", "")
    body = [(row.name, " x ".join(map(str, row.shape)) or "1", row.outcome, row.detail) for row in match.rows]
    left = [(name, "", "left", "the network has no place for it") for name in match.left]
    return _columns([header, *body, *left])


def _percent(share: float) -> str:
    if share in (0, 1):
        return "-" if share == 0 else "100 %"
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def _columns(rows: Iterable[Sequence[str]]) -> str:
    """Align a table: names to the left, numbers to the right, the last column as long as it likes."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)),
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)
