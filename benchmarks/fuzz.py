"""Broken and hostile files through all that reads files: how many of each kind, what became of them, what went wrong.

    python benchmarks/fuzz.py --cases 2000 --seed 0 [--kind nifti dicom] [--workers 2]

A case is a kind and a number, from which the same file is made again: `--kind nifti --seed 17 --cases 1` repeats one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))


def main() -> int:
    """Print a table, and what is wrong."""
    from attempts import PATIENCE, attempt
    from corpus import KINDS

    from nnunet_volf.preprocessing.parallel import run_parallel

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100, help="of each kind [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="the first number [%(default)s]")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    said: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        cases = prepared(args.kind, range(args.seed, args.seed + args.cases), Path(folder))
        started = time.monotonic()
        for done in run_parallel(attempt, cases, workers=args.workers, timeout=PATIENCE):
            kind = done.task.kind
            outcome = done.result
            said[kind][outcome.said if outcome else done.failure.kind] += 1
            if outcome is not None:
                seconds[kind] += outcome.seconds
            problem = outcome.problem if outcome else f"{done.failure.reason}"
            if problem:
                problems.append((done.task, problem))
                print(f"{done.task}: {problem}\n", file=sys.stderr)
        elapsed = time.monotonic() - started
    print("| kind | cases | CPU s / case | outcomes |\n|---|---:|---:|---|")
    for kind, counts in said.items():
        listed = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        print(f"| {kind} | {counts.total()} | {seconds[kind] / counts.total():.3f} | {listed} |")
    print(f"\n{sum(map(Counter.total, said.values()))} cases in {elapsed:.0f} s; {len(problems)} problems")
    return 1 if problems else 0


def prepared(kinds: list[str], numbers: range, folder: Path) -> Iterator[object]:
    """Write the good files, and yield the cases."""
    from attempts import Case
    from corpus import write_seeds

    write_seeds(folder / "seeds", kinds)
    for number in numbers:
        for kind in kinds:
            yield Case(kind, number, str(folder / "seeds"), str(folder / "room"))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(TESTS))
    sys.exit(main())
