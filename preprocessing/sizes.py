"""Is an image small enough to be read? Asked before memory is taken, of what its header says and of its file."""

from __future__ import annotations

from nnunet_volf.limits import GIGA, IMAGE
from nnunet_volf.machine import available_memory

from .refusals import Refused

# A scan of which nine tenths are air, masked to zero, packs to a fiftieth. What packs to less shows nothing, and below
# a gigabyte it is read all the same, as looking at it tells better what it is.
MOST_PACKED = 200
ALWAYS_READ = GIGA


def check_size(needed: int, stored: int) -> None:
    """Refuse voxels that are more than can be meant.

    Args:
        needed: bytes of the voxels once unpacked.
        stored: bytes of the file, or the files, that hold them.
    """
    limit, free = IMAGE.bytes(), available_memory()
    found = f"Its header promises {needed / GIGA:.1f} GB of voxels"
    if needed > limit:
        raise Refused(
            "too-large",
            f"{found}; images may have {limit / GIGA:g} GB.",
            f"{IMAGE.how_to_raise(needed)} with --retry.",
        )
    if needed > max(ALWAYS_READ, MOST_PACKED * stored):
        raise Refused(
            "too-large",
            f"{found}, out of a file of {stored:,} bytes; packed more than {MOST_PACKED} times, it is no scan.",
            "Remove it, or export the scan again.",
        )
    if free is not None and needed > free:
        raise Refused(
            "too-large",
            f"{found}, and {free / GIGA:.1f} GB of memory are free.",
            "Close other programs, use fewer workers (-np) or a machine with more memory, and run again with --retry.",
        )
