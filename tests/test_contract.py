"""What we rely on in nnU-Net. When one of these fails after an upgrade, nnU-Net changed and we have to follow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from dynamic_network_architectures.building_blocks.regularization import DropPath
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from nnunetv2.evaluation.evaluate_predictions import (
    compute_metrics,
    key_to_label_or_region,
    label_or_region_to_key,
    region_or_label_to_mask,
)
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from nnunetv2.run import load_pretrained_weights, run_training
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, infer_dataset_class
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.utils import (
    get_filenames_of_train_images_and_targets,
    get_identifiers_from_splitted_dataset_folder,
)

from nnunet_volf.pretext.catalogue import METHODS

# Method of nnUNetTrainer -> its parameters after self, as they were when our override was written.
OVERRIDDEN = {
    "__init__": ("plans", "configuration", "fold", "dataset_json", "device"),
    "_build_loss": (),
    "configure_optimizers": (),
    "do_split": (),
    "get_dataloaders": (),
    "initialize": (),
    "load_checkpoint": ("filename_or_checkpoint",),
    "on_epoch_end": (),
    "on_epoch_start": (),
    "on_train_end": (),
    "on_train_epoch_start": (),
    "on_train_start": (),
    "on_validation_epoch_end": ("val_outputs",),
    "perform_actual_validation": ("save_probabilities",),
    "print_to_log_file": ("args", "also_print_to_console", "add_timestamp"),
    "run_training": (),
    "save_checkpoint": ("filename",),
    "train_step": ("batch",),
    "validation_step": ("batch",),
}

# Function -> parameters that our code passes by name or position.
CALLED: dict[Callable[..., Any], tuple[str, ...]] = {
    nnUNetTrainer._get_deep_supervision_scales: ("self",),
    nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size: ("self",),
    nnUNetTrainer.get_training_transforms: (
        "patch_size", "rotation_for_DA", "deep_supervision_scales", "mirror_axes", "do_dummy_2d_data_aug",
    ),
    nnUNetTrainer.set_deep_supervision_enabled: ("self", "enabled"),
    DefaultPreprocessor._normalize: (
        "self", "data", "seg", "configuration_manager", "foreground_intensity_properties_per_channel",
    ),
    DefaultPreprocessor.run_case: (
        "self", "image_files", "seg_file", "plans_manager", "configuration_manager", "dataset_json",
    ),
    DefaultPreprocessor.run_case_npy: (
        "self", "data", "seg", "properties", "plans_manager", "configuration_manager", "dataset_json",
    ),
    ExperimentPlanner.__init__: (
        "self", "dataset_name_or_id", "gpu_memory_target_in_gb", "preprocessor_name", "plans_name",
        "overwrite_target_spacing",
    ),
    ExperimentPlanner.plan_experiment: ("self",),
    ExperimentPlanner.generate_data_identifier: ("self", "configuration_name"),
    ExperimentPlanner.get_plans_for_configuration: ("self", "spacing"),
    ExperimentPlanner.static_estimate_VRAM_usage: (
        "patch_size", "input_channels", "output_channels", "arch_class_name", "arch_kwargs", "arch_kwargs_req_import",
    ),
    DropPath.__init__: ("self", "drop_prob"),
    InitWeights_He.__init__: ("self", "neg_slope"),
    get_identifiers_from_splitted_dataset_folder: ("folder", "file_ending"),
    nnUNetPredictor.__init__: (
        "self", "tile_step_size", "use_gaussian", "use_mirroring", "perform_everything_on_device", "device",
    ),
    nnUNetPredictor.manual_initialization: (
        "self", "network", "plans_manager", "configuration_manager", "parameters", "dataset_json", "trainer_name",
        "inference_allowed_mirroring_axes",
    ),
    nnUNetPredictor.predict_sliding_window_return_logits: ("self", "input_image"),
    comp_blosc2_params: ("image_size", "patch_size", "bytes_per_pixel"),
    compute_metrics: (
        "reference_file", "prediction_file", "image_reader_writer", "labels_or_regions", "ignore_label",
    ),
    compute_new_shape: ("old_shape", "old_spacing", "new_spacing"),
    crop_to_nonzero: ("data", "seg"),
    determine_do_sep_z_and_axis: (
        "force_separate_z", "current_spacing", "new_spacing", "separate_z_anisotropy_threshold",
    ),
    resample_data_or_seg_to_shape: (
        "data", "new_shape", "current_spacing", "new_spacing", "is_seg", "order", "order_z", "force_separate_z",
        "separate_z_anisotropy_threshold",
    ),
    export_prediction_from_logits: (
        "predicted_array_or_file", "properties_dict", "configuration_manager", "plans_manager",
        "dataset_json_dict_or_file", "output_file_truncated", "save_probabilities",
    ),
    generate_crossval_split: ("train_identifiers", "seed", "n_splits"),
    get_filenames_of_train_images_and_targets: ("raw_dataset_folder", "dataset_json"),
    get_allowed_n_proc_DA: (),
    get_network_from_plans: (
        "arch_class_name", "arch_kwargs", "arch_kwargs_req_import", "input_channels", "output_channels", "allow_init",
        "deep_supervision",
    ),
    key_to_label_or_region: ("key",),
    label_or_region_to_key: ("label_or_region",),
    recursive_find_python_class: ("folder", "class_name", "current_module"),
    PolyLRScheduler.__init__: ("self", "optimizer", "initial_lr", "max_steps"),
    infer_dataset_class: ("folder",),
    load_pretrained_weights.load_pretrained_weights: ("network", "fname"),
    recursive_find_trainer_class_by_name: ("trainer_name",),
    region_or_label_to_mask: ("segmentation", "region_or_label"),
    run_training.get_trainer_from_args: (
        "dataset_name_or_id", "configuration", "fold", "trainer_name", "plans_identifier", "continue_training",
    ),
    run_training.maybe_load_checkpoint: ("nnunet_trainer", "continue_training", "validation_only"),
}  # fmt: skip


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


TRAINERS = (*(method.trainer for method in METHODS.values()), "nnUNetTrainerVolFFineTune")


def our_trainer(name: str) -> type:
    trainer: type = recursive_find_trainer_class_by_name(name)
    return trainer


def test_the_table_lists_exactly_the_methods_that_we_override() -> None:
    classes = {cls for name in TRAINERS for cls in our_trainer(name).__mro__}
    ours = [cls for cls in classes if cls.__name__ in (*TRAINERS, "OutputFolder", "DurableTraining", "PretextTraining")]
    names = {name for cls in ours for name in vars(cls) if callable(getattr(cls, name))}
    inherited = {name for name in names if name in vars(nnUNetTrainer)}
    assert inherited == OVERRIDDEN.keys()


@pytest.mark.parametrize("name", sorted(OVERRIDDEN))
def test_an_overridden_method_still_has_the_signature_that_we_override(name: str) -> None:
    upstream = parameters(getattr(nnUNetTrainer, name))[1:]
    assert upstream == OVERRIDDEN[name], (
        f"nnU-Net changed nnUNetTrainer.{name}: it takes {upstream}, and our override was written for "
        f"{OVERRIDDEN[name]}. Read what changed, follow it in nnunet_volf/durable.py, pretraining.py and trainers/, "
        "then change this table."
    )


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("name", sorted(OVERRIDDEN))
def test_our_override_takes_the_same_parameters(trainer: str, name: str) -> None:
    assert parameters(getattr(our_trainer(trainer), name))[1:] == OVERRIDDEN[name]


@pytest.mark.parametrize("function", CALLED, ids=lambda f: f.__qualname__)
def test_a_function_that_we_call_still_takes_what_we_pass(function: Callable[..., Any]) -> None:
    there = parameters(function)
    assert there[: len(CALLED[function])] == CALLED[function], (
        f"nnU-Net changed {function.__qualname__}: its parameters are {there}, we pass {CALLED[function]}."
    )


def test_the_schedule_is_still_in_the_attributes_that_a_benchmark_sets() -> None:
    source = inspect.getsource(nnUNetTrainer)
    names = (
        "num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "initial_lr",
        "disable_checkpointing", "inference_allowed_mirroring_axes", "preprocessed_dataset_folder_base",
    )  # fmt: skip
    for name in names:
        assert f"self.{name} =" in source, f"nnU-Net's trainer no longer has {name}, which a benchmark relies on."
    assert "tr_keys, val_keys = self.do_split()" in source
    assert "self.logger.log('mean_fg_dice', mean_fg_dice, self.current_epoch)" in source


def test_planners_still_measure_memory_as_our_networks_do() -> None:
    source = inspect.getsource(ExperimentPlanner)
    assert "self.static_estimate_VRAM_usage(patch_size" in source, "the estimate is no longer asked of the planner"
    assert "net.compute_conv_feature_map_size(patch_size)" in source
    for name in ("UNet_reference_val_3d", "UNet_reference_val_2d", "UNet_reference_val_corresp_GB"):
        assert f"self.{name} =" in source, f"nnU-Net's planner no longer has {name}, which plans with our networks set."


def test_the_losses_still_have_the_switches_that_we_set() -> None:
    dice = MemoryEfficientSoftDiceLoss(batch_dice=False, do_bg=False)
    assert dice.do_bg is False
    assert dice.batch_dice is False
    assert DeepSupervisionWrapper(dice, [1.0]).loss is dice


def test_base_saves_what_a_file_object_can_hold_and_reads_the_latest_checkpoint_names() -> None:
    save, load = (inspect.getsource(f) for f in (nnUNetTrainer.save_checkpoint, run_training.maybe_load_checkpoint))
    assert "torch.save(checkpoint, filename)" in save, "save_checkpoint is given a buffer in place of a file name"
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"):
        assert name in load
