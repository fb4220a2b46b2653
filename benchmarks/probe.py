"""How much anatomy do pretrained features hold already? A linear probe: a screen without any training.

The network stays as it is. What its stages give at a voxel, all scales together, is what a multinomial logistic
regression is fitted on, with the labelled cases that `nnunet-volf benchmark` would draw; the Dice of the test cases
says how well straight planes divide the classes. Features of an untrained network come first: what they give is not
owed to pretraining. A good probe is a hint and no proof: fine-tuning changes all features.

    python benchmarks/probe.py 4 k2=k2/checkpoint_final.pth mae=mae/checkpoint_final.pth [-p Small] [--labels 3 10]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import Tensor, nn
from torch.nn import functional

from nnunet_volf import plans
from nnunet_volf.benchmark.experiment import Cases
from nnunet_volf.benchmark.subsets import divide, subset
from nnunet_volf.files import read_json
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.target import architecture_of, build_network

UNTRAINED = "untrained"
PARTS = ("encoder", "decoder", "both")
VOXELS = 500  # of each class and case that the regression sees; weights give each class its share back
RIDGE = 1e-4  # of the squared coefficients, features being standardised
STEPS = 60  # of L-BFGS; 200 change the Dice by 0.001 at most


class Case(NamedTuple):
    """A preprocessed case."""

    image: Tensor  # (channels, *spatial)
    labels: Tensor  # (*spatial)


@dataclass(frozen=True)
class Question:
    """What part of the features is asked for, and with how many labelled cases, drawn with which seeds."""

    part: str
    labels: int
    seeds: Sequence[int]


@dataclass(frozen=True)
class Voxels:
    """Features of some voxels of one case, what they are, and how many voxels each stands for."""

    features: Tensor  # (n, f)
    labels: Tensor  # (n,)
    weights: Tensor  # (n,)


@dataclass(frozen=True)
class Planes:
    """A fitted regression on features as the network gives them."""

    coefficients: Tensor  # (classes, f)
    offset: Tensor  # (classes,)


def main() -> None:
    """Probe every network that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="with labels, preprocessed, and with fold 0 in splits_final.json")
    parser.add_argument("weights", nargs="*", metavar="NAME=FILE")
    parser.add_argument("-p", default=plans.DEFAULT_PLANS, metavar="PLANS")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION")
    parser.add_argument("--labels", type=int, nargs="+", default=[10])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()

    dataset = plans.planned_dataset(arguments.dataset, arguments.p)
    configuration = dataset.configuration(arguments.c)
    cases = divide(read_json(dataset.folder / "splits_final.json")[0])
    folder = str(dataset.folder / configuration["data_identifier"])
    stored = infer_dataset_class(folder)(folder)
    known = {name: load(stored, name) for name in (*cases.pool, *cases.test)}
    classes = 1 + max(int(case.labels.max()) for case in known.values())
    files = {
        UNTRAINED: None,
        **{name: Path(file) for name, _, file in (text.partition("=") for text in arguments.weights)},
    }

    print("| weights | part | labels | Dice | each seed |\n|---|---|---|---|---|")
    for name, file in files.items():
        network = build(configuration, len(dataset.channel_names()), classes, file)
        questions = [
            Question(part, labels, range(1, arguments.seeds + 1))
            for part in arguments.parts
            for labels in arguments.labels
        ]
        for question, seeds in zip(questions, answers(network, known, cases, classes, questions), strict=True):
            each = ", ".join(f"{dice:.3f}" for dice in seeds)
            print(f"| {name} | {question.part} | {question.labels} | {fmean(seeds):.3f} | {each} |", flush=True)


def answers(
    network: nn.Module, known: Mapping[str, Case], cases: Cases, classes: int, questions: Sequence[Question]
) -> list[list[float]]:
    """Return for each question the mean Dice of the test cases with each seed."""
    drawn = {case: draw(stages(network, known[case].image), known[case].labels, classes) for case in cases.pool}

    def planes(question: Question, seed: int) -> Planes:
        labelled = [drawn[case] for case in subset(cases.pool, question.labels, seed)]
        return fit(labelled, classes, columns(network, question.part))

    fitted = [[planes(question, seed) for seed in question.seeds] for question in questions]
    found = []
    for image, labels in (known[case] for case in cases.test):
        maps = stages(network, image)
        found.append([[mean_dice(predict(one, maps, labels.shape), labels, classes) for one in row] for row in fitted])
    means: list[list[float]] = np.nanmean(np.array(found), axis=0).tolist()
    return means


def load(stored: Any, case: str) -> Case:
    """Read a preprocessed case; what is not labelled counts as background."""
    image, labels, *_ = stored.load_case(case)
    known = torch.from_numpy(np.asarray(labels[0])).long().clamp(min=0)
    return Case(torch.from_numpy(np.asarray(image[:], np.float32)), known)


