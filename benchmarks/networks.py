"""What the networks cost: forward and backward time and peak memory in the same plan, as ratios to PlainConvUNet.

All have the plan's patch, batch, strides and kernels, and each its usual widths: PlainConvUNet and ResidualEncoderUNet
(the blocks of ResEnc M) up to 320 features, FMUNet and PCT-Net up to 512. With deep supervision, without optimizer.

Time is taken from the clock, side by side and in turns. Memory is that of one step in a process of its own, beyond what
was there before the step: on a CPU the growth of the peak resident size, which counts what is kept for the backward
pass, the gradients and what the kernels need besides; on a GPU what torch's allocator had at most. What a training step
on a GPU keeps for the backward pass is also counted without running it, which works for any patch.

    python benchmarks/networks.py [--patch 64 64 64] [--batch 1] [--rounds 5] [--count 128 128 128] [--compile]

On a GPU: autocast to float16 as nnU-Net trains, and --compile, as nnU-Net does by default.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from timing import conditions, print_table, side_by_side
from torch import Tensor, nn
from torch.nn import functional

from nnunet_volf.networks import FMUNet, PCTNet, windows
from nnunet_volf.networks.memory import kept_values

YARDSTICK = "PlainConvUNet"
STAGES, CLASSES, WINDOW = 5, 5, 6
AFFINE = {"eps": 1e-5, "affine": True}
PCT_WIDTHS = (24, 48, 128, 256, 512)
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


def network(name: str) -> nn.Module:
    """Return a network for images that are alike in all directions."""
    plan: dict[str, Any] = {
        "input_channels": 1,
        "num_classes": CLASSES,
        "n_stages": STAGES,
        "conv_op": nn.Conv3d,
        "kernel_sizes": [[3, 3, 3]] * STAGES,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (STAGES - 1),
        "deep_supervision": True,
    }
    nnunets = {
        **plan,
        "features_per_stage": (32, 64, 128, 256, 320),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d,
        "norm_op_kwargs": AFFINE,
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    if name == "PlainConvUNet":
        return PlainConvUNet(n_conv_per_stage=[2] * STAGES, n_conv_per_stage_decoder=[2] * (STAGES - 1), **nnunets)
    if name == "ResidualEncoderUNet (M)":
        blocks = (1, 3, 4, 6, 6)
        return ResidualEncoderUNet(n_blocks_per_stage=blocks, n_conv_per_stage_decoder=[1] * (STAGES - 1), **nnunets)
    if name == "FMUNet":
        return FMUNet(features_per_stage=(32, 64, 128, 256, 512), **plan)
    return PCTNet(features_per_stage=PCT_WIDTHS, norm_op=nn.InstanceNorm3d, norm_op_kwargs=AFFINE, **plan)


NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet (M)", "FMUNet", "PCT-Net")


def training_step(name: str, shape: Sequence[int], compiled: bool) -> Callable[[], None]:
    """Return a call that goes forward and backward through a network of this name."""
    model = network(name).train().to(DEVICE)
    run = torch.compile(model) if compiled else model
    image = torch.randn(*shape, device=DEVICE)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast("cuda", enabled=GPU):
            loss = torch.stack([output.float().square().mean() for output in run(image)]).sum()
        loss.backward()
        _wait()

    return step


def attention(kind: str, side: int, features: int, train: bool) -> Callable[[], None]:
    """Return a call that attends within all windows of a volume with `side` voxels, padded and masked as in PCT-Net."""
    heads, count = features // 32, math.ceil(side / WINDOW) ** 3
    shape = (count, heads, WINDOW**3, 32)
    query, key, value = (torch.randn(shape, device=DEVICE, requires_grad=train) for _ in range(3))
    bias = torch.randn(count, heads, WINDOW**3, WINDOW**3, device=DEVICE, requires_grad=train)

    def naive(q: Tensor, k: Tensor, v: Tensor, b: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + b.to(q.dtype)).softmax(-1) @ v

    def fused(q: Tensor, k: Tensor, v: Tensor, b: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, b.to(q.dtype))

    attend = fused if kind == "fused" else naive
    dtype = torch.float16 if GPU else torch.float32

    def call() -> None:
        with torch.set_grad_enabled(train):
            seen = attend(query.to(dtype), key.to(dtype), value.to(dtype), bias)
            if train:
                seen.float().square().mean().backward()
        _wait()

    return call


def masks(build: Callable[..., Tensor], sides: Sequence[int]) -> Callable[[], None]:
    """Return a call that asks for the two masks of each volume as often as a forward pass of PCT-Net does."""

    def call() -> None:
        for level, side in enumerate(sides):
            for _ in range(1 if level == len(sides) - 1 else 2):  # on the way down and up; the deepest once
                for half in (0, WINDOW // 2 if side > WINDOW else 0):
                    shift = (half,) * 3
                    build((side,) * 3, WINDOW, shift, True, DEVICE)
        _wait()

    return call


def _wait() -> None:
    if GPU:
        torch.cuda.synchronize()


# --------------------------------------------------------------------------------------------- memory


def peak_of(make: Callable[..., Callable[[], None]], *arguments: Any) -> float:
    """Return by how many MB a first call raises the peak memory of a new process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_raised, (make, arguments))


