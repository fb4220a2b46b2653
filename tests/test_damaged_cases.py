"""Damaged cases are named, left out and counted, and the training goes on, in all pretexts and all kinds of loaders."""

from __future__ import annotations

import csv
import errno
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import NOTICED, damage, write_sound_case
from hypothesis import given as property_of
from hypothesis import settings
from hypothesis import strategies as st
from pretexts import given_for

from nnunet_volf import patience
from nnunet_volf.cases import UnlabeledCases, is_sound
from nnunet_volf.damage_watch import DamageWatch
from nnunet_volf.damaged_cases import (
    IN_A_ROW,
    TABLE,
    Damage,
    DamagedCase,
    DamagedCases,
    allowed,
    read_table,
    write_table,
)
from nnunet_volf.dataloading import STOP, ParcelLoader, SampleLoader
from nnunet_volf.preprocessing.suspects import suspects
from nnunet_volf.pretext.mae.pretext import MaskedReconstruction
from nnunet_volf.pretext.mae.settings import MAESettings
from nnunet_volf.pretext.pretext import Sampler
from nnunet_volf.pretext.slem.pretext import Recombination
from nnunet_volf.pretext.slem.settings import SLeMSettings
from nnunet_volf.pretext.voco.pretext import VolumeContrast
from nnunet_volf.pretext.voco.settings import VoCoSettings
from nnunet_volf.pretext.volf.pretext import VolumeFusion
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.validation import FixedBatches

