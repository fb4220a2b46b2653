"""What cannot work, said before any image is read."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.given import Given
from nnunet_volf.pretext.slem.codes import Codes
from nnunet_volf.pretext.slem.grid import block_size, blocks_of
from nnunet_volf.pretext.slem.settings import SLeMSettings

# A block needs this many of the deepest features along each axis that is divided, or its features mix with those of the
# next block.
FEATURES_PER_BLOCK = 2

# More channels than this make classes that differ in too little; the answers for each block stay few.
MOST_CHANNELS = 8

# Outputs for each block. Six channels in any order are 720, seven would be 5040.
MOST_SYMBOLS = 1024


def check_channels(given: Given, settings: SLeMSettings) -> None:
    """Refuse one channel, and too many for the kind of answer."""
    channels = len(given.channels)
    if channels < 2:
        raise SettingsError(
            f"SLeM needs at least 2 co-registered input channels; {given.dataset} has {channels} (dataset.json, "
            "channel_names). Use nnUNetTrainerVolF, nnUNetTrainerVoCo or nnUNetTrainerMAE, which work with one."
        )
    if channels > MOST_CHANNELS and settings.assignment == "product" and settings.head != "blocks":
        raise SettingsError(
            f"{given.dataset} has {channels} channels, and one class for each combination is for {MOST_CHANNELS} at "
            "most. Set head=blocks: then each block is asked for on its own."
        )


def check_grid(given: Given, grid: Sequence[int], settings: SLeMSettings) -> None:
    """Refuse a grid that is not of the patch, blocks that are too small, and blocks that cannot change places."""
    patch = given.patch
    if len(grid) != len(patch):
        raise SettingsError(
            f"grid is {list(grid)} and the patch of this configuration {list(patch)}. Give one number for each of its "
            f"{len(patch)} axes."
        )
    sizes = [block_size(block) for block in blocks_of(patch, grid)]
    smallest = tuple(min(sides) for sides in zip(*sizes, strict=True))
    needed = tuple(
        FEATURES_PER_BLOCK * stride if cells > 1 else 1 for stride, cells in zip(given.strides, grid, strict=True)
    )
    if any(side < least for side, least in zip(smallest, needed, strict=True)):
        raise SettingsError(
            f"A grid of {_times(grid)} makes blocks of {_times(smallest)} voxels in a patch of {_times(patch)}, and "
            f"this network, with strides of {_times(given.strides)}, needs {_times(needed)} to tell one block from the "
            f"next. {_remedy(given)}"
        )
    if settings.shuffle_positions and len(set(sizes)) > 1:
        raise SettingsError(
            f"shuffle_positions needs blocks of one size, and a grid of {_times(grid)} does not divide a patch of "
            f"{_times(patch)} evenly. Choose another grid, or set shuffle_positions=false."
        )


def check_codes(codes: Codes, settings: SLeMSettings) -> None:
    """Refuse permutations where channels and blocks do not pair up, and more outputs a block than can be learnt."""
    if settings.assignment == "permutation" and codes.blocks != codes.channels:
        raise SettingsError(
            f"assignment=permutation gives each channel one block, and there are {codes.channels} channels and "
            f"{codes.blocks} blocks. Set grid so that there are {codes.channels}, or assignment=product."
        )
    if settings.head == "blocks" and codes.symbols > MOST_SYMBOLS:
        raise SettingsError(
            f"A block may show {codes.symbols} different things, and head=blocks is for {MOST_SYMBOLS} at most. Set "
            "mode=cyclic, or head=combination, which chooses some of the combinations."
        )


def _remedy(given: Given) -> str:
    """Say what the finest grid is, or that there is none."""
    finest = [side // (FEATURES_PER_BLOCK * stride) for side, stride in zip(given.patch, given.strides, strict=True)]
    if max(finest) < 2:
        return "It is too small to be divided at all: take plans with a larger patch_size."
    return f"Set grid to {[max(1, cells) for cells in finest]} or less."


def _times(sides: Sequence[int]) -> str:
    return " x ".join(str(side) for side in sides)