def _raised(make: Callable[..., Callable[[], None]], arguments: Sequence[Any]) -> float:
    torch.set_num_threads(1)
    call = make(*arguments)
    before = _memory(peak=False)
    call()
    return (_memory(peak=True) - before) / 1e6


def _memory(peak: bool) -> int:
    if GPU:
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    if not sys.platform.startswith("linux"):
        raise SystemExit("Peak memory on a CPU is read from /proc/self/status, which is Linux's. Use --no-memory.")
    field = "VmHWM" if peak else "VmRSS"
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


# ---------------------------------------------------------------------------------------------- tables


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs=3, default=(64, 64, 64))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, nargs=3, default=(128, 128, 128), help="patch to count kept values for")
    parser.add_argument("--compile", action="store_true", help="as nnU-Net does on GPUs")
    parser.add_argument("--no-memory", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shape = (arguments.batch, 1, *arguments.patch)
    print(conditions() + f", {torch.cuda.get_device_name() if GPU else 'CPU'}")

    steps = {name: training_step(name, shape, arguments.compile) for name in NETWORKS}
    rows = side_by_side(steps, YARDSTICK, arguments.rounds)
    del steps
    print_table(f"Forward and backward, patch {arguments.patch}, batch {arguments.batch}", rows, YARDSTICK)
    print_memory(shape, arguments)
    print_attention(arguments)
    print_masks(arguments)


def print_memory(shape: Sequence[int], arguments: argparse.Namespace) -> None:
    """Print parameters, the peak of a step, and what a step on a GPU keeps."""
    sizes = {name: sum(values.numel() for values in network(name).parameters()) for name in NETWORKS}
    kept = {name: kept_values(network(name), (1, 1, *arguments.count)) for name in NETWORKS}
    peaks = {} if arguments.no_memory else {n: peak_of(training_step, n, shape, arguments.compile) for n in NETWORKS}
    print(f"\nMemory: measured with patch {arguments.patch}, kept values counted for {arguments.count} and batch 1\n")
    print("| | million parameters | peak of a step (MB) | x | million values kept | x |\n|---|---|---|---|---|---|")
    for name in NETWORKS:
        cells = [name, f"{sizes[name] / 1e6:.1f}"]
        cells += [f"{peaks[name]:.0f}", f"{peaks[name] / peaks[YARDSTICK]:.2f}"] if peaks else ["-", "-"]
        cells += [f"{kept[name] / 1e6:.0f}", f"{kept[name] / kept[YARDSTICK]:.2f}"]
        print("| " + " | ".join(cells) + " |")


def print_attention(arguments: argparse.Namespace) -> None:
    """Print time and memory of attention at the coarse levels of PCT-Net."""
    for level in (2, 3):
        side, features = arguments.patch[0] // 2**level, PCT_WIDTHS[level]
        for train, what in ((True, "forward and backward"), (False, "forward without gradients")):
            rows = side_by_side(
                {kind: attention(kind, side, features, train) for kind in ("naive", "fused")}, "naive", arguments.rounds
            )
            print_table(f"Attention at level {level}, {side}^3 voxels, {features} features, {what}", rows, "naive")
            if not arguments.no_memory:
                peaks = {kind: peak_of(attention, kind, side, features, train) for kind in ("naive", "fused")}
                print("\nPeak of a call (MB): " + ", ".join(f"{kind} {peak:.0f}" for kind, peak in peaks.items()))


def print_masks(arguments: argparse.Namespace) -> None:
    """Print what masks cost a forward pass, kept and built each time."""
    sides = [arguments.patch[0] // 2**level for level in range(2, STAGES)]
    candidates = {"kept": masks(windows._kept_mask, sides), "built each time": masks(windows._build_mask, sides)}
    print_table("Masks of a forward pass of PCT-Net", side_by_side(candidates, "kept", arguments.rounds), "kept")


if __name__ == "__main__":
    main()
