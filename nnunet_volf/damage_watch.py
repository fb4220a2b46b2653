"""What a training tells its user about damaged cases, and what it remembers of them from one start to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunet_volf.cases import is_sound
from nnunet_volf.damaged_cases import TABLE, Damage, DamagedCases, allowed, read_table, write_table


@dataclass
class DamageWatch:
    """The table of one training, as its first process sees it."""

    output: Path
    limit: float
    repair: str  # the command
    say: Callable[[str], None]

    @property
    def table(self) -> Path:
        """Where damaged cases are noted."""
        return self.output / TABLE

    def known(self) -> DamagedCases:
        """Return what a loader takes along to leave damaged cases out, and to note more."""
        return DamagedCases(self.table, self.limit, self.repair)

    @cached_property
    def _told(self) -> DamagedCases:
        return self.known()

    def begin(self, before: Sequence[Damage], folder: Path) -> None:
        """Begin with what a checkpoint knew, less what can be read by now; nothing else, so that it goes on alike."""
        still = [damage for damage in before if not is_sound(folder, damage.case)]
        write_table(self.table, still)
        self._told.refresh()
        if still:
            self.say(f"Damaged as before, and still left out: {_names(still)}. {self.repair} does them again.")
        sound = [damage for damage in before if damage not in still]
        if sound:
            self.say(f"These were damaged, can be read now, and are used again: {_names(sound)}.")

    def tell(self) -> None:
        """Warn of what has been noted since this was last called."""
        for damage in self._told.refresh():
            self.say(
                f"WARNING: case {damage.case} is damaged and left out from now on; validation samples of it are made "
                f"from other cases. {damage.file} {damage.reason} To have it done again: {self.repair}"
            )

    def sum_up(self, cases: Sequence[str]) -> None:
        """Say how many cases of a training are left out, if any are."""
        self.tell()
        noted = self._told.found.keys()
        if noted:
            self.say(
                f"Damaged: {len(noted & set(cases))} of {len(cases)} training cases are left out, {len(noted)} are "
                f"noted in {self.table.name}; the limit is {allowed(len(cases), self.limit)}."
            )

    def finish(self) -> int:
        """Leave a table with a line a case, and return how many those are."""
        found = read_table(self.table)
        write_table(self.table, found)
        return len(found)


def _names(damages: Iterable[Damage]) -> str:
    return ", ".join(sorted(damage.case for damage in damages))
