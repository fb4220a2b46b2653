"""Cases that turn out to be damaged while a training reads them: noted in a table, left out, and not too many.

All processes of a training share the table in its output folder. Whoever meets such a case adds a line; the others read
it before their next batch.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nnunet_volf.errors import DataError
from nnunet_volf.files import replacing

TABLE = "damaged_cases.csv"

# So many cases that fail one after the other, with none between that could be read: that is no matter of single files.
IN_A_ROW = 5

_FEWEST_LEFT = 2  # Volume Fusion takes pairs
_NAMED = 5


class DamagedCase(DataError):  # noqa: N818 - what a case is, not a fault of the program
    """One case cannot be read, or holds what must not reach a network; which one, and where its file is."""

    def __init__(self, identifier: str, path: Path, reason: str, advice: str = "Preprocess the case again.") -> None:
        super().__init__(f"Case {identifier}: {path} {reason} {advice}")
        self.identifier, self.path, self.reason = identifier, path, reason


class TooManyDamagedError(DataError):
    """A training has met more damaged cases than it may leave out."""


@dataclass(frozen=True)
class Damage:
    """A line of the table."""

    case: str
    file: str
    reason: str


class DamagedCases:
    """What a process knows of the damaged cases of its training."""

    def __init__(self, table: Path, limit: float, repair: str) -> None:
        """Begin with what the table holds.

        Args:
            table: the file that all processes share.
            limit: the share of the cases that may be left out.
            repair: the command that preprocesses them again.
        """
        self.table, self.limit, self.repair = table, limit, repair
        self.found: dict[str, Damage] = {}
        self._size = 0
        self._in_a_row = 0
        self.refresh()

    def refresh(self) -> list[Damage]:
        """Take over what other processes have added, and return it; costs nothing while the table does not change."""
        try:
            size = self.table.stat().st_size
        except FileNotFoundError:
            return []
        if size == self._size:
            return []
        self._size = size
        new = {damage.case: damage for damage in read_table(self.table) if damage.case not in self.found}
        self.found.update(new)
        return list(new.values())

    def note(self, damaged: DamagedCase, among: Sequence[str]) -> None:
        """Leave a case out from now on, in all processes, unless those of `among` become too few.

        Raises:
            TooManyDamagedError: where they do, or where it looks as if the disk and not the cases were damaged.
        """
        self.refresh()
        if damaged.identifier not in self.found:
            damage = Damage(damaged.identifier, str(damaged.path), damaged.reason)
            _append(self.table, damage)
            self.found[damage.case] = damage
            self._in_a_row += 1
            if self._in_a_row >= IN_A_ROW:
                raise TooManyDamagedError(
                    f"{self._in_a_row} cases one after the other could not be read; the last: {damaged} So it is "
                    "rather the disk, or the way to it, than single cases: see whether the folder is there and its "
                    "disk is well, then continue with --c. What can be read again by then is used again. All are "
                    f"listed in {self.table}."
                )
        self.require_enough(among)

    def note_read(self) -> None:
        """Take note that a case could be read."""
        self._in_a_row = 0

    def require_enough(self, cases: Sequence[str]) -> None:
        """Stop when more of these cases are damaged than may be left out."""
        most = allowed(len(cases), self.limit)
        if len(self.found) <= most:  # asked before each batch, of perhaps 100,000 cases
            return
        damaged = [case for case in cases if case in self.found]
        if len(damaged) <= most:
            return
        named = ", ".join(damaged[:_NAMED]) + (f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else "")
        raise TooManyDamagedError(
            f"{len(damaged)} of {len(cases)} cases are damaged: {named}. With damaged_limit={self.limit:g} a training "
            f"goes on without {most} of them. {self.table} says what is wrong with each. "
            f"{self.repair} does them again; then continue with --c."
        )


def allowed(cases: int, limit: float) -> int:
    """Return how many of so many cases may be left out: a share, but a single one of any that leaves enough."""
    return max(0, min(max(1, int(limit * cases)), cases - _FEWEST_LEFT)) if limit else 0


def read_table(table: Path) -> list[Damage]:
    """Return the lines of a table, each case once; a line that is still being written is left for the next time."""
    try:
        text = table.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    names = [field.name for field in fields(Damage)]
    lines = (line for line in csv.DictReader(io.StringIO(whole)) if all(line.get(name) for name in names))
    return list({line["case"]: Damage(*(line[name] for name in names)) for line in lines}.values())


def write_table(table: Path, damages: Collection[Damage]) -> None:
    """Put a table into the place of another; without any damage there is none."""
    if not damages:
        table.unlink(missing_ok=True)
        return
    with replacing(table) as aside:
        aside.write_text(_header() + "".join(map(_line, damages)), encoding="utf-8")


def plain(damages: Iterable[Damage]) -> list[dict[str, str]]:
    """Return plain data, for a checkpoint."""
    return [asdict(damage) for damage in damages]


def from_plain(rows: Iterable[Mapping[str, str]]) -> list[Damage]:
    """Return what `plain` was given."""
    return [Damage(**row) for row in rows]


def _append(table: Path, damage: Damage) -> None:
    """Add a line in one write, so that lines of several processes do not mix."""
    line = _line(damage) if table.is_file() else _header() + _line(damage)
    try:
        descriptor = os.open(table, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DataError(
            f"Case {damage.case}: {damage.file} {damage.reason} That cannot be noted in {table} ({error}). Mend that, "
            "then continue with --c."
        ) from error


def _header() -> str:
    return ",".join(field.name for field in fields(Damage)) + "\n"


def _line(damage: Damage) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([" ".join(value.split()) for value in asdict(damage).values()])
    return text.getvalue()
