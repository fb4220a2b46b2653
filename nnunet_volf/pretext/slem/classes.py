"""The class table: which codes the network is asked to tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_volf.pretext.slem.codes import Code, Codes

# Where there are more codes than classes, the classes are chosen among this many codes for each class.
CANDIDATES_PER_CLASS = 16

_WORDS = 4  # of 64 random bits, for each candidate


def class_table(codes: Codes, most_classes: int, seed: int) -> tuple[Code, ...]:
    """Return the code of each class; class 0 is code 0, and the same arguments give the same table everywhere.

    All codes where they are few enough. Otherwise `most_classes` of them, chosen one by one so that each differs in as
    many blocks as possible from the one chosen before that it is most alike, as JiGen chooses its permutations.
    """
    if codes.count <= most_classes:
        return tuple(codes.numbered(number) for number in range(codes.count))
    return farthest_first(candidates(codes, CANDIDATES_PER_CLASS * most_classes, seed), most_classes)


def candidates(codes: Codes, most: int, seed: int) -> list[Code]:
    """Return code 0 and others in random order: all there are, or as many as `most` draws give."""
    # The raw words of a bit generator, because numpy promises that those alone stay the same in its later releases. A
    # training that goes on with a newer numpy must find its classes unchanged.
    bits = np.random.PCG64(seed)
    if codes.count <= most:
        numbers = np.argsort(bits.random_raw(codes.count), kind="stable").tolist()
    else:
        words = bits.random_raw((most, _WORDS)).astype("<u8")
        numbers = [codes.number_from(row.tobytes()) for row in words]
    return [codes.numbered(number) for number in dict.fromkeys([0, *numbers])]


def farthest_first(among: Sequence[Code], number: int) -> tuple[Code, ...]:
    """Return the first code, and then again and again the one that differs most from the nearest of those chosen.

    Codes differ by the number of blocks that show something else; of several that differ as much, the first is taken.
    """
    table = np.array(among)
    chosen = [0]
    distance = np.full(len(table), table.shape[1] + 1)
    for _ in range(number - 1):
        distance = np.minimum(distance, (table != table[chosen[-1]]).sum(1))
        chosen.append(int(distance.argmax()))
    return tuple(among[index] for index in chosen)
