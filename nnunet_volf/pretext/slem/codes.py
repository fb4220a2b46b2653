"""Codes: what each block of a recombined image shows.

A code has one number, the symbol, for each block. A symbol stands for an order of the channels and, where blocks change
places too, for the block that the content comes from. All codes are numbered from 0, and code 0 is the plainest one:
without `assignment="permutation"` it leaves the image as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MODES = ("cyclic", "mosaic", "permutation")
ASSIGNMENTS = ("product", "permutation")

Code = tuple[int, ...]

# Random numbers below a count that may have forty digits are taken from this many random bytes.
_BYTES = 32


@dataclass(frozen=True)
class Codes:
    """All codes of an image with this many channels and blocks."""

    channels: int
    blocks: int
    mode: str = "cyclic"
    assignment: str = "product"
    shuffle: bool = False  # blocks change places too

    @property
    def orders(self) -> int:
        """How many orders of the channels a block may show."""
        return math.factorial(self.channels) if self.mode == "permutation" else self.channels

    @property
    def symbols(self) -> int:
        """How many different things a block may show."""
        return self.orders * (self.blocks if self.shuffle else 1)

    @property
    def count(self) -> int:
        """How many codes there are."""
        return self._assignments * (math.factorial(self.blocks) if self.shuffle else 1)

    @property
    def _assignments(self) -> int:
        return math.factorial(self.channels) if self.assignment == "permutation" else self.orders**self.blocks

    def numbered(self, number: int) -> Code:
        """Return a code by its number, in lexicographic order."""
        places, assigned = divmod(number, self._assignments)
        orders = (
            nth_permutation(self.channels, assigned)
            if self.assignment == "permutation"
            else _digits(assigned, self.orders, self.blocks)
        )
        if not self.shuffle:
            return orders
        sources = nth_permutation(self.blocks, places)
        return tuple(source * self.orders + order for source, order in zip(sources, orders, strict=True))

    def draw(self, rng: np.random.Generator) -> Code:
        """Draw a code, each as likely as any other."""
        return self.numbered(self.number_from(rng.bytes(_BYTES)))

    def number_from(self, random_bytes: bytes) -> int:
        """Return the number of a code, from bytes that are random."""
        return int.from_bytes(random_bytes, "little") % self.count

    def source(self, symbol: int, block: int) -> int:
        """Return the block that a block with this symbol shows."""
        return symbol // self.orders if self.shuffle else block

    def shown(self, symbol: int) -> Code:
        """Return which channel of the original each channel of a block with this symbol shows."""
        order = symbol % self.orders
        if self.mode == "permutation":
            return nth_permutation(self.channels, order)
        if self.mode == "mosaic":
            return (order,) * self.channels
        return tuple((channel + order) % self.channels for channel in range(self.channels))


def nth_permutation(length: int, number: int) -> Code:
    """Return permutation `number` of 0 … length - 1, in lexicographic order, without listing those before it."""
    left, permutation = list(range(length)), []
    for places in range(length - 1, -1, -1):
        index, number = divmod(number, math.factorial(places))
        permutation.append(left.pop(index))
    return tuple(permutation)


def _digits(number: int, base: int, length: int) -> Code:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, base)
        digits.append(digit)
    return tuple(reversed(digits))
