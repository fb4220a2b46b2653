"""What the documentation says is so."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NnUNetFolders
from matplotlib import image
from training import make_trainer, with_settings

from nnunet_volf.cli import parser
from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.pretext.catalogue import METHODS, Method, load_settings
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.setting_rules import Settings, parse_assignments

REPOSITORY = Path(__file__).parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def test_the_readme_says_what_this_is_by_line_5_and_shows_a_command_by_line_25() -> None:
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert any("without labels" in line for line in lines[:5])
    assert any(line.startswith("pip install nnunet-volf") for line in lines[:25])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file) if file else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}, target


def commands_shown(page: Path) -> list[str]:
    """The `nnunet-volf` commands in the fenced blocks of a page, without its name.

    What stands for something else is `<words in brackets>`, an environment variable (a number may stand there), or `…`.
    """
    blocks = re.findall(
        r"^ *```(?:bash|console)\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    shown = [found for line in lines for found in re.findall(r"(?<!install )\bnnunet-volf ([^#&|;)]+)", line)]
    return [" ".join(re.sub(r"<[^>]+>|\$\w+|\$\{\w+\}", "1", command).split()) for command in shown]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_line_in_a_block_is_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands_shown(page):
        try:
            args = parser().parse_args(shlex.split(command))
        except SystemExit:
            pytest.fail(f"{page.name} shows 'nnunet-volf {command}': {capsys.readouterr().err}")
        if getattr(args, "set", None):
            fine_tuning = command.startswith("benchmark") or getattr(args, "fine_tune", False)
            kind = FineTuneSettings if fine_tuning else load_settings(METHODS[args.pretext])
            kind.from_mapping(parse_assignments(args.set))


def test_the_blocks_of_all_pages_show_most_commands() -> None:
    shown = [tuple(command.split()[:2]) for page in PAGES for command in commands_shown(page)]
    assert len(shown) > 30
    assert {"import", "plan", "preprocess", "pretrain", "settings", "preview", "doctor", "weights"} <= {
        s[0] for s in shown
    }
    assert ("weights", "adapt") in shown


def test_a_placeholder_stands_for_a_word_and_a_wrong_option_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    lines = [
        "nnunet-volf weights check <printed above> \\",
        "    -d $ID  # why",
        ".venv/bin/nnunet-volf doctor --no && x",
    ]
    page.write_text("\n".join(["```bash", *lines, "```"]), encoding="utf-8")
    assert commands_shown(page) == ["weights check 1 -d 1", "doctor --no"]
    with pytest.raises(SystemExit):
        parser().parse_args(["doctor", "--no"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    known = command_names(parser())
    for first, second in re.findall(r"`nnunet-volf ([a-z]+)(?: ([a-z]+))?", page.read_text(encoding="utf-8")):
        assert (first,) in known, f"{page.name} names 'nnunet-volf {first}'"
        if second and (first, second) not in known:
            assert not any(len(name) == 2 and name[0] == first for name in known), f"{page.name}: {first} {second}"


def command_names(of: argparse.ArgumentParser) -> set[tuple[str, ...]]:
    """The commands of a parser, those within another with its name before theirs."""
    names: set[tuple[str, ...]] = set()
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                names |= {(name,), *((name, *inner) for inner in command_names(command))}
    return names


@pytest.mark.parametrize(
    ("page", "end", "kind"),
    [("method.md", "## What the presets", VolFSettings), ("fine-tune.md", "### Why these defaults", FineTuneSettings)],
)
def test_the_table_of_settings_lists_all_of_them_with_their_defaults(page: str, end: str, kind: type[Settings]) -> None:
    actual = kind().to_mapping()
    documented = settings_documented(page, end)
    assert documented.keys() == actual.keys()
    assert_documented_as_they_are(documented, actual)


@pytest.mark.parametrize(
    "method", [method for method in METHODS.values() if method.name != "volf"], ids=lambda m: m.name
)
def test_the_page_of_a_pretext_lists_the_settings_of_its_own(method: Method) -> None:
    kind = load_settings(method)
    documented = settings_documented(f"{method.name}.md", "\n## ")
    own = {name for name, written in inspect.get_annotations(kind).items() if "ClassVar" not in str(written)}
    assert own <= documented.keys() <= kind().to_mapping().keys()
    assert_documented_as_they_are(documented, kind().to_mapping())


def settings_documented(page: str, end: str) -> dict[str, str]:
    """The first two columns of the table of settings on a page, from its title to the next."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    start = text.index("## Settings") + len("## Settings")
    section = text[start : text.index(end, start)]
    documented: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", section, flags=re.MULTILINE):
        each = re.findall(r"`(\w+)`", names)
        values = defaults.split(", ") if len(each) > 1 else [defaults]
        documented |= dict(zip(each, (v.strip().strip("`") for v in values), strict=True))
    return documented


def assert_documented_as_they_are(documented: dict[str, str], actual: dict[str, Any]) -> None:
    for name, shown in documented.items():
        value = shown if isinstance(actual[name], str) else json.loads(shown)
        assert value == actual[name], name


def test_the_python_snippets_run_and_print_what_the_page_says(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert snippets
    for snippet in snippets:
        done = subprocess.run(
            [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == re.findall(r"print\(.*\)  # (.*)", snippet)[-1]


@pytest.mark.slow
def test_the_figure_is_drawn_from_a_pretraining(phantoms: NnUNetFolders, tmp_path: Path) -> None:
    trainer = make_trainer(with_settings("Pictured", epochs=1, iterations=2))
    trainer.run_training()
    weights, picture = Path(trainer.output_folder) / "checkpoint_final.pth", tmp_path / "figure.png"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "figure.py"), "901", str(weights), str(picture), "-p"]
    done = subprocess.run([*command, "Pictured"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    drawn = image.imread(picture)
    assert drawn.shape[1] > 1000
    panels = np.array_split(drawn[drawn.shape[0] // 2], 5)
    assert len({panel.tobytes() for panel in panels}) == 5
    assert all(np.ptp(panel) > 0.1 for panel in panels)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["fusion.py", "loader.py", "handing_over.py"])
def test_the_benchmarks_run(script: str) -> None:
    arguments = ["--patch", "32", "32", "32", "--rounds", "1"]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("|") > 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options"), [("training_step.py", []), ("pretext_steps.py", ["--pretexts", "volf", "mae"])]
)
def test_the_benchmarks_of_training_run(phantoms: NnUNetFolders, script: str, options: list[str]) -> None:
    plans = with_settings("Timed")
    command = [sys.executable, "-W", "ignore", str(REPOSITORY / "benchmarks" / script), "Dataset901_Phantom"]
    done = subprocess.run(
        [*command, "-p", plans, "--rounds", "1", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("|") > 10
