"""From what a user asks for to a question that can be answered: everything is looked up and checked beforehand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_volf import plans
from nnunet_volf.benchmark.analysis.score_grid import MEAN
from nnunet_volf.benchmark.arms import STOCK_TRAINER, Arm, parse_arms
from nnunet_volf.benchmark.experiment import Cases, Experiment
from nnunet_volf.benchmark.leaks import Checked, Contents, Seen, without_leaks
from nnunet_volf.benchmark.scores import class_names
from nnunet_volf.benchmark.starting_weights import StartingWeights
from nnunet_volf.benchmark.subsets import divide, label_counts
from nnunet_volf.errors import BenchmarkError, WeightsError
from nnunet_volf.files import file_hash, read_json
from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.provenance import content_hash
from nnunet_volf.splits import labelled_split
from nnunet_volf.weights.briefing import brief
from nnunet_volf.weights.target import Task, task_of_dataset


@dataclass(frozen=True)
class Request:
    """What a user asks for, before anything is looked up."""

    dataset: str
    plans_name: str = plans.DEFAULT_PLANS
    configuration: str = "3d_fullres"
    pretrained: str | None = None
    arms: Sequence[str] = ()
    labels: Sequence[str] = ()
    seeds: int = 3
    folds: Sequence[int] = (0,)
    rates: Sequence[float] = (1.0,)
    epochs: int = 100
    iterations: int = 250
    validation_iterations: int | None = None
    validation_cases: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float | None = None
    mirroring: bool = True


class Images(Protocol):
    """What the images of datasets show, as hashes."""

    def of_labelled(self, dataset: str, cases: Collection[str] | None) -> Contents | None:
        """Return the hash of each channel of a dataset's training cases, or None where its images are not at hand."""

    def of_pretraining(self, dataset: str | None, recorded: Mapping[str, object]) -> tuple[Collection[str] | None, str]:
        """Return the hashes of the images that weights were pretrained on, and in words how they are known."""