REPAIR = "nnunet-volf preprocess -d 501 -p VolFPlans -c 3d_fullres"
CASES = tuple(f"case_{number}" for number in range(8))
SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "volf": lambda given: VolumeFusion(VolFSettings(partner="other"), given).sampler(training=True),
    "mae": lambda given: MaskedReconstruction(MAESettings(), given).sampler(training=True),
    "voco": lambda given: VolumeContrast(VoCoSettings(), given).sampler(training=True),
    "slem": lambda given: Recombination(SLeMSettings(), given).sampler(training=True),
}
LOADERS = {"made by the loader": SampleLoader, "made by the device": ParcelLoader}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight cases; not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    for number, name in enumerate(CASES):
        write_sound_case(folder, name, number)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    own = tmp_path / "VolFPlans_3d_fullres"
    own.mkdir()
    for path in sound.glob("*.b2nd"):
        (own / path.name).write_bytes(path.read_bytes())
    return own


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, without the waiting."""
    made: list[float] = []
    monkeypatch.setattr(patience, "sleep", made.append)
    return made


def known(folder: Path, limit: float = 0.5) -> DamagedCases:
    return DamagedCases(folder.parent / TABLE, limit, REPAIR)


def loader(
    folder: Path, pretext: str = "volf", kind: type[SampleLoader] = SampleLoader, limit: float = 0.5, batch: int = 2
) -> SampleLoader:
    damaged = known(folder, limit)
    cases = UnlabeledCases(folder, CASES, left_out=damaged.found)
    return kind(cases, batch, SAMPLERS[pretext](given_for(channels=("T1", "T2"))), damaged)


def seed(value: int = 0) -> None:
    np.random.seed(value)  # noqa: NPY002 - the state that loaders draw from
    torch.manual_seed(value)


def cases_in(batch: dict[str, Any]) -> set[str]:
    drawn = batch.get("drawn")
    keys = batch["keys"] if drawn is None else [getattr(one, "keys", None) or (one.key,) for one in drawn]
    return {case for sample in keys for case in sample}


# ----------------------------------------------------------------------------------- what is noticed


@pytest.mark.parametrize("how", NOTICED)
def test_a_damaged_file_is_noticed_and_named(folder: Path, how: str) -> None:
    path = folder / "case_3.b2nd"
    damage(path, how)
    with pytest.raises(DamagedCase) as found:
        UnlabeledCases(folder, ["case_3"]).open("case_3").require_sound()
    assert (found.value.identifier, found.value.path) == ("case_3", path)
    assert str(found.value).startswith(f"Case case_3: {path} ")
    assert str(found.value).endswith("Preprocess the case again.")
    assert not is_sound(folder, "case_3")
    assert is_sound(folder, "case_4")


def test_which_case_is_damaged_is_known_in_another_process(folder: Path) -> None:
    damage(folder / "case_3.b2nd", "empty")
    with pytest.raises(DamagedCase) as found:
        UnlabeledCases(folder, ["case_3"]).open("case_3")
    loaded = DamagedCases(folder.parent / TABLE, 0.5, REPAIR)
    loaded.note(found.value, CASES)
    assert list(pickle.loads(pickle.dumps(loaded)).found) == ["case_3"]


# ------------------------------------------------------------------------------- a training goes on


@pytest.mark.parametrize("kind", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("pretext", SAMPLERS)
def test_a_loader_goes_on_without_damaged_cases(folder: Path, pretext: str, kind: type[SampleLoader]) -> None:
    damage(folder / "case_1.b2nd", "empty")
    damage(folder / "case_4.b2nd", "a page in the middle zeroed")
    (folder / "case_6.b2nd").unlink()
    made = loader(folder, pretext, kind)
    seed()
    for _ in range(25):
        assert not cases_in(next(made)) & {"case_1", "case_6"}
    assert {"case_1", "case_6"} <= set(made.damaged.found) <= {"case_1", "case_4", "case_6"}
    table = {line["case"]: line for line in csv.DictReader((folder.parent / TABLE).read_text().splitlines())}
    assert table["case_1"]["file"] == str(folder / "case_1.b2nd")
    assert table["case_1"]["reason"].startswith("cannot be opened (RuntimeError: ")
    assert table["case_6"]["reason"] == "holds none of case_6.b2nd, case_6.npy, case_6.npz."


def test_it_is_the_partner_that_is_left_out_where_that_is_damaged(folder: Path) -> None:
    damage(folder / "case_2.b2nd", "empty")
    cases = UnlabeledCases(folder, ["case_1", "case_2"])
    sampler = SAMPLERS["volf"](given_for(channels=("T1", "T2")))
    with pytest.raises(DamagedCase) as found:
        sampler.collect(np.random.default_rng(0), cases, "case_1")
    assert found.value.identifier == "case_2"


def test_voxels_that_are_not_finite_count_as_damage(folder: Path) -> None:
    write_sound_case(folder, "case_5", 5, spoilt=np.inf)
    made = loader(folder, "mae")
    seed()
    while not made.damaged.found:
        assert torch.isfinite(next(made)["data"]).all()
    assert list(made.damaged.found) == ["case_5"]
    assert made.damaged.found["case_5"].reason.startswith("holds NaN or infinite voxels within [[")


def test_what_is_drawn_does_not_depend_on_when_damage_was_found(folder: Path) -> None:
    """A case that cannot be opened is left out alike whether it is met first or known from the start."""
    damage(folder / "case_2.b2nd", "empty")
    drawn = []
    for _ in range(2):
        made = loader(folder)
        seed(3)
        drawn.append([next(made)["data"] for _ in range(15)])
    assert list(made.damaged.found) == ["case_2"]
    assert all(torch.equal(first, second) for first, second in zip(*drawn, strict=True))


def test_without_damage_batches_are_those_of_a_loader_that_knows_of_none(folder: Path) -> None:
    with_limit, without = loader(folder), loader(folder)
    without.damaged = None
    seed(1)
    first = next(with_limit)["data"]
    seed(1)
    assert torch.equal(first, next(without)["data"])
    assert not (folder.parent / TABLE).exists()


def test_a_loader_learns_what_others_have_found(folder: Path) -> None:
    made, other = loader(folder), known(folder)
    seed()
    next(made)
    other.note(DamagedCase("case_0", folder / "case_0.b2nd", "is odd."), CASES)
    assert all("case_0" not in cases_in(next(made)) for _ in range(25))


def test_held_out_samples_of_a_damaged_case_are_made_of_others(folder: Path) -> None:
    whole = [loader(folder).fixed_sample(7, index) for index in range(3)]
    damage(folder / "case_1.b2nd", "empty")
    made = loader(folder)
    again = [made.fixed_sample(7, index) for index in range(3)]
    replaced = ["case_1" in sample["keys"] for sample in whole]
    assert any(replaced)
    for before, after, other in zip(whole, again, replaced, strict=True):
        assert "case_1" not in after["keys"]
        assert torch.equal(before["image"], after["image"]) != other
    batches = FixedBatches(made, 7, [[0, 1], [2, 3]])
    assert torch.equal(next(batches)["data"][1], again[1]["image"])


# ------------------------------------------------------------------------------------- and its limits


def test_more_than_the_limit_ends_it_with_a_message_that_names_cases(folder: Path) -> None:
    for name in ("case_1", "case_4"):
        damage(folder / f"{name}.b2nd", "empty")
    made = loader(folder, limit=0.05)
    seed()
    said = next(filter(None, (next(made).get(STOP) for _ in range(100))))
    assert said == (
        f"2 of 8 cases are damaged: case_1, case_4. With damaged_limit=0.05 a training goes on without 1 of them. "
        f"{folder.parent / TABLE} says what is wrong with each. {REPAIR} does them again; then continue with --c."
    )
    assert STOP in next(made)


def test_cases_that_fail_one_after_the_other_are_the_fault_of_the_disk(folder: Path) -> None:
    for name in CASES:
        damage(folder / f"{name}.b2nd", "empty")
    made = loader(folder, limit=1.0)
    seed()
    said = next(made)[STOP]
    assert said.startswith(f"{IN_A_ROW} cases one after the other could not be read; the last: Case case_")
    assert "So it is rather the disk" in said
    assert said.endswith(f"All are listed in {folder.parent / TABLE}.")


def test_single_damaged_cases_between_good_ones_are_no_fault_of_the_disk(tmp_path: Path) -> None:
    damaged = known(tmp_path / "x", limit=1.0)
    names = [f"case_{number}" for number in range(100)]
    for name in names[: 3 * IN_A_ROW]:
        damaged.note(DamagedCase(name, tmp_path, "is odd."), names)
        damaged.note_read()
    assert len(damaged.found) == 3 * IN_A_ROW


@property_of(st.integers(1, 10**6), st.floats(0, 1))
def test_never_are_all_or_all_but_one_left_out_and_no_limit_means_none(cases: int, limit: float) -> None:
    count = allowed(cases, limit)
    assert 0 <= count <= max(0, cases - 2)
    assert count == 0 if not limit else count >= min(1, max(0, cases - 2))
    assert count <= max(1, limit * cases)


def test_of_100_cases_the_default_leaves_out_5() -> None:
    assert [allowed(cases, VolFSettings().damaged_limit) for cases in (1, 2, 3, 10, 40, 100)] == [0, 0, 1, 1, 2, 5]


def test_a_table_that_cannot_be_written_ends_it_and_says_so(folder: Path) -> None:
    damage(folder / "case_1.b2nd", "empty")
    made = loader(folder)
    made.damaged.table = folder / "gone" / TABLE
    seed()
    said = next(filter(None, (next(made).get(STOP) for _ in range(100))))
    assert "That cannot be noted in" in said
    assert said.startswith(f"Case case_1: {folder / 'case_1.b2nd'} cannot be opened")


# ------------------------------------------------------------------------------ disks that need a moment


class Failing:
    """Opens files of one name with an error for a while, as a share does that is away."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, times: int, number: int) -> None:
        self.left = times
        real = Path.open

        def opened(path: Path, *arguments: Any, **named: Any) -> Any:
            if path.name == name and self.left:
                self.left -= 1
                raise OSError(number, "as the test wants it", str(path))
            return real(path, *arguments, **named)

        patch.setattr(Path, "open", opened)


