"""The command line, run in this process wherever that is possible."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

import nnunet_volf
from nnunet_volf import cli, commands
from nnunet_volf.commands import COMMANDS
from nnunet_volf.discovery import trainers_folder
from nnunet_volf.errors import VolFError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a command ``fail`` in place of all others; it raises what its attribute ``error`` says."""

    def run(args: argparse.Namespace) -> int:
        raise command.error

    command = SimpleNamespace(NAME="fail", HELP="Fail", add_arguments=lambda _parser: None, run=run, error=None)
    monkeypatch.setattr(commands, "COMMANDS", ("fail",))
    monkeypatch.setitem(sys.modules, "nnunet_volf.commands.fail", command)
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_name_a_help_and_can_show_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = importlib.import_module(f"nnunet_volf.commands.{name}")
    with pytest.raises(SystemExit) as leaving:
        cli.main([command.NAME, "--help"])
    assert leaving.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"nnunet-volf {command.NAME}" in told
    assert " ".join(command.HELP.split()[:4]) in told


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    names = {importlib.import_module(f"nnunet_volf.commands.{module}").NAME for module in COMMANDS}
    assert {line.split()[0] for line in told.splitlines() if line.startswith("    ") and line[4] != " "} == names
    assert {"pretrain", "import", "plan", "preprocess"} <= names


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out == f"nnunet-volf {nnunet_volf.__version__}\n"


def test_without_a_command_the_usage_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main([])
    assert leaving.value.code == 2
    assert "the following arguments are required: COMMAND" in capsys.readouterr().err


def test_the_trainers_folder_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trainers"]) == 0
    assert capsys.readouterr().out == f"{trainers_folder()}\n"


def test_a_known_error_is_one_message_without_a_traceback(
    failing: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.error = VolFError("No plans in /data. Run 'nnunet-volf plan' first.")
    assert cli.main(["fail"]) == 2
    told = capsys.readouterr()
    assert told.err == "nnunet-volf: No plans in /data. Run 'nnunet-volf plan' first.\n"
    assert told.out == ""


def test_an_unknown_error_keeps_its_traceback(failing: SimpleNamespace) -> None:
    failing.error = ZeroDivisionError("a bug of ours")
    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        cli.main(["fail"])


def test_control_c_ends_quietly_as_a_shell_expects(
    failing: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.error = KeyboardInterrupt()
    assert cli.main(["fail"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell pipe of POSIX")
def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys, time; time.sleep(1); from nnunet_volf.cli import main; sys.exit(main(['trainers']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_the_help_loads_neither_torch_nor_nnunet() -> None:
    code = (
        "import sys\n"
        "from nnunet_volf.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    assert not {'torch', 'nnunetv2'}.intersection(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
