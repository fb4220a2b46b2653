"""The report on a benchmark in a real browser: no errors, no sideways scrolling, light and dark. Skips without one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import benchmark_results
import pytest
from PIL import Image
from test_benchmark_report import page_of, write_cases

from nnunet_volf.benchmark.analysis.findings import findings

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FOUND = [path for name in BROWSERS if (path := shutil.which(name))]
pytestmark = pytest.mark.skipif(not FOUND, reason="no Chromium on PATH")

DARK, LIGHT = 0, 1  # as Blink numbers them

# Chromium's windows are 500 pixels wide at least, so the page is looked at through a frame.
LOOK = """<!DOCTYPE html><title>not measured</title><style>body {{ margin: 0 }} iframe {{ border: 0 }}</style>
<iframe src="{page}" width="{width}" height="4000"></iframe>
<script>
window.onload = () => {{
  const view = document.querySelector("iframe").contentDocument, root = view.documentElement
  view.querySelectorAll("details").forEach(part => part.open = {opened})
  const wide = [...view.querySelectorAll("main *")].filter(e => !e.closest(".scroll") || e.matches(".scroll"))
  const outside = wide.filter(e => !e.closest("svg") && e.getBoundingClientRect().right > root.clientWidth + 1)
  const shown = [...view.querySelectorAll("svg[role=img] text")].filter(e => e.getBoundingClientRect().width > 0)
  const letters = shown.map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a)
  document.title = JSON.stringify({{
    scroll: root.scrollWidth, client: root.clientWidth, outside: outside.map(e => e.outerHTML.slice(0, 99)),
    smallest: Math.min(...letters), background: getComputedStyle(view.body).backgroundColor,
  }})
}}
</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    arms = ("scratch", "encoder", "volf", "stock", "a_checkpoint_with_a_long_name=other.pth")
    asked = benchmark_results.experiment(labels=(3, 10, 100), seeds=2, test_cases=6, epochs=12, arms=arms)
    done = benchmark_results.outcomes(asked)[:-3]
    failed = [benchmark_results.failure(asked.runs()[-1], "RuntimeError: " + "a_very_long_word" * 20)]
    images = write_cases(folder, asked, done[:5])
    page_of(folder, asked, done, failed, findings(asked, done, failed), images)
    return folder / "report.html"


def browse(profile: Path, address: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        *(FOUND[0], "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
        *("--allow-file-access-from-files", f"--user-data-dir={profile}", *options, address.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done


def measure(report: Path, folder: Path, width: int, scheme: int = LIGHT, opened: bool = False) -> dict[str, Any]:
    look = folder / "look.html"
    look.write_text(LOOK.format(page=report.as_uri(), width=width, opened=str(opened).lower()), encoding="utf-8")
    options = ("--dump-dom", f"--blink-settings=preferredColorScheme={scheme}", f"--window-size={max(width, 500)},4000")
    done = browse(folder / "profile", look, *options)
    assert "CONSOLE" not in done.stderr, done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    measured: dict[str, Any] = json.loads(unescape(title[1]))
    return measured


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("width", [1280, 768, 400])
def test_nothing_is_wider_than_the_window_and_all_letters_can_be_read(
    width: int, opened: bool, report: Path, tmp_path: Path
) -> None:
    seen = measure(report, tmp_path, width, opened=opened)
    assert seen["outside"] == []
    assert seen["scroll"] <= seen["client"]
    assert seen["client"] >= width - 20
    assert seen["smallest"] >= 9


def test_the_page_follows_the_colour_scheme_of_the_reader(report: Path, tmp_path: Path) -> None:
    light, dark = (measure(report, tmp_path, 1280, scheme)["background"] for scheme in (LIGHT, DARK))
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (light, dark)]
    assert brightness[0] > 200
    assert brightness[1] < 60


def test_the_page_is_drawn_without_a_word_on_the_console(report: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    done = browse(tmp_path / "profile", report, f"--screenshot={picture}", "--window-size=1280,3000")
    assert "CONSOLE" not in done.stderr
    colours = Image.open(picture).convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 100