def make_experiment(asked: Request, images: Images) -> Experiment:
    """Return the question, or refuse what could not be answered or would not be worth an answer."""
    planned = plans.planned_dataset(asked.dataset, asked.plans_name)
    configuration = planned.configuration(asked.configuration)
    if configuration.get("previous_stage"):
        raise BenchmarkError(
            f"{asked.configuration} is the second stage of a cascade, which needs predictions of the first. Compare "
            f"the first: -c {configuration['previous_stage']}."
        )
    _require_schedule(asked)
    planned_with = plans.with_settings(planned, asked.configuration, _schedule(asked), FineTuneSettings)
    files = StartingWeights()
    arms = parse_arms(asked.arms, asked.pretrained, files.look)
    task = task_of_dataset(asked.dataset, asked.plans_name, asked.configuration)
    cases = _cases(asked, planned, str(configuration["data_identifier"]))
    counts = label_counts(asked.labels, [len(parts.pool) for parts in cases.values()])
    checked, contents = _checked(cases, _seen(arms, files, task, images), planned.name, images)
    description = read_json(planned.folder / "dataset.json")
    classes = class_names(PlansManager(planned.plans).get_label_manager(description), description)
    if MEAN in classes.values():
        raise BenchmarkError(f"A class of {planned.name} is called {MEAN!r}, as the mean of all classes is. Rename it.")
    return Experiment(
        dataset=planned.name,
        plans_name=asked.plans_name,
        configuration=asked.configuration,
        arms=arms,
        labels=counts,
        seeds=tuple(range(1, asked.seeds + 1)),
        rates=tuple(sorted(set(asked.rates))),
        cases=checked.cases,
        epochs=asked.epochs,
        iterations=asked.iterations,
        validation_iterations=asked.validation_iterations or max(1, asked.iterations // 5),  # as nnU-Net's 50 of 250
        settings=planned_with.settings_of(FineTuneSettings, asked.configuration).to_mapping(),
        classes=classes,
        tolerance=asked.tolerance or max(configuration["spacing"]),  # about a voxel
        mirroring=asked.mirroring,
        data={
            "leakage": list(checked.said),
            "labelled images": contents,
            "plans": file_hash(planned.folder / f"{asked.plans_name}.json"),
            "weights": {arm.name: file_hash(Path(arm.weights)) for arm in arms if arm.weights},
        },
    )


def schedule_of(arm: Arm, experiment: Experiment) -> str:
    """Say what an arm's schedule has of its own: all are equally long."""
    if arm.trainer == STOCK_TRAINER:
        return "nnU-Net's own schedule, SGD at 0.01"
    settings = FineTuneSettings.from_mapping(experiment.settings)
    return f"{settings.optimizer} at {settings.peak_learning_rate:g}"


def _require_schedule(asked: Request) -> None:
    for name, value, least in (
        ("--seeds", asked.seeds, 1),
        ("--epochs", asked.epochs, 1),
        ("--iterations", asked.iterations, 1),
        ("--validation-iterations", asked.validation_iterations or 1, 1),
    ):
        if value < least:
            raise BenchmarkError(f"{name} is {value}; it must be {least} or more.")
    for name, values in (("--rates", asked.rates), ("--tolerance", [asked.tolerance or 1.0])):
        for number in values:
            if not number > 0:
                raise BenchmarkError(f"{name} has {number:g}; it must be above 0.")
    if not asked.folds:
        raise BenchmarkError("--folds names no fold. Name one, such as 0.")


def _schedule(asked: Request) -> dict[str, Any]:
    fixed = {"epochs": "--epochs", "iterations": "--iterations"}
    for name, option in fixed.items():
        if name in asked.settings:
            raise BenchmarkError(f"--set {name}=…: all arms share the schedule, stock too; set it with {option}.")
    return {**asked.settings, "epochs": asked.epochs, "iterations": asked.iterations}


def _cases(asked: Request, planned: plans.PlannedDataset, data_identifier: str) -> dict[int, Cases]:
    folder = planned.folder / data_identifier
    identifiers = sorted(infer_dataset_class(str(folder)).get_identifiers(str(folder))) if folder.is_dir() else []
    if not identifiers:
        raise BenchmarkError(
            f"{planned.name} is not preprocessed for {asked.configuration}: {folder} holds no cases. First: "
            f"nnUNetv2_preprocess -d {planned.number} -plans_name {asked.plans_name} -c {asked.configuration}"
        )
    return {
        fold: divide(labelled_split(planned.folder, identifiers, fold), asked.validation_cases)
        for fold in sorted(set(asked.folds))
    }


def _seen(arms: Sequence[Arm], files: StartingWeights, task: Task, images: Images) -> list[Seen]:
    """Require of all weights that nnU-Net takes them as they are, and find out what they were pretrained on."""
    seen = {}
    for weights in {arm.weights: None for arm in arms if arm.weights}:
        whose = ", ".join(arm.name for arm in arms if arm.weights == weights)  # files of trainings are all called alike
        pretrained = files.read(weights)
        briefing = brief(pretrained, task)
        if not briefing.fits:
            raise WeightsError(briefing.problem)
        contents, about = images.of_pretraining(pretrained.dataset, pretrained.data)
        name = f"{whose} ({Path(weights).name})"
        seen[weights] = Seen(name, contents, f"{name}: {about}.")
    return list(seen.values())


def _checked(cases: dict[int, Cases], seen: Sequence[Seen], dataset: str, images: Images) -> tuple[Checked, str | None]:
    """Leave out test cases that were seen before; return what remains, and a hash of all cases' images."""
    used = {case for parts in cases.values() for case in (*parts.test, *parts.validation, *parts.pool)}
    contents = images.of_labelled(dataset, used)
    checked = without_leaks(cases, contents, seen)
    return checked, None if contents is None else content_hash(" ".join(map(str, h)) for h in contents.values())
