"""Where a task's images are prepared otherwise than those that weights were trained on, in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nnunet_volf.weights.pretrained import Preparation

# nnU-Net's own augmentation scales by 0.7 to 1.4: within it, a network has seen structures of the other size.
_SCALES = (0.7, 1.4)

# In standard deviations of what the network was trained on; a quarter is the mean of nnU-Net's brightness augmentation.
_SHIFT, _SPREAD = 0.25, (0.8, 1.25)

_CT = "CTNormalization"


def differences(trained: Preparation, task: Preparation) -> list[str]:
    """Return what a user should know before a task takes over weights; nothing where both are alike."""
    return [*_channels(trained, task), *_normalization(trained, task), *_spacing(trained, task)]


def _channels(trained: Preparation, task: Preparation) -> Iterator[str]:
    before, now = ([name.strip().lower() for name in side.channels] for side in (trained, task))
    if before != now:
        yield f"pretrained on {_names(trained.channels)}, the task has {_names(task.channels)}"


def _normalization(trained: Preparation, task: Preparation) -> Iterator[str]:
    if not trained.normalization:
        yield (
            "the file does not say how intensities were normalised for pretraining; the task's are by "
            f"{_names(sorted(set(task.normalization)))}"
        )
        return
    if len(trained.normalization) != len(task.normalization):
        used, wanted = set(trained.normalization), set(task.normalization)
        if used != wanted:
            yield f"intensities were normalised by {_names(sorted(used))}, the task's by {_names(sorted(wanted))}"
        return
    for index, (before, now) in enumerate(zip(trained.normalization, task.normalization, strict=True)):
        channel = task.channels[index]
        if before != now:
            yield f"{channel} was normalised by {before}, the task's {channel} by {now}"
        elif before == _CT and min(len(trained.intensities), len(task.intensities)) > index:
            yield from _intensities(channel, trained.intensities[index], task.intensities[index])


def _intensities(channel: str, before: Mapping[str, float], now: Mapping[str, float]) -> Iterator[str]:
    """CT is normalised by numbers of the dataset, so the same Hounsfield unit can become two different inputs."""
    shift, spread = (before["mean"] - now["mean"]) / now["std"], before["std"] / now["std"]
    if abs(shift) > _SHIFT or not _SPREAD[0] <= spread <= _SPREAD[1]:
        yield (
            f"{channel} was normalised with mean {before['mean']:.4g} and std {before['std']:.4g}, the task's with "
            f"{now['mean']:.4g} and {now['std']:.4g}: what the network knew as 0 and 1 is now {shift:.2f} and "
            f"{shift + spread:.2f}"
        )


def _spacing(trained: Preparation, task: Preparation) -> Iterator[str]:
    if not trained.spacing:
        yield f"the file does not say at which spacing it was pretrained; the task is at {_millimetres(task.spacing)}"
        return
    if len(trained.spacing) != len(task.spacing):
        yield f"pretrained in {len(trained.spacing)}D, the task is {len(task.spacing)}D"
        return
    factors = [before / now for before, now in zip(trained.spacing, task.spacing, strict=True)]
    if any(not _SCALES[0] <= factor <= _SCALES[1] for factor in factors):
        yield (
            f"pretrained at {_millimetres(trained.spacing)}, the task is at {_millimetres(task.spacing)}: structures "
            f"appear {' x '.join(f'{factor:.2g}' for factor in factors)} times as large, in voxels"
        )


def _names(names: Sequence[str]) -> str:
    return ", ".join(names)


def _millimetres(spacing: Sequence[float]) -> str:
    return " x ".join(f"{side:.3g}" for side in spacing) + " mm"