def test_a_disk_that_refuses_for_a_moment_is_given_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    path = folder / "x.bin"
    path.write_bytes(b"voxels")
    failing = Failing(monkeypatch, "x.bin", 2, errno.EIO)

    def read() -> bytes:
        if failing.left:
            raise RuntimeError("blosc2 says nothing of use")
        return path.read_bytes()

    assert patience.read_patiently(read, path) == b"voxels"
    assert pauses == [1.0, 5.0]


def test_a_disk_that_goes_on_refusing_is_told_as_such(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    damage(folder / "case_3.b2nd", "empty")  # stands for what blosc2 cannot get
    Failing(monkeypatch, "case_3.b2nd", 99, errno.ESTALE)
    with pytest.raises(DamagedCase, match=r"case_3\.b2nd cannot be opened \(OSError: .* as the test wants it"):
        UnlabeledCases(folder, CASES).open("case_3")
    assert pauses == list(patience.PAUSES)


def test_a_share_that_is_away_is_given_time_and_a_single_missing_file_is_not(
    tmp_path: Path, pauses: list[float]
) -> None:
    def read() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        patience.read_patiently(read, tmp_path / "missing")
    assert pauses == []
    with pytest.raises(FileNotFoundError):
        patience.read_patiently(read, tmp_path / "share" / "missing")
    assert pauses == list(patience.PAUSES)


def test_too_many_open_files_are_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    damage(folder / "case_3.b2nd", "empty")
    Failing(monkeypatch, "case_3.b2nd", 99, errno.EMFILE)
    with pytest.raises(OSError, match="as the test wants it"):
        UnlabeledCases(folder, CASES).open("case_3")
    assert pauses == []


def test_a_share_that_is_away_when_a_case_is_opened_is_given_time(folder: Path, pauses: list[float]) -> None:
    with pytest.raises(DamagedCase, match=r"holds none of case_3\.b2nd, case_3\.npy, case_3\.npz"):
        UnlabeledCases(folder / "away", CASES).open("case_3")
    assert pauses == list(patience.PAUSES)


# ------------------------------------------------------------------------------------------- the table


def test_several_processes_add_to_one_table(folder: Path) -> None:
    first, second = known(folder), known(folder)
    first.note(DamagedCase("case_0", folder / "a, b.b2nd", 'says "no",\nand more.'), CASES)
    second.note(DamagedCase("case_1", folder, "is odd."), CASES)
    second.note(DamagedCase("case_0", folder, "is odd."), CASES)
    assert first.refresh() == [Damage("case_1", str(folder), "is odd.")]
    assert first.refresh() == []
    found = [
        Damage("case_0", str(folder / "a, b.b2nd"), 'says "no", and more.'),
        Damage("case_1", str(folder), "is odd."),
    ]
    assert read_table(folder.parent / TABLE) == found
    assert list(known(folder).found.values()) == found


@settings(deadline=None)
@property_of(st.binary(max_size=200))
def test_whatever_a_table_holds_it_can_be_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    table = tmp_path_factory.getbasetemp() / TABLE
    write_table(table, [Damage("a", "b", "c")])
    with table.open("ab") as file:
        file.write(content)
    assert read_table(table)[0] == Damage("a", "b", "c")


def test_half_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    table = tmp_path / TABLE
    table.write_text("case,file,reason\ncase_0,x,y\ncase_1,x")
    assert [damage.case for damage in read_table(table)] == ["case_0"]


def test_a_resumed_training_knows_what_its_checkpoint_knew_and_is_still_damaged(folder: Path) -> None:
    damage(folder / "case_1.b2nd", "empty")
    said: list[str] = []
    watch = DamageWatch(folder.parent, 0.5, REPAIR, said.append)
    write_table(watch.table, [Damage("case_7", "found", "after the checkpoint.")])
    watch.begin([Damage("case_1", "x", "y."), Damage("case_2", "x", "y.")], folder)
    assert list(watch.known().found) == ["case_1"]
    assert said == [
        f"Damaged as before, and still left out: case_1. {REPAIR} does them again.",
        "These were damaged, can be read now, and are used again: case_2.",
    ]
    watch.tell()
    assert len(said) == 2
    watch.known().note(DamagedCase("case_3", folder / "case_3.b2nd", "is odd."), CASES)
    watch.sum_up(CASES[:2])
    assert said[2].startswith("WARNING: case case_3 is damaged and left out from now on; validation")
    assert said[2].endswith(f"case_3.b2nd is odd. To have it done again: {REPAIR}")
    assert said[3] == f"Damaged: 1 of 2 training cases are left out, 2 are noted in {TABLE}; the limit is 0."
    assert watch.finish() == 2


def test_a_new_training_begins_without_a_table(folder: Path) -> None:
    watch = DamageWatch(folder.parent, 0.5, REPAIR, lambda _: None)
    write_table(watch.table, [Damage("case_7", "of", "another training.")])
    watch.begin([], folder)
    assert not watch.table.exists()


def test_preprocessing_suspects_what_trainings_of_its_folder_have_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "Dataset501_A" / "VolFPlans_3d_fullres"
    training = tmp_path / "results" / "Dataset501_A" / "nnUNetTrainerVolF__VolFPlans__3d_fullres" / "fold_all"
    training.mkdir(parents=True)
    elsewhere = "/another/mount/VolFPlans_3d_fullres"
    rows = [Damage("a", f"{elsewhere}/a.b2nd", "x"), Damage("b", elsewhere, "x"), Damage("c", "/other/2d/c.b2nd", "x")]
    write_table(training / TABLE, rows)
    assert suspects("Dataset501_A", folder) == set()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    assert suspects("Dataset501_A", folder) == {"a", "b"}
