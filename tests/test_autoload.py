"""How our folder gets into nnUNet_extTrainer, and how the route is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnunet_volf import _autoload, discovery
from nnunet_volf.errors import VolFError


def test_registering_twice_changes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_autoload.VARIABLE, raising=False)
    _autoload.register()
    _autoload.register()
    assert os.environ[_autoload.VARIABLE] == str(discovery.trainers_folder())


def test_registering_appends_to_what_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_autoload.VARIABLE, os.pathsep.join(["/first", "/second"]))
    _autoload.register()
    folders = os.environ[_autoload.VARIABLE].split(os.pathsep)
    assert folders == ["/first", "/second", str(discovery.trainers_folder())]


def test_registering_respects_the_opt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_autoload.OPT_OUT, "0")
    monkeypatch.delenv(_autoload.VARIABLE, raising=False)
    _autoload.register()
    assert _autoload.VARIABLE not in os.environ


def test_registering_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError(name)

    monkeypatch.delenv(_autoload.VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", broken)
    _autoload.register()
    assert _autoload.VARIABLE not in os.environ


@pytest.mark.parametrize(
    ("variables", "torch", "route", "reason"),
    [
        ({}, "2.5.0", "entry point", "torch adds the folder"),
        ({"nnUNet_extTrainer": "/ours"}, "2.15.0+cu132", "entry point", "torch adds the folder"),
        ({}, "2.4.1", "not at work", "torch 2.4.1 does not call entry points"),
        ({"nnUNet_extTrainer": "/ours"}, "2.4.1", "exported variable", "torch 2.4.1 does not call"),
        ({"nnUNet_extTrainer": "/other"}, "2.4.1", "not at work", "torch 2.4.1 does not call"),
        ({"NNUNET_VOLF_AUTOLOAD": "0"}, "2.8.0", "not at work", "NNUNET_VOLF_AUTOLOAD=0"),
        ({"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}, "2.8.0", "not at work", "TORCH_DEVICE_BACKEND_AUTOLOAD=0"),
    ],
)
def test_the_route_is_told_with_its_reason(variables: dict[str, str], torch: str, route: str, reason: str) -> None:
    told = discovery.discovery_route(variables, torch, Path("/ours"))
    assert told.name == route
    assert reason in told.reason


def test_a_missing_folder_says_that_a_checkout_may_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(VolFError, match="If Python was started inside a checkout, the folder there hides"):
        discovery.trainers_folder()


def test_the_file_of_a_trainer_without_methods_is_sought_as_nnunet_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = type("Empty", (), {"__module__": "deeper.Empty"})
    monkeypatch.delenv(_autoload.VARIABLE, raising=False)
    assert discovery.source_file(trainer) is None
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv(_autoload.VARIABLE, os.pathsep.join(("", str(first), str(second))))
    for folder in (second, first):
        (folder / "deeper").mkdir(parents=True)
        (folder / "deeper" / "Empty.py").touch()
        assert discovery.source_file(trainer) == folder / "deeper" / "Empty.py"
