"""A folder holds the results of one question."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_volf.benchmark.arms import Arm
from nnunet_volf.benchmark.experiment import Cases, Experiment
from nnunet_volf.benchmark.folder import collect, note_failure, only_benchmark, open_folder, read_experiment, run_folder
from nnunet_volf.benchmark.results import Outcome, Run, Score
from nnunet_volf.errors import BenchmarkError
from nnunet_volf.files import write_json
from nnunet_volf.finetune_settings import FineTuneSettings
from nnunet_volf.locks import Held

QUESTION = Experiment(
    dataset="Dataset901_Phantom",
    plans_name="nnUNetPlans",
    configuration="3d_fullres",
    arms=(Arm("scratch"), Arm("volf", weights="w.pth")),
    labels=(3, 5),
    seeds=(1, 2),
    rates=(1.0,),
    cases={0: Cases(("t",), ("v",), ("a", "b", "c", "d", "e"))},
    epochs=10,
    iterations=20,
    validation_iterations=4,
    settings={"optimizer": "adamw"},
    classes={"1": "large"},
    tolerance=1.0,
    mirroring=True,
    data={"weights": {"volf": "1234"}, "plans": "aa", "labelled images": "bb", "leakage": ["w.pth: compared."]},
)


def test_a_question_survives_being_written(tmp_path: Path) -> None:
    open_folder(tmp_path / "b", QUESTION)
    assert read_experiment(tmp_path / "b" / "experiment.json") == QUESTION


def test_a_question_from_before_arms_named_their_method_goes_on() -> None:
    written = QUESTION.to_mapping()
    for arm in written["arms"]:
        del arm["method"]
    assert Experiment.from_mapping(written) == QUESTION


def test_every_training_has_a_folder_of_its_own_and_seeds_come_before_arms() -> None:
    runs = replace(QUESTION, rates=(0.5, 1.0)).runs()
    assert len({run.name for run in runs}) == len(runs) == 2 * 2 * 2 * 2
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert runs[0].name == "scratch_3labels_seed1_fold0_rate0.5"
    assert Run("volf", 5, 2, 0).name == "volf_5labels_seed2_fold0"


@pytest.mark.parametrize(
    "more",
    [
        {"labels": (3, 5, 10)},
        {"seeds": (1, 2, 3)},
        {"rates": (0.3, 1.0)},
        {
            "arms": (*QUESTION.arms, Arm("mae", weights="m.pth")),
            "data": {**QUESTION.data, "weights": {"volf": "1234", "mae": "5678"}, "leakage": ["both: compared."]},
        },
        {"arms": (Arm("scratch"), Arm("volf", weights="/moved/w.pth"))},
        {"arms": QUESTION.arms[:1]},
        {
            "cases": {**QUESTION.cases, 1: Cases(("x",), ("y",), ("z",))},
            "data": {**QUESTION.data, "labelled images": "of more cases"},
        },
    ],
)
def test_more_or_fewer_of_the_same_trainings_may_be_asked_for(tmp_path: Path, more: dict[str, object]) -> None:
    open_folder(tmp_path / "b", QUESTION)
    asked = replace(QUESTION, **more)
    open_folder(tmp_path / "b", asked)
    assert read_experiment(tmp_path / "b" / "experiment.json") == asked


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"epochs": 20}, "epochs was 10 and is 20"),
        ({"settings": {"optimizer": "sgd"}}, "settings.optimizer was adamw and is sgd"),
        (
            {"data": {**QUESTION.data, "weights": {"volf": "5678"}}},
            "arm volf was nnUNetTrainerVolFFineTune from all of the weights with SHA-256 1234 and is",
        ),
        (
            {"arms": (Arm("scratch"), Arm("volf", weights="w.pth", scope="encoder"))},
            "and is nnUNetTrainerVolFFineTune from encoder of the weights with SHA-256 1234",
        ),
        ({"data": {**QUESTION.data, "plans": "ab"}}, "the hash of the plans was aa and is ab"),
        ({"data": {**QUESTION.data, "labelled images": "bc"}}, "the hash of the labelled images was bb and is bc"),
        ({"cases": {0: Cases(("t",), ("v", "a"), ("b",))}}, "cases of fold 0 was"),
    ],
)
def test_another_question_is_refused_with_what_differs(tmp_path: Path, other: dict[str, object], message: str) -> None:
    open_folder(tmp_path / "b", QUESTION)
    with pytest.raises(BenchmarkError) as refused:
        open_folder(tmp_path / "b", replace(QUESTION, **other))
    assert message in str(refused.value)
    assert "choose another folder with -o" in str(refused.value)
    assert read_experiment(tmp_path / "b" / "experiment.json") == QUESTION


def test_a_setting_that_an_older_version_did_not_have_is_no_other_question(tmp_path: Path) -> None:
    known = FineTuneSettings().to_mapping()
    before = {name: value for name, value in known.items() if name != "heads_rate"}
    open_folder(tmp_path / "b", replace(QUESTION, settings=before))
    with pytest.raises(BenchmarkError, match=r"question: settings\.heads_rate was 1\.0 and is 5\.0\. Ask"):
        open_folder(tmp_path / "b", replace(QUESTION, settings={**known, "heads_rate": 5.0}))
    open_folder(tmp_path / "b", replace(QUESTION, settings=known))
    assert read_experiment(tmp_path / "b" / "experiment.json").settings == known


def test_results_of_a_version_that_left_filters_as_they_were_are_no_answer_to_what_is_asked_now(tmp_path: Path) -> None:
    known = FineTuneSettings().to_mapping()
    before = {name: value for name, value in known.items() if name != "filter_sizes"}
    open_folder(tmp_path / "b", replace(QUESTION, settings=before))
    with pytest.raises(BenchmarkError, match=r"settings\.filter_sizes was loaded and is initial"):
        open_folder(tmp_path / "b", replace(QUESTION, settings=known))
    open_folder(tmp_path / "b", replace(QUESTION, settings={**known, "filter_sizes": "loaded"}))


def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BenchmarkError, match=r"holds other files and no experiment\.json"):
        open_folder(tmp_path, QUESTION)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_only_one_benchmark_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    with only_benchmark(tmp_path / "b"):
        open_folder(tmp_path / "b", QUESTION)  # the lock is no other's file
        with (
            pytest.raises(Held, match=r"Another benchmark in .* is at work \(process \d+ on "),
            only_benchmark(tmp_path / "b"),
        ):
            pass
    with only_benchmark(tmp_path / "b"):
        pass


def test_results_and_failures_are_collected_and_a_result_outweighs_an_old_failure(tmp_path: Path) -> None:
    done, failed, missing, _ = runs = QUESTION.runs()[:4]
    outcome = Outcome(done, ("a", "b", "c"), (Score("t", "large", 0.5, None, 1.0, 2.0),), (0.1, 0.4), 12.5, {"k": 1})
    for run in (done, failed):
        run_folder(tmp_path, run).mkdir(parents=True)
        note_failure(tmp_path, run, "no memory")
    write_json(run_folder(tmp_path, done) / "result.json", outcome.to_mapping())
    outcomes, failures = collect(tmp_path, runs)
    assert outcomes == [outcome]
    assert [(failure.run, failure.reason) for failure in failures] == [(failed, "no memory")]
    assert Path(failures[0].log) == Path("runs") / failed.name / "log.txt"
    assert missing not in {failure.run for failure in failures}
    json.dumps(outcome.to_mapping(), allow_nan=False)
