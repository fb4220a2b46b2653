"""How fast is fusing, against a literal loop over the blocks and against the least that memory allows.

The floor is `torch.add` of two volumes: it reads two and writes one, as fusing must.

    python benchmarks/fusion.py [--patch 128 128 128] [--channels 1] [--rounds 15]
"""

from __future__ import annotations

from time import process_time

import numpy as np
import torch
from timing import arguments, conditions, print_table, side_by_side

from nnunet_volf.pretext.volf.fusion import Grid, draw_layout, fuse, paint, volume_fusion
from nnunet_volf.pretext.volf.settings import VolFSettings


def literal_grid(background: np.ndarray, foreground: np.ndarray, grid: Grid, coefficients: int) -> np.ndarray:
    """Fuse as the method is told: block after block, then one weighted sum in double precision."""
    patch = background.shape[1:]
    labels = np.zeros(patch, dtype=np.uint8)
    edges = [np.concatenate([[0], np.cumsum(run)]) for run in grid.runs]
    for i in range(grid.classes.shape[0]):
        for j in range(grid.classes.shape[1]):
            for k in range(grid.classes.shape[2]):
                if grid.classes[i, j, k] > 0:
                    block = tuple(slice(e[n], e[n + 1]) for e, n in zip(edges, (i, j, k), strict=True))
                    labels[block] = grid.classes[i, j, k]
    alpha = labels * 1.0 / coefficients
    return alpha * foreground + (1.0 - alpha) * background


def main() -> None:
    """Print one table."""
    args = arguments(__doc__)

    patch = tuple(args.patch)
    rng = np.random.default_rng(0)
    a, b = (torch.randn(args.channels, *patch) for _ in range(2))
    settings = {scheme: VolFSettings(scheme=scheme) for scheme in ("grid", "boxes", "shuffle")}
    layout = draw_layout(rng, patch, settings["grid"])
    labels = torch.from_numpy(paint(layout, patch))

    candidates = {
        "torch.add": lambda: torch.add(a, b),
        "mix by a painted map": lambda: fuse(a, b, labels, 4),
        **{
            f"draw, paint and mix: {name}": lambda s=s: volume_fusion(a, b, draw_layout(rng, patch, s), 4)
            for name, s in settings.items()
        },
        "literal loop: grid": lambda: literal_grid(a.numpy(), b.numpy(), layout, 4),
    }
    print(conditions())
    rows = side_by_side(candidates, "torch.add", args.rounds, process_time)
    print_table(f"Fusing one sample, patch {patch}, {args.channels} channel(s)", rows, "torch.add")


if __name__ == "__main__":
    main()