def build(configuration: Mapping[str, Any], channels: int, classes: int, file: Path | None) -> nn.Module:
    """Return the network of a plan with pretrained weights but for the heads, or with those that a seed gives."""
    torch.manual_seed(0)
    network = build_network(architecture_of(configuration), channels, classes, initialize=True)
    if file is not None:
        own = {name: weight for name, weight in network.named_parameters() if ".seg_layers." not in name}
        trained = read_pretrained(file).tensors
        if strange := [
            name for name, weight in own.items() if name not in trained or trained[name].shape != weight.shape
        ]:
            raise SystemExit(f"{file} does not fit the plan: {strange[0]} is not there, or has another shape.")
        network.load_state_dict({name: trained[name] for name in own}, strict=False)
    return network.eval()


@torch.no_grad()
def stages(network: Any, image: Tensor) -> list[Tensor]:
    """Return what every stage of encoder and decoder gives (f, *spatial), each at its own resolution, for a whole case.

    The case is padded at its end to what the network can halve; what lies beyond the case is left out where a stage's
    maps are looked at.
    """
    maps: list[Tensor] = []
    parts = [*network.encoder.stages, *network.decoder.stages]
    hooks = [part.register_forward_hook(lambda _module, _input, output: maps.append(output[0])) for part in parts]
    multiple = 2 ** len(network.encoder.stages)
    beyond = [(0, -side % multiple) for side in image.shape[:0:-1]]
    try:
        network(functional.pad(image, [side for pair in beyond for side in pair])[None])
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def columns(network: Any, part: str) -> slice:
    """Return which of all features are of a part."""
    encoder = sum(network.encoder.output_channels)
    return {"encoder": slice(0, encoder), "decoder": slice(encoder, None), "both": slice(None)}[part]


@torch.no_grad()
def draw(maps: Sequence[Tensor], labels: Tensor, classes: int) -> Voxels:
    """Draw voxels of each class, and return their features."""
    rng = torch.Generator().manual_seed(0)
    places, weights = [], []
    for label in range(classes):
        all_of_it = (labels == label).flatten().nonzero()[:, 0]
        some = all_of_it[torch.randperm(len(all_of_it), generator=rng)[:VOXELS]]
        places.append(some)
        weights.append(torch.full((len(some),), len(all_of_it) / max(1, len(some))))
    chosen = torch.cat(places)
    wide = [inside(enlarged(stage, maps[0].shape[1:]), labels.shape) for stage in maps]
    features = torch.cat([stage.flatten(1)[:, chosen] for stage in wide]).T
    return Voxels(features, labels.flatten()[chosen], torch.cat(weights))


def fit(drawn: Sequence[Voxels], classes: int, used: slice) -> Planes:
    """Fit the regression; features that are not of the part get no coefficients."""
    features = torch.cat([one.features for one in drawn])
    labels = torch.cat([one.labels for one in drawn])
    weights = torch.cat([one.weights for one in drawn])
    weights = weights / weights.sum()
    mean = weights @ features
    spread = (weights @ (features - mean) ** 2).sqrt().clamp(min=1e-6)
    keep = torch.zeros(features.shape[1])
    keep[used] = 1
    standard = (features - mean) / spread * keep
    coefficients = torch.zeros(classes, features.shape[1], requires_grad=True)
    offset = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([coefficients, offset], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        each = functional.cross_entropy(standard @ coefficients.T + offset, labels, reduction="none")
        value = weights @ each + RIDGE * (coefficients**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    plain = coefficients.detach() * keep / spread
    return Planes(plain, offset.detach() - plain @ mean)


@torch.no_grad()
def predict(planes: Planes, maps: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Return the class of each voxel of a case; planes before enlarging are planes after it, and cheaper."""
    shares = planes.coefficients.split([len(stage) for stage in maps], dim=1)
    logits = sum(
        enlarged(torch.einsum("kf,f...->k...", share, stage), maps[0].shape[1:])
        for share, stage in zip(shares, maps, strict=True)
    )
    return (inside(logits, shape) + planes.offset.reshape(-1, *[1] * len(shape))).argmax(0)


def enlarged(stage: Tensor, shape: Sequence[int]) -> Tensor:
    """Return maps at the resolution of the case."""
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return functional.interpolate(stage[None], list(shape), mode=mode)[0]


def inside(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """Return what lies within a case, and not in what it was padded with."""
    return maps[(slice(None), *(slice(side) for side in shape))]


def mean_dice(found: Tensor, true: Tensor, classes: int) -> float:
    """Return the mean Dice of the structures that a case has or was said to have."""
    values = []
    for label in range(1, classes):
        a, b = found == label, true == label
        if (both := int(a.sum() + b.sum())) > 0:
            values.append(2 * int((a & b).sum()) / both)
    return fmean(values) if values else math.nan


if __name__ == "__main__":
    main()
