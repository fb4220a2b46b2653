"""The figure of the README: one fusion of a held-out case, from real preprocessed data, and what a network made of it.

Two crops, the fused image, the classes to be found, and the prediction of a pretrained network. What is shown is a
sample of the fixed series that `nnunet-volf preview` and the validation of a pretraining draw from.

    python benchmarks/figure.py 5 checkpoint_final.pth figure.png [-p VolFPlans] [-c 3d_fullres] [--fold 0]

The README's own is of the pretraining on small volumes in docs/benchmarks.md, with --seed 3 --sample 17 --axis 2
--plane 26. It was chosen among 192 samples because it reads well: the classes are found better than on average.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from card import INK, QUIET, card, save
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_volf import plans
from nnunet_volf.cases import UnlabeledCases
from nnunet_volf.dataloading import SampleLoader
from nnunet_volf.files import read_json
from nnunet_volf.pretext.volf.panel import PanelCase, class_colours

PANEL, GAP, ABOVE, BELOW = 2.6, 0.22, 0.85, 0.36  # inches
FIRST_MAP = 3  # the panels before it are images
TITLES = (
    ("Background B", "one crop"),
    ("Foreground A", "another crop"),
    ("Fused image", "what the network sees"),
    ("Share of A", "what it is to find"),
    ("Prediction", "what it has found"),
)


def main() -> None:
    """Draw one sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("checkpoint", type=Path, help="of nnUNetTrainerVolF")
    parser.add_argument("output", type=Path)
    parser.add_argument("-p", default=plans.OUR_PLANS, metavar="PLANS")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION")
    parser.add_argument("--fold", type=int, default=0, help="its validation cases are shown: held out [0]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", type=int, default=0, help="number of the sample in the series of the seed [0]")
    parser.add_argument("--axis", type=int, default=0, help="that the plane is perpendicular to [0]")
    parser.add_argument("--plane", type=int, help="[the middle]")
    args = parser.parse_args()

    dataset = plans.planned_dataset(args.dataset, args.p)
    samples = held_out_samples(dataset, args.c, args.fold)
    sample = samples.fixed_sample(args.seed, args.sample)
    case = PanelCase.from_sample(sample, predict(args.checkpoint, sample["image"]))
    draw(case, dataset.pretext(args.c).settings.coefficients, args.axis, args.plane, args.output)


def held_out_samples(dataset: plans.PlannedDataset, configuration: str, fold: int) -> SampleLoader:
    """Return a loader of the cases that were not trained on."""
    described = dataset.configuration(configuration)
    folder = dataset.folder / described["data_identifier"]
    held_out = read_json(dataset.folder / "splits_final.json")[fold]["val"]
    known = infer_dataset_class(str(folder)).get_identifiers(str(folder))
    sampler = dataset.pretext(configuration).sampler()
    return SampleLoader(UnlabeledCases(folder, [name for name in known if name in held_out]), 1, sampler)


def predict(checkpoint: Path, image: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return the class of every voxel, as the pretrained network sees it."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    made = saved["init_args"]["plans"]["configurations"][saved["init_args"]["configuration"]]["architecture"]
    heads = next(weight for name, weight in saved["network_weights"].items() if ".seg_layers." in name)
    network = get_network_from_plans(
        made["network_class_name"],
        made["arch_kwargs"],
        made["_kw_requires_import"],
        len(image),
        len(heads),
        deep_supervision=False,
    )
    network.load_state_dict(saved["network_weights"])
    with torch.inference_mode():
        return network.eval()(image[None])[0].argmax(0).numpy().astype(np.uint8)


def draw(case: PanelCase, coefficients: int, axis: int, plane: int | None, path: Path) -> None:
    """Write the picture: five panels on one card, and the key of the colours."""
    volumes = (case.background, case.foreground, case.fused, case.target, case.prediction)
    at = case.fused.shape[axis] // 2 if plane is None else plane
    shown = [np.take(volume, at, axis=axis) for volume in volumes if volume is not None]
    shown = [picture.T if picture.shape[0] > picture.shape[1] else picture for picture in shown]
    low, high = np.percentile(np.concatenate(shown[:2]), (0.5, 99.5))
    colours = class_colours(coefficients)

    height = PANEL * shown[0].shape[0] / shown[0].shape[1]
    size = (len(shown) * (PANEL + GAP) + GAP, ABOVE + height + BELOW)
    figure = card(size)
    for column, (picture, (title, meaning)) in enumerate(zip(shown, TITLES, strict=True)):
        left = GAP + column * (PANEL + GAP)
        axes = figure.add_axes((left / size[0], BELOW / size[1], PANEL / size[0], height / size[1]))
        axes.set_axis_off()
        if column < FIRST_MAP:
            axes.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="bicubic")
        else:
            axes.imshow(picture, cmap=colours, vmin=-0.5, vmax=coefficients + 0.5, interpolation="nearest")
        axes.set_title(title, loc="left", color=INK, fontsize=15, weight="bold", pad=25)
        axes.text(0, 1.045, meaning, transform=axes.transAxes, color=QUIET, fontsize=12)
    for k in range(coefficients + 1):
        left = GAP + FIRST_MAP * (PANEL + GAP) + k * 0.75
        for offset, text, colour in ((0, "\N{BLACK SQUARE}", colours(k)), (0.22, f"{k}/{coefficients}", QUIET)):
            figure.text((left + offset) / size[0], 0.17 / size[1], text, color=colour, fontsize=12, va="center")
    save(figure, path)


if __name__ == "__main__":
    main()
