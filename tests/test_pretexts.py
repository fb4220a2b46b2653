"""Every pretext in the catalogue is whole: settings, trainer, page; and what a plan gives to it."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from pretexts import given_for

from nnunet_volf.errors import SettingsError
from nnunet_volf.pretext.catalogue import (
    METHODS,
    Method,
    load_pretext,
    load_settings,
    method_labelled,
    method_of,
)
from nnunet_volf.pretext.given import given_by
from nnunet_volf.pretext.settings import PretrainingSettings


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]


def test_its_settings_are_where_the_catalogue_says(method: Method) -> None:
    kind = load_settings(method)
    assert issubclass(kind, PretrainingSettings)
    assert kind.plans_key == method.plans_key
    assert method_of(kind()) is method


def test_it_knows_its_entry_and_checkpoints_lead_back_to_it(method: Method) -> None:
    assert load_pretext(method).method is method
    assert method_labelled(method.label) is method


def test_its_trainer_names_it_and_nothing_else(method: Method) -> None:
    module = ast.parse((REPOSITORY / "trainers" / f"{method.trainer}.py").read_text())
    [trainer] = [node for node in module.body if isinstance(node, ast.ClassDef)]
    assert [ast.unparse(base) for base in trainer.bases] == ["PretextTraining", "nnUNetTrainer"]
    [_, statement] = trainer.body
    assert ast.unparse(statement) == f"pretext_class = {method.pretext.partition(':')[2]}"


def test_settings_that_it_refuses_to_change_are_settings_of_its_own(method: Method) -> None:
    assert set(load_pretext(method).refused_changes) <= load_settings(method)().to_mapping().keys()


def test_it_has_a_page(method: Method) -> None:
    page = "method.md" if method.name == "volf" else f"{method.name}.md"
    assert (REPOSITORY / "docs" / page).is_file()


def test_names_labels_and_trainers_are_told_apart() -> None:
    for of in ("name", "label", "trainer", "plans_key", "title"):
        assert len({getattr(method, of) for method in METHODS.values()}) == len(METHODS)
    assert method_labelled("fine-tuning") is None
    assert method_labelled(None) is None


def test_settings_of_no_pretext_are_refused() -> None:
    with pytest.raises(SettingsError, match="PretrainingSettings are the settings of no pretext task"):
        method_of(PretrainingSettings())


def test_the_catalogue_and_all_settings_load_no_torch() -> None:
    code = (
        "import sys; from nnunet_volf.pretext.catalogue import METHODS, load_settings; "
        "[load_settings(m) for m in METHODS.values()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_plan_gives_is_read_from_its_configuration() -> None:
    network = {
        "features_per_stage": [4, 8, 16],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    }
    configuration = {
        "architecture": {"arch_kwargs": network},
        "patch_size": [8, 32, 24],
        "spacing": [5.0, 1, 1],
        "batch_size": 3,
        "median_image_size_in_voxels": [20.0, 100.5, 90.0],
    }
    found = given_by(configuration, ["T1", "T2"], "Dataset901_Phantom")
    assert found == given_for(
        (8, 32, 24),
        ("T1", "T2"),
        spacing=(5.0, 1.0, 1.0),
        strides=(2, 4, 4),
        features=(4, 8, 16),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        batch_size=3,
        median_shape=(20, 100, 90),
    )
    assert found.bottleneck == (4, 8, 6)


def test_a_2d_plan_gives_numbers_for_two_axes() -> None:
    configuration = {
        "architecture": {"arch_kwargs": {"features_per_stage": [4, 8], "strides": [1, 2], "kernel_sizes": [3, [3, 3]]}},
        "patch_size": [32, 24],
        "spacing": [1.0, 0.5],
        "batch_size": 12,
        "median_image_size_in_voxels": [64.0, 48.0],
    }
    found = given_by(configuration, ["CT"], "Dataset901_Phantom")
    assert (found.strides, found.kernels, found.spacing) == ((2, 2), ((3, 3), (3, 3)), (1.0, 0.5))
