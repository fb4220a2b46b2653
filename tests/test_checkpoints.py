"""Checkpoints are whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_volf import checkpoints
from nnunet_volf.errors import StorageError, TrainingError


def checkpoint(value: float = 1.0) -> dict[str, Any]:
    return {"network_weights": {"a": torch.full((1000,), value)}, "epoch": 3}


def test_numpy_values_become_plain_or_tensors() -> None:
    found = checkpoints.plain({"a": np.float32(1.5), "b": [np.array(2.0), np.arange(3)], "c": (np.str_("x"), None)})
    assert found["a"] == 1.5
    assert type(found["a"]) is float
    assert type(found["b"][0]) is float
    assert torch.equal(found["b"][1], torch.arange(3))
    assert found["c"] == ("x", None)
    assert type(found["c"][0]) is str


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    checkpoints.write_checkpoint(path, checkpoint())
    assert checkpoints.read_checkpoint(path)["epoch"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_the_file_that_is_replaced_is_kept_under_the_other_name(tmp_path: Path) -> None:
    path, previous = tmp_path / "latest.pth", tmp_path / "previous.pth"
    for value in (1.0, 2.0, 3.0):
        checkpoints.write_checkpoint(path, checkpoint(value), keep_as=previous)
    assert checkpoints.read_checkpoint(path)["network_weights"]["a"][0] == 3
    assert checkpoints.read_checkpoint(previous)["network_weights"]["a"][0] == 2


def test_the_previous_file_is_copied_where_hard_links_do_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr("os.link", no_links)
    path, previous = tmp_path / "latest.pth", tmp_path / "previous.pth"
    for value in (1.0, 2.0):
        checkpoints.write_checkpoint(path, checkpoint(value), keep_as=previous)
    assert checkpoints.read_checkpoint(previous)["network_weights"]["a"][0] == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pth"
    checkpoints.write_checkpoint(path, checkpoint(1.0))

    def full(_: object, file: Any) -> None:
        file.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(StorageError, match=r"x\.pth: the disk is full, .* MB are free"):
        checkpoints.write_checkpoint(path, checkpoint(2.0))
    assert checkpoints.read_checkpoint(path)["network_weights"]["a"][0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_one_flipped_bit_in_the_weights_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    checkpoints.write_checkpoint(path, checkpoint())
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((4,), 1.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"x\.pth (is damaged|cannot be read)"):
        checkpoints.read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_files_that_are_no_checkpoints_get_one_clear_message(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"x\.pth cannot be read"):
        checkpoints.read_checkpoint(path)


def test_a_foreign_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(TrainingError, match="no nnU-Net checkpoint: it has no 'network_weights'"):
        checkpoints.read_checkpoint(path)


class Exploit:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.mkdir, ("owned",)


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"network_weights": {}, "x": Exploit()}, tmp_path / "x.pth")
    with pytest.raises(TrainingError, match="cannot be read"):
        checkpoints.read_checkpoint(tmp_path / "x.pth")
    assert not (tmp_path / "owned").exists()


def test_the_newest_readable_file_is_taken_and_the_others_explained(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.pth", tmp_path / "good.pth"
    bad.write_bytes(b"half")
    checkpoints.write_checkpoint(good, checkpoint())
    path, _, problems = checkpoints.read_newest([tmp_path / "missing.pth", bad, good])
    assert path == good
    assert len(problems) == 1
    assert "bad.pth" in problems[0]


def test_no_file_at_all_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"(?s)no checkpoint to continue from.*none of .*x\.pth.*without --c"):
        checkpoints.read_newest([tmp_path / "x.pth"])
