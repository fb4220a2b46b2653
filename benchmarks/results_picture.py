"""A picture of what benchmarks found: the Dice of each arm against the number of labels, a panel for each task.

Every dot is a seed, the marker their mean, the whisker its interval: as `nnunet-volf benchmark` computes them and as
its report shows them for one task.

    python benchmarks/results_picture.py 'Hippocampus=final/hippocampus' 'Ten structures=final/trunks' -o results.png
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from card import CARD, INK, QUIET, card, save
from matplotlib.axes import Axes
from results_tables import read

from nnunet_volf.benchmark.analysis.comparisons import Level
from nnunet_volf.benchmark.analysis.findings import MEAN, findings
from nnunet_volf.benchmark.report.drawing import styles_of
from nnunet_volf.benchmark.results import METRIC_NAMES

PANEL, SIDE, ABOVE, BELOW = (4.6, 3.1), 0.75, 0.95, 0.62  # inches
# Colour and shape by the number of an arm's style: shapes are those of the report.
MARKS = (
    (INK, "o"),
    ("#f2a65a", "D"),
    ("#6fb7e9", "^"),
    ("#8b93a7", "s"),
    ("#7fd1a5", "v"),
    ("#d98cb3", "X"),
    ("#c9b458", "p"),
)
SPREAD = 0.62  # of the room of a number of labels that its markers take


def main() -> None:
    """Draw all tasks that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", metavar="TITLE=FOLDER", help="folders of benchmarks")
    parser.add_argument("-o", type=Path, required=True, metavar="PICTURE")
    parser.add_argument("--metric", choices=METRIC_NAMES, default="dice")
    arguments = parser.parse_args()
    tasks = {
        title: levels(Path(folder), arguments.metric)
        for title, _, folder in (t.partition("=") for t in arguments.tasks)
    }
    draw(tasks, METRIC_NAMES[arguments.metric], arguments.o)


def levels(folder: Path, metric: str) -> list[Level]:
    """Return how good each arm is, over all classes."""
    return [level for level in findings(*read(folder)).levels if (level.metric, level.label) == (metric, MEAN)]


def draw(tasks: Mapping[str, Sequence[Level]], metric: str, path: Path) -> None:
    """Write the picture."""
    width, height = PANEL
    size = (len(tasks) * (SIDE + width) + 0.25, ABOVE + height + BELOW)
    figure = card(size)
    arms = list(dict.fromkeys(level.arm for shown in tasks.values() for level in shown))
    marks = marks_of(arms)
    for column, (title, shown) in enumerate(tasks.items()):
        left = SIDE + column * (SIDE + width)
        axes = figure.add_axes((left / size[0], BELOW / size[1], width / size[0], height / size[1]))
        panel(axes, shown, marks)
        axes.set_title(title, loc="left", color=INK, fontsize=13, weight="bold", pad=8)
        axes.set_xlabel("labelled cases", color=QUIET, fontsize=11)
        if column == 0:
            axes.set_ylabel(f"{metric} of unseen cases", color=QUIET, fontsize=11)
            handles, names = axes.get_legend_handles_labels()
            figure.legend(
                handles, names, loc="upper left", bbox_to_anchor=((SIDE - 0.1) / size[0], 1 - 0.04 / size[1]),
                ncols=len(names), frameon=False, labelcolor=INK, fontsize=12, handletextpad=0.3, columnspacing=1.6,
            )  # fmt: skip
    save(figure, path)


def panel(axes: Axes, shown: Sequence[Level], marks: Mapping[str, tuple[str, str]]) -> None:
    """Draw one task: numbers of labels evenly spaced, and the arms beside each other at each of them."""
    counts = sorted({level.labels for level in shown})
    for number, (arm, (colour, shape)) in enumerate(marks.items()):
        mine = sorted((level for level in shown if level.arm == arm), key=lambda level: level.labels)
        aside = SPREAD * ((number + 0.5) / len(marks) - 0.5)
        places = [counts.index(level.labels) + aside for level in mine]
        for place, level in zip(places, mine, strict=True):
            axes.plot([place, place], [level.mean.low, level.mean.high], color=colour, linewidth=1.4, zorder=2)
            axes.scatter([place] * len(level.per_seed), level.per_seed, s=6, color=colour, alpha=0.6, zorder=3)
        means = [level.mean.value for level in mine]
        axes.plot(places, means, shape, color=colour, markersize=7, markeredgecolor=CARD, label=arm, zorder=4)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_facecolor(CARD)
    axes.tick_params(colors=QUIET, labelsize=11, length=0)
    axes.grid(axis="y", color=QUIET, alpha=0.25, linewidth=0.8)
    for side in axes.spines.values():
        side.set_visible(False)


def marks_of(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return colour and shape of each arm, the same for the usual ones as in every report."""
    return {arm: MARKS[style] for arm, style in styles_of(arms).items()}


if __name__ == "__main__":
    main()
