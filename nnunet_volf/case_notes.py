"""What our own preprocessing stores inside the file of a case beside its voxels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CASE_KEY = "volf"  # where it comes from
LOCATIONS_KEY = "volf_locations"  # voxels that show tissue


def as_metadata(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that have blosc2 store notes with an array.

    As metadata that are fixed when the file is made: reading variable ones (vlmeta), blosc2 4.14 loses the memory of
    each value, which is 60 kB for every crop of a training. Writing fixed ones it does so too, but once a case only.
    """
    return {"meta": dict(notes)} if notes else {}


def noted(schunk: Any, key: str) -> Any:
    """Return a note, or None where there is none; files that were written before 2026-11-22 hold them as vlmeta."""
    for notes in (schunk.meta, schunk.vlmeta):
        if key in notes:
            return notes[key]
    return None
