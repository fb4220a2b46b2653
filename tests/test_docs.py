"""What the documentation says is so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_volf.cli import main
from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.setting_rules import Settings
from nnunet_volf.settings import VolFSettings

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


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_that_is_shown_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in set(re.findall(r"nnunet-volf ([a-z]+) ", page.read_text(encoding="utf-8"))):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0, f"{page.name} shows 'nnunet-volf {command}'"
        capsys.readouterr()


@pytest.mark.parametrize(
    ("page", "end", "kind"),
    [("method.md", "## What the presets", VolFSettings), ("fine-tune.md", "### Why these defaults", FineTuneSettings)],
)
def test_the_table_of_settings_lists_all_of_them_with_their_defaults(page: str, end: str, kind: type[Settings]) -> None:
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    section = text[text.index("## Settings") : text.index(end)]
    documented: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", section, flags=re.MULTILINE):
        each = re.findall(r"`(\w+)`", names)
        values = defaults.split(", ") if len(each) > 1 else [defaults]
        documented |= dict(zip(each, (v.strip().strip("`") for v in values), strict=True))
    actual = kind().to_mapping()
    assert documented.keys() == actual.keys()
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
@pytest.mark.timeout(900)
def test_the_quickstart_runs(tmp_path: Path) -> None:
    script = REPOSITORY / "benchmarks" / "quickstart.py"
    arguments = ["--folder", str(tmp_path), "--epochs", "1", "--iterations", "2", "--skip-fine-tuning"]
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    weights = Path(re.findall(r"pretrained weights: (.*)", done.stdout)[-1])
    assert weights.is_file()
    assert (tmp_path / "preview.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["fusion.py", "loader.py"])
def test_the_benchmarks_run(script: str) -> None:
    arguments = ["--patch", "32", "32", "32", "--rounds", "1"]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("|") > 15
