"""What a step of each pretext takes, beside one another: making a batch, and training on it.

The trainers are those that pretrain, with the settings in the plans; nothing is written but into a temporary folder.
Batches are made in this process, by one thread. The dataset is imported, planned and preprocessed before; the plan's
patch and batch size are the same for all, and what a pretext makes of them (more crops, two passes) is its own affair.

    python benchmarks/pretext_steps.py Dataset501_Archive [-p VolFPlans] [--pretexts volf mae voco slem] [--rounds 10]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

# nnU-Net reads its folders when it is imported; logs and checkpoints of these trainings are of no use to anybody.
_results = tempfile.TemporaryDirectory()
os.environ |= {"nnUNet_results": _results.name, "nnUNet_n_proc_DA": "0", "nnUNet_compile": "0"}

import torch  # noqa: E402
from nnunetv2.run.run_training import get_trainer_from_args  # noqa: E402
from timing import conditions, print_table, side_by_side  # noqa: E402

from nnunet_volf.pretext.catalogue import METHODS  # noqa: E402


def main() -> None:
    """Print a table of batches and one of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("-p", default="VolFPlans", metavar="PLANS")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIGURATION")
    parser.add_argument("--pretexts", nargs="+", choices=METHODS, default=list(METHODS), help="the first is 1")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = {name: trainer(arguments, name, device) for name in arguments.pretexts}
    first = next(iter(made.values()))
    plan = first.configuration_manager
    yardstick = arguments.pretexts[0]
    print(f"{arguments.dataset}, patch {plan.patch_size}, batch {plan.batch_size}, {device}; {conditions()}")
    batches = {name: next(one.dataloader_train) for name, one in made.items()}
    print("\n| pretext | parameters that learn (millions) | values that the network sees in a step (millions) |")
    print("|---|---|---|")
    for name, one in made.items():
        learning = sum(parameter.numel() for parameter in one.network.parameters() if parameter.requires_grad)
        print(f"| {name} | {learning / 1e6:.2f} | {batches[name]['data'].numel() / 1e6:.2f} |")
    making = {name: batch_of(one) for name, one in made.items()}
    print_table("Making a batch", side_by_side(making, yardstick, arguments.rounds), yardstick)
    steps = {name: step_of(one, batches[name]) for name, one in made.items()}
    print_table("A step on it", side_by_side(steps, yardstick, arguments.rounds), yardstick)


def trainer(arguments: argparse.Namespace, pretext: str, device: torch.device) -> Any:
    """Return a trainer that is about to take its first step."""
    with quietly():
        one: Any = get_trainer_from_args(
            arguments.dataset, arguments.c, "all", METHODS[pretext].trainer, arguments.p, device=device
        )
        one.on_train_start()
        one.on_epoch_start()
        one.on_train_epoch_start()
    return one


def batch_of(one: Any) -> Callable[[], object]:
    """Return what makes a batch."""
    return lambda: next(one.dataloader_train)


def step_of(one: Any, batch: dict[str, Any]) -> Callable[[], object]:
    """Return what takes a step, which ends with the loss as a number."""

    def step() -> object:
        return one.train_step(batch)["loss"]

    return step


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep what trainers print back."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


if __name__ == "__main__":
    main()
