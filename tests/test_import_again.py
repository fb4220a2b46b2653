"""An archive that changed again and again, imported each time, gives what one import of its last state gives."""

from __future__ import annotations

import random
from pathlib import Path

import archives
import dicoms
import pytest

from nnunet_volf.cli import main

NAME = "Dataset501_Archive"
OUTPUTS = ("dataset.json", "import/manifest.jsonl", "import/quarantine.csv")
SHAPE = (8, 9, 10)
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
PLAIN = ("--channels", "CT")
PAIRS = ("--channels", "A=*_a*", "B=*_b*", "--grids", "resample", "--time", "first")


class Changes:
    """What people do to archives, drawn at random."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        folder.mkdir()

    def change(self) -> None:
        actions = [self.add, self.add, self.add, self.remove, self.rename, self.copy, self.break_one, self.rewrite]
        self.rng.choice([*actions, self.add_series, self.split_series, self.thin_series, self.join_series])()

    def add(self) -> None:
        """Add a pair, or one of it."""
        folder, number = self.folder / self.rng.choice(["", "s1"]), self.rng.randrange(6)
        for channel in self.rng.choice(["ab", "ab", "a", "b"]):
            self.write(folder / f"{number}_{channel}{ENDINGS[number % 4]}")

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = archives.body(self.rng.randrange(12), (self.rng.choice((8, 9)), *SHAPE[1:]))
        (archives.write_nifti if ".nii" in path.name else archives.write_itk)(path, voxels)

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*_[ab].*") if path.is_file())

    def remove(self) -> None:
        if self.files():
            self.rng.choice(self.files()).unlink()

    def rename(self) -> None:
        if self.files():
            old = self.rng.choice(self.files())
            same_format = ENDINGS.index("".join(old.suffixes)) + self.rng.choice((0, 4))
            old.replace(old.with_name(f"{same_format}_{self.rng.choice('ab')}{''.join(old.suffixes)}"))

    def copy(self) -> None:
        if self.files():
            old = self.rng.choice(self.files())
            target = self.folder / "copies" / old.name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(old.read_bytes())

    def break_one(self) -> None:
        if self.files():
            archives.cut(self.rng.choice(self.files()), self.rng.choice((0.0, 0.5, 0.9)))

    def rewrite(self) -> None:
        if self.files():
            self.write(self.rng.choice(self.files()))

    def series(self) -> list[Path]:
        return sorted({path.parent for path in self.folder.rglob("*.dcm")})

    def add_series(self) -> None:
        number = self.rng.randrange(4)
        tags = {"SeriesDescription": f"x_{'ab'[number % 2]}"}
        dicoms.write_series(
            self.folder / f"d{self.rng.randrange(3)}", dicoms.phantom((10, 9, 8), number),
            series_uid=f"1.2.{number}", study_uid=f"1.{number // 2}", name=f"n{number}_", tags=tags,
        )  # fmt: skip

    def split_series(self) -> None:
        for folder in self.series()[:1]:
            other = folder.with_name(f"{folder.name}x")
            other.mkdir(exist_ok=True)
            for path in sorted(folder.glob("*.dcm"))[::2]:
                path.replace(other / path.name)

    def join_series(self) -> None:
        if len(self.series()) > 1:
            first, second = self.rng.sample(self.series(), 2)
            for path in first.glob("*.dcm"):
                path.replace(second / path.name)

    def thin_series(self) -> None:
        for folder in self.series()[-1:]:
            self.rng.choice(sorted(folder.glob("*.dcm"))).unlink()


def imported(archive: Path, raw: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Import, and return what that leaves, without the place of the dataset."""
    raw.mkdir(exist_ok=True)
    monkeypatch.setenv("nnUNet_raw", str(raw))
    code = main(["import", str(archive), "-d", "501", "-np", "0", "--most-refused", "1", *arguments])
    # Where nothing can be taken, only the quarantine table is written.
    names = OUTPUTS if code == 0 else OUTPUTS[2:]
    folder = raw / NAME
    return {name: (folder / name).read_text().replace(str(raw), "RAW") for name in names if (folder / name).is_file()}


def check(seed: int, arguments: tuple[str, ...], base: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Change an archive and import it, several times; returns how many cases there were."""
    cases = 0
    changes = Changes(base / "archive", seed)
    changes.add()
    for step in range(5):
        for _ in range(changes.rng.randrange(1, 6)):
            changes.change()
        if not any(path.is_file() for path in changes.folder.rglob("*")):
            changes.add()
        again = imported(changes.folder, base / "again", arguments, monkeypatch)
        afresh = imported(changes.folder, base / f"afresh{step}", arguments, monkeypatch)
        assert again == afresh, f"seed {seed}, step {step}"
        cases += again.get(OUTPUTS[1], "").count("\n")
    return cases


@pytest.mark.parametrize("arguments", [PLAIN, PAIRS], ids=["one channel", "two channels"])
@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 40), marks=pytest.mark.weekly)], ids=["few", "many"])
def test_importing_again_gives_what_importing_afresh_gives(
    seeds: range, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = 0
    for seed in seeds:
        base = tmp_path / str(seed)
        base.mkdir()
        cases += check(seed, arguments, base, monkeypatch)
    assert cases > 2 * len(seeds)  # else nothing was shown
