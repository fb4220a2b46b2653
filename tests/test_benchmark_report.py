"""The report on a benchmark: all that was found is on one page, nothing of the machine is, and it reads anywhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import benchmark_results
import numpy as np
import pytest
import SimpleITK
from reports import Outline

from nnunet_volf.benchmark.analysis.comparisons import Comparison
from nnunet_volf.benchmark.analysis.findings import Findings, Verdict, findings
from nnunet_volf.benchmark.analysis.wording import p_value
from nnunet_volf.benchmark.arms import Arm
from nnunet_volf.benchmark.experiment import Experiment
from nnunet_volf.benchmark.report.conditions import Fact, facts, shared_conditions
from nnunet_volf.benchmark.report.page import write_report
from nnunet_volf.benchmark.report.table import number
from nnunet_volf.benchmark.report.without_folders import file_name, remover
from nnunet_volf.benchmark.results import Failure, Outcome

COMMAND = "nnunet-volf benchmark 4 --pretrained /data/weights.pth"
EXPERIMENT = benchmark_results.experiment(labels=(3, 10), seeds=2, test_cases=8, epochs=12)
OUTCOMES = benchmark_results.outcomes(EXPERIMENT)
FOUND = findings(EXPERIMENT, OUTCOMES, [])


def compared_with_scratch(arm: str, labels: int) -> Comparison:
    wanted = (arm, labels, "dice", "mean", "scratch")
    return next(c for c in FOUND.comparisons if (c.arm, c.labels, c.metric, c.label, c.reference) == wanted)


def page_of(
    folder: Path,
    experiment: Experiment = EXPERIMENT,
    outcomes: Sequence[Outcome] = OUTCOMES,
    failures: Sequence[Failure] = (),
    found: Findings = FOUND,
    images: Path | None = None,
) -> str:
    path = write_report(folder, experiment, outcomes, failures, found, COMMAND, images, folder / "labels")
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def write_cases(folder: Path, experiment: Experiment, outcomes: Sequence[Outcome], image: bool = True) -> Path:
    """Write labels, images and predictions of all test cases, and return the folder of the images."""
    labels = np.zeros((4, 24, 20), np.uint8)
    labels[1:3, 6:14, 5:15], labels[1:3, 14:18, 5:15] = 1, 2
    names = [case for cases in experiment.cases.values() for case in cases.test]
    files = [folder / "labels" / name for name in names]
    files += [folder / "runs" / o.run.name / "predictions" / name for o in outcomes for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels), f"{file}.nii.gz")
    (folder / "imagesTr").mkdir()
    for name in names if image else ():
        drawn = SimpleITK.GetImageFromArray(labels.astype(np.float32))
        SimpleITK.WriteImage(drawn, str(folder / "imagesTr" / f"{name}_0000.nii.gz"))
    return folder / "imagesTr"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    return page_of(folder, images=write_cases(folder, EXPERIMENT, OUTCOMES))


def test_the_page_says_the_verdict_and_names_all_arms_labels_and_counts(page: str) -> None:
    text = Outline(page).text
    assert FOUND.verdict.sentence in text
    for detail in FOUND.verdict.details:
        assert detail in text
    for fact in (
        "4 arms with 3, 10 labelled cases, 2 seeds, tested on 8 cases",
        "16 of 16 trainings done",
        "8 test cases",
        "600 iterations in each training",
        "16 min for all trainings together",
        "Fold 0, test: scored here, never trained on: 8",
        "Fold 0, pool: training cases are drawn from it: 10",
        "nnUNetTrainerVolFFineTune from the encoder of weights.pth",
        COMMAND,
        "12 epochs of 50 iterations",
        "tolerance 1 mm",
        "torch 2.1.2",
        *(arm.name for arm in EXPERIMENT.arms),
    ):
        assert fact in text


def test_each_row_of_the_table_holds_the_numbers_of_its_arm(page: str) -> None:
    table = page.split("<tbody>")[1].split("</tbody>")[0]
    assert "3 labelled cases" in table
    volf = Outline(table[table.index("volf</th>") :].split("</tr>")[0].partition("</th>")[2]).text
    levels = {d.metric: d.mean for d in FOUND.levels if (d.arm, d.labels, d.label) == ("volf", 3, "mean")}
    compared = compared_with_scratch("volf", 3)
    for metric, mean in levels.items():
        digits = 3 if metric in ("dice", "nsd") else 2
        assert f"{mean.value:.{digits}f} {mean.low:.{digits}f}\N{EN DASH}{mean.high:.{digits}f}" in volf
    assert f"{compared.better} better, {compared.worse} worse" in volf
    assert number(compared.difference.value, signed=True) in volf
    assert p_value(compared.p_holm) in volf


def test_verdicts_are_told_in_words_and_signs_and_not_by_colour_alone(page: str) -> None:
    signs = re.findall(r'<i class="sign (\w+)" role="img" aria-label="(\w+)" title="\w+">(.)</i>', page)
    assert signs
    assert {(kind, said, sign) for kind, said, sign in signs} <= {
        ("better", "better", "\u25b2"),
        ("worse", "worse", "\u25bc"),
        ("unclear", "unclear", "\u25c7"),
    }


def test_each_class_has_its_own_table(page: str) -> None:
    summaries = re.findall(r"<summary>([^<]+)</summary>\n<div class=\"scroll\"", page)
    assert summaries[:2] == ["anterior", "posterior"]


def test_a_benchmark_of_many_classes_folds_their_tables_together(tmp_path: Path) -> None:
    asked = benchmark_results.experiment(
        labels=(3,), seeds=1, test_cases=6, arms=("scratch", "volf"), classes=[f"organ {n}" for n in range(6)]
    )
    done = benchmark_results.outcomes(asked)
    assert "Each of the 6 classes" in Outline(page_of(tmp_path, asked, done, found=findings(asked, done, []))).text


def test_the_page_is_well_formed_with_headings_in_order_and_headers_with_scope(page: str) -> None:
    outline = Outline(page)
    assert outline.unclosed == []
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all("scope" in attributes for tag, attributes in outline.tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    for tag, attributes in outline.tags:
        assert tag != "svg" or attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    anchors = {(attributes.get("href") or "")[1:] for tag, attributes in outline.tags if tag == "a"}
    assert anchors <= {attributes.get("id") for _, attributes in outline.tags}


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    assert "://" not in page
    assert "@import" not in page
    assert "url(" not in page
    for tag, attributes in Outline(page).tags:
        assert tag not in {"script", "link", "iframe", "object"}
        assert tag != "img" or (attributes["src"] or "").startswith("data:image/png;base64,")
        assert (attributes.get("href") or "#").startswith("#")


def test_the_best_the_median_and_the_worst_case_are_shown_with_every_arm(page: str) -> None:
    differences = compared_with_scratch("volf", 10).per_case
    best, worst = max(differences, key=differences.__getitem__), min(differences, key=differences.__getitem__)
    text = Outline(page).text
    assert f"Best: {best} ({number(differences[best], signed=True)})" in text
    assert f"Worst: {worst} ({number(differences[worst], signed=True)})" in text
    assert "those of seed 0 with 10 labelled cases" in text
    pictures = [attributes for tag, attributes in Outline(page).tags if tag == "img"]
    assert len(pictures) == 3 * (2 + len(EXPERIMENT.arms))
    assert all(base64.b64decode((p["src"] or "").split(",")[1]).startswith(b"\x89PNG") for p in pictures)


def test_without_files_the_page_says_what_is_not_there(tmp_path: Path) -> None:
    text = Outline(page_of(tmp_path)).text
    assert text.count("No pictures: its labels are not there.") == 3


def test_without_images_outlines_are_drawn_and_that_is_said(tmp_path: Path) -> None:
    write_cases(tmp_path, EXPERIMENT, OUTCOMES[:2], image=False)
    text = Outline(page_of(tmp_path, images=None)).text
    assert text.count("its image is not at hand, so only outlines are drawn") == 3
    assert "no prediction" in text


def test_a_damaged_file_leaves_out_pictures_and_not_the_page(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    for case in EXPERIMENT.cases[0].test:
        (tmp_path / "labels" / f"{case}.nii.gz").write_bytes(b"damaged")
    page = page_of(tmp_path)
    assert Outline(page).text.count("No pictures: ") == 3
    assert str(tmp_path) not in page


def test_an_unfinished_benchmark_says_so_first(tmp_path: Path) -> None:
    failed = [benchmark_results.failure(OUTCOMES[2].run, "RuntimeError: CUDA out of memory in /home/me/code/train.py")]
    done = [*OUTCOMES[:2], *OUTCOMES[3:5]]
    found = findings(EXPERIMENT, done, failed)
    assert found.missing
    page = page_of(tmp_path, outcomes=done, failures=failed, found=found)
    text = Outline(page).text
    assert text.index("This benchmark is not complete: 4 of 16 trainings are done") < text.index("against training")
    for sentence in found.missing:
        assert sentence.replace("/home/me/code/train.py", "train.py") in text
    assert "trainings done, 1 failed" in text
    assert "RuntimeError: CUDA out of memory in train.py runs/volf_3labels_seed0_fold0/log.txt" in text
    assert "no result yet" in text
    assert "/home/me" not in page


def test_a_complete_benchmark_does_not_say_that_it_is_not(page: str) -> None:
    assert "not complete" not in page
    assert "Failed trainings" not in page


@pytest.mark.parametrize("done", [0, 1])
def test_a_benchmark_that_has_hardly_begun_has_a_page(done: int, tmp_path: Path) -> None:
    outcomes = OUTCOMES[:done]
    page = page_of(tmp_path, outcomes=outcomes, found=findings(EXPERIMENT, outcomes, []))
    outline = Outline(page)
    assert outline.unclosed == []
    assert f"{done} of 16 trainings are done" in outline.text
    assert "There is nothing to compare yet." in outline.text


def test_everything_that_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    asked = replace(
        benchmark_results.experiment(labels=(3,), seeds=1, test_cases=5, arms=("scratch", "volf")),
        dataset=evil, plans_name=evil, configuration=evil, settings={evil: evil}, data={evil: [evil, {evil: evil}]},
    )  # fmt: skip
    asked = replace(asked, classes={"1": evil, "2": "b"}, arms=(asked.arms[0], Arm("volf", evil, evil)))
    asked = replace(asked, cases={0: replace(asked.cases[0], test=tuple(f"{evil}{n}" for n in range(5)))})
    done = [replace(o, conditions={evil: evil}) for o in benchmark_results.outcomes(asked)]
    found = findings(asked, done, [])
    found = replace(found, verdict=Verdict(evil, (evil,)), missing=(evil,))
    page = page_of(tmp_path, asked, done, [Failure(done[0].run, evil, evil)], found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 15
    assert Outline(page).unclosed == []


@pytest.mark.parametrize(
    "folder",
    ["/home/dr meier/nnUNet results/run", "/mnt/clinic/meier", r"C:\Users\Dr Meier\run", r"\\server\meier\run"],
)
def test_no_folder_of_the_machine_is_shown_but_in_the_command(folder: str, tmp_path: Path) -> None:
    sign = "\\" if "\\" in folder else "/"
    weights = f"{folder}{sign}weights.pth"
    arms = tuple(replace(arm, weights=weights if arm.weights else None) for arm in EXPERIMENT.arms)
    asked = replace(EXPERIMENT, arms=arms, settings={"source": weights}, data={"leakage": [f"{weights}: 3 cases."]})
    done = [replace(outcome, conditions={"log": weights, "torch": "2.5"}) for outcome in OUTCOMES]
    found = replace(FOUND, missing=(f"No file {weights}.",), verdict=Verdict(f"See {weights}.", (f"And {weights}.",)))
    failed = [benchmark_results.failure(OUTCOMES[0].run, f"{weights} is damaged")]
    page = page_of(tmp_path, asked, done, failed, found).lower()
    for part in ("meier", "clinic", "users", "server", str(tmp_path).lower()):
        assert part not in page.replace(COMMAND.lower(), "")
    assert "from weights.pth" in page
    assert "weights.pth is damaged" in page


def test_methods_are_named_in_words_where_arms_are_described(page: str, tmp_path: Path) -> None:
    text = Outline(page).text
    assert "nnUNetTrainerVolFFineTune from weights.pth, pretrained by Volume Fusion" in text
    assert "nnUNetTrainerVolFFineTune from the encoder of weights.pth, pretrained by Volume Fusion" in text
    asked = benchmark_results.experiment(arms=("volf", "mae=mae.pth", "voco=voco.pth"), labels=(3,))
    done = benchmark_results.outcomes(asked)
    text = Outline(page_of(tmp_path, asked, done, found=findings(asked, done, []))).text
    assert "from mae.pth, pretrained by masked reconstruction (MAE)" in text
    assert "from the encoder of voco.pth, pretrained by Volume Contrast (VoCo)" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a/b/c.pth failed", "c.pth failed"),
        ("in '/a/b/c.pth', line 3", "in 'c.pth', line 3"),
        ("~/runs/x.pth", "x.pth"),
        (r"D:\a b\c.pth failed", "c.pth failed"),
        ("better and/or worse, 3/4 of runs/volf/log.txt", "better and/or worse, 3/4 of runs/volf/log.txt"),
        ("Error: 12:30 is late", "Error: 12:30 is late"),
        ("/known folder/with spaces/x.pth is damaged", "x.pth is damaged"),
    ],
)
def test_folders_are_taken_out_of_texts_and_nothing_else_is(text: str, shown: str) -> None:
    assert remover(["/known folder/with spaces/x.pth", None])(text) == shown


def test_a_file_is_named_the_same_on_every_system() -> None:
    assert [file_name(path) for path in ("/a/b.pth", r"C:\a\b.pth", "b.pth")] == ["b.pth"] * 3


def test_conditions_that_differ_are_shown_with_how_many_trainings_had_them() -> None:
    def conditions(torch: str, seconds: float) -> dict[str, Any]:
        return {"versions": {"torch": torch, "python": "3.11"}, "peak_memory": seconds}

    made = [("2.5", 1.0), ("2.5", 2.0), ("2.6", 3.0), ("2.5", 4.0), ("2.5", 5.0)]
    done = [replace(o, conditions=conditions(*values)) for o, values in zip(OUTCOMES, made, strict=False)]
    assert shared_conditions(done, str) == (
        Fact("versions torch", "2.5 (in 4 of 5 trainings); 2.6 (in 1 of 5 trainings)"),
        Fact("versions python", "3.11"),
        Fact("peak memory", "5 values, see result.json of each training"),
    )


def test_facts_are_read_whatever_they_hold() -> None:
    values = {"leaks_found": ["None.", "Checked."], "nested": {"a": 1.5, "b": None, "c": True}, "list": [1, 2], "e": {}}
    assert facts(values, str) == (
        Fact("leaks found", "None. Checked."),
        Fact("nested", "3", (Fact("a", "1.5"), Fact("b", "none"), Fact("c", "yes"))),
        Fact("list", "1, 2"),
        Fact("e", "none"),
    )


@pytest.mark.parametrize(("p", "text"), [(None, "-"), (0.0004, "< 0.001"), (0.04999, "0.050"), (1.0, "1.000")])
def test_probabilities_are_printed_as_papers_do(p: float | None, text: str) -> None:
    assert p_value(p) == text


def test_chosen_learning_rates_are_shown_with_their_arm(tmp_path: Path) -> None:
    asked = benchmark_results.experiment(labels=(3,), seeds=1, test_cases=5, arms=("scratch", "volf"), rates=(0.3, 1.0))
    done = benchmark_results.outcomes(asked)
    found = findings(asked, done, [])
    text = Outline(page_of(tmp_path, asked, done, found=found)).text
    assert "Factor of the learning rate, chosen on validation cases" in text
    for factor in set(found.chosen_rates.values()):
        assert f"3 labels: {factor:g}" in text


def test_the_same_results_give_the_same_page(tmp_path: Path, page: str) -> None:
    images = write_cases(tmp_path, EXPERIMENT, OUTCOMES)
    assert page_of(tmp_path, images=images) == page


def test_a_large_benchmark_still_makes_a_small_page(tmp_path: Path) -> None:
    arms = ("scratch", "volf", "other=other.pth")
    asked = benchmark_results.experiment(labels=(3,), seeds=1, test_cases=400, arms=arms, classes=("organ",))
    done = benchmark_results.outcomes(asked)
    page = page_of(tmp_path, asked, done, found=findings(asked, done, []))
    assert len(page) < 150_000
    assert "each bar stands for about 4 cases" in page
    assert "and 100 more, in experiment.json" in page
