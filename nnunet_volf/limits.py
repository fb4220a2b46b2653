"""How large an input may be, before memory is taken for it: a few kilobytes can say that they are terabytes.

A limit is far above what is in use, so that only mistakes and malice meet it, and who has more can raise it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from nnunet_volf.errors import SettingsError

GIGA = 10**9


@dataclass(frozen=True)
class Limit:
    """A number of bytes, and the variable of the environment that gives another, in gigabytes."""

    what: str
    usual: float  # GB
    variable: str

    def bytes(self) -> int:
        """Return the limit that is in force."""
        text = os.environ.get(self.variable) or str(self.usual)
        try:
            gigabytes = float(text)
        except ValueError:
            gigabytes = float("nan")
        if not 0 < gigabytes < float("inf"):
            raise SettingsError(f"{self.variable} is {text!r}; it is a number of gigabytes above 0, such as 32.")
        return int(gigabytes * GIGA)

    def how_to_raise(self, wanted: int) -> str:
        """Return what to do where an input is truly that large."""
        return f"If it is truly that large, set {self.variable}={wanted / GIGA + 1:.0f} (in gigabytes) and run again"


# The voxels of one image, unpacked. A photon-counting CT from head to foot, 1024 x 1024 x 2500 of 16 bits, has 5.2 GB.
IMAGE = Limit("The voxels of one image", 16, "NNUNET_VOLF_LARGEST_IMAGE")
# A table or a JSON file as it lies on the disk. A list of a million images with paths of 150 letters has 0.15 GB.
DOCUMENT = Limit("A table or a JSON file", 0.5, "NNUNET_VOLF_LARGEST_LIST")
