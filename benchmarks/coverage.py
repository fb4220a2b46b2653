"""How often the benchmark's 95 % intervals hold the true difference, by simulation; figures in docs/statistics.md.

python benchmarks/coverage.py --repeats 2000
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np

from nnunet_volf.benchmark.analysis.crossed_bootstrap import resampled_means
from nnunet_volf.benchmark.analysis.statistics import mean_interval


def main() -> None:
    """Print a line for each number of cases and seeds and each size of the seeds' effect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000, help="simulated benchmarks a line")
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 5])
    arguments = parser.parse_args()
    print("| cases | seeds | effect of a seed | seeds taken as cases | plain percentiles | here |")
    print("|---:|---:|---:|---:|---:|---:|")
    for cases, seeds, effect in product(arguments.cases, arguments.seeds, (0.0, 0.3, 1.0)):
        if seeds > 1 or effect == 0:  # one seed cannot see its own effect, by any method
            shares = coverage(cases, seeds, effect, arguments.repeats)
            print(f"| {cases} | {seeds} | {effect:g} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")


def coverage(cases: int, seeds: int, effect: float, repeats: int) -> tuple[float, float, float]:
    """Return how often each interval holds 0, the truth; effects are in standard deviations between cases."""
    rng = np.random.default_rng(0)
    held = np.zeros(3)
    for _ in range(repeats):
        differences = effect * rng.normal(size=(seeds, 1)) + rng.normal(size=cases) + rng.normal(size=(seeds, cases))
        naive = np.quantile(resampled_means(differences.reshape(1, -1)), [0.025, 0.975])
        plain = np.quantile(resampled_means(differences), [0.025, 0.975])
        ours = mean_interval(differences)
        held += [low <= 0 <= high for low, high in (naive, plain, (ours.low, ours.high))]
    naive_share, plain_share, our_share = (held / repeats).tolist()
    return naive_share, plain_share, our_share


if __name__ == "__main__":
    main()
