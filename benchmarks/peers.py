"""One sample of Volume Fusion made from volumes in memory: PyMIC, nnssl and nnunet-volf, in turns in one process.

Nothing is read from files: two crops are cut, augmented and fused. PyMIC is the reference code of the publication and
does what we do. nnssl cuts crops at the centre of a volume, never resizes them, and applies each of its transforms to a
part of the samples; two crops of its batch make a sample. Their code is taken from checkouts of their repositories.

    python benchmarks/peers.py --pymic DIR --nnssl DIR [--patch 128 128 128] [--rounds 15]
"""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import torch
from timing import conditions, parser, side_by_side

from nnunet_volf.augment import draw_window
from nnunet_volf.cases import CaseImage
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.pretext.volf.transforms import TwoCropAugmentTransform, VolumeFusionTransform

Call = Callable[[], object]

# What their packages import and these pipelines never call.
UNUSED = ("h5py", "imops", "loguru")


def ours(volume: np.ndarray, patch: tuple[int, ...]) -> dict[str, Call]:
    """Return our pipeline, with the published augmentation."""
    settings = VolFSettings.from_mapping({"turned": False, "intensity": True})
    augment, fuse = TwoCropAugmentTransform(patch, settings), VolumeFusionTransform(patch, settings)
    case, rng = CaseImage("in memory", Path("in memory"), volume), np.random.default_rng(0)

    def augmented() -> dict[str, typing.Any]:
        first, second = (case.read(draw_window(rng, case.volume, patch, settings.scale)) for _ in range(2))
        return augment(image=first, partner=second, rng=rng)

    pair = augmented()
    return {"nnunet-volf": lambda: fuse(**augmented()), "nnunet-volf, fusing": lambda: fuse(**pair)}


def pymic(checkout: Path, volume: np.ndarray, patch: tuple[int, ...]) -> dict[str, Call]:
    """Return PyMIC's pipeline with its defaults."""
    sys.path.insert(0, str(checkout))
    from pymic import TaskType
    from pymic.transform.crop4vf import Crop4VolumeFusion, VolumeFusion

    task = {"task": TaskType.RECONSTRUCTION}
    augment, fuse = Crop4VolumeFusion({"crop4volumefusion_output_size": list(patch), **task}), VolumeFusion(task)
    pair = augment({"image": volume})["image"]
    return {
        "PyMIC": lambda: fuse(augment({"image": volume})),
        "PyMIC, fusing": lambda: fuse({"image": pair}),
    }


def nnssl(checkout: Path, volume: np.ndarray, patch: tuple[int, ...]) -> dict[str, Call]:
    """Return nnssl's pipeline with what its trainer sets, for one sample."""
    sys.path.insert(0, str(checkout / "src"))
    if sys.version_info < (3, 12):  # it is for type checkers
        typing.override = lambda method: method
    from nnssl.training.nnsslTrainer.volume_fusion.VolumeFusionTrainer import VolumeFusionTrainer

    trainer = SimpleNamespace(
        vf_mixing_coefficients=np.linspace(0, 1, 5),
        vf_subpatch_count=(10, 40),
        vf_subpatch_size=[(8, int(0.625 * side) + 1) for side in patch],
    )
    transforms = VolumeFusionTrainer.get_training_transforms(trainer, patch, None, (0, 1, 2), False)
    fuse = transforms.transforms[-2]
    centre = tuple(slice((side - n) // 2, (side - n) // 2 + n) for side, n in zip(volume.shape[1:], patch, strict=True))
    crops = np.stack([volume[(slice(None), *centre)]] * 2)
    return {"nnssl": lambda: transforms(data=crops.copy()), "nnssl, fusing": lambda: fuse(data=crops)}


def arguments() -> argparse.Namespace:
    """Read the options."""
    options = parser(__doc__)
    options.add_argument("--pymic", type=Path, help="a checkout of HiLab-git/PyMIC")
    options.add_argument("--nnssl", type=Path, help="a checkout of MIC-DKFZ/nnssl")
    return options.parse_args()


def main() -> None:
    """Print one table."""
    args = arguments()
    torch.set_num_threads(1)
    patch = tuple(args.patch)
    volume = np.random.default_rng(0).normal(size=(1, *(round(1.5 * side) for side in patch))).astype(np.float32)

    for name in UNUSED:
        sys.modules.setdefault(name, MagicMock(name=name))
    candidates = ours(volume, patch)
    for peer, checkout in ((pymic, args.pymic), (nnssl, args.nnssl)):
        if checkout is not None:
            candidates |= peer(checkout, volume, patch)
    first, second = (torch.from_numpy(volume[(slice(None), *(slice(n) for n in patch))]).clone() for _ in range(2))
    candidates["torch.add of two volumes"] = lambda: torch.add(first, second)
    np.random.seed(0)  # noqa: NPY002 - nnssl's transforms draw from it
    rows = side_by_side(candidates, "nnunet-volf", args.rounds, process_time)

    print(conditions())
    print(f"\nOne sample, patch {patch}, one channel; medians are typical samples, means what many take")
    print("\n| | median (ms) | x nnunet-volf | mean (ms) | x nnunet-volf |\n|---|---|---|---|---|")
    for row in rows:
        medians, means = f"{1000 * row.seconds:.1f} | {row.ratio:.2f}", f"{1000 * row.mean:.1f}"
        print(f"| {row.name} | {medians} | {means} | {row.mean / rows[0].mean:.2f} |")


if __name__ == "__main__":
    main()
