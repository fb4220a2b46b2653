"""The adaptation plan with which nnU-Net's own route for pretrained encoders takes a file of ours.

That route (``nnUNetv2_preprocess_like_nnssl``, ``nnUNetv2_train_pretrained``) is on nnU-Net's master and not in release
2.8.1. The layout is what its ``like_nnssl`` and ``pretrainedTrainer`` read, plus what nnssl's own ``Plan`` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_volf.durable import STATE_KEY
from nnunet_volf.errors import WeightsError
from nnunet_volf.pretext.catalogue import method_labelled
from nnunet_volf.weights.architectures import is_ours, without_context
from nnunet_volf.weights.citations import NNUNET, citations_of
from nnunet_volf.weights.dialects.nnssl import PLAN_KEY
from nnunet_volf.weights.portable import Portable
from nnunet_volf.weights.target import Task, build_network
from nnunet_volf.weights.trained import encoder_only

ADAPTATION_PLAN = "adaptation_plan.json"  # where that route looks for it in a repository on Hugging Face

_KEYS = ("key_to_encoder", "key_to_stem", "keys_to_in_proj")


def with_adaptation_plan(portable: Portable) -> dict[str, Any]:
    """Return the checkpoint that goes out, with an adaptation plan and papers to cite."""
    method = method_labelled(portable.checkpoint.get(STATE_KEY, {}).get("method"))
    citations = [{"type": "Framework", "name": "nnU-Net", "apa_citations": [NNUNET]}]
    if method is not None:
        papers = list(citations_of(method.label))
        citations.insert(0, {"type": "Pretraining method", "name": method.title, "apa_citations": papers})
    plan = adaptation_plan(portable.task, portable.plans)
    return {**portable.checkpoint, PLAN_KEY: plan, "citations": citations}


def adaptation_plan(task: Task, plans: Mapping[str, Any]) -> dict[str, Any]:
    """Return what nnU-Net needs to know to build this network again, find its encoder and prepare images for it."""
    if len(task.preparation.patch) != 3:
        raise WeightsError(
            f"{task.configuration} is two-dimensional, and nnU-Net's route for pretrained encoders is for 3d_fullres "
            "only. Export without --nnssl; nnUNetv2_train -pretrained_weights takes such a file."
        )
    configuration = PlansManager(dict(plans)).get_configuration(task.configuration).configuration
    return {
        "architecture_plans": {
            "arch_class_name": task.architecture.class_name,
            "arch_kwargs": dict(task.architecture.arguments),
            "arch_kwargs_requiring_import": list(task.architecture.needs_import),
        },
        "pretrain_plan": _pretrain_plan(task, plans, configuration),
        "pretrain_num_input_channels": len(task.preparation.channels),
        "recommended_downstream_patchsize": list(task.preparation.patch),
        **_keys(task),
    }


def warnings(task: Task, plans: Mapping[str, Any], trained: Sequence[str] = ()) -> tuple[str, ...]:
    """Say what that route does differently from ``-pretrained_weights``, where it matters for these weights."""
    said = []
    if not encoder_only(trained):
        said.append(
            "That route takes the encoder only; the decoder starts anew. 'nnUNetv2_train -pretrained_weights' with the "
            "same file takes both."
        )
    schemes, channels = task.preparation.normalization, len(task.preparation.channels)
    if is_ours(task.architecture):
        said.append(
            f"The network is {task.architecture.class_name}: that route, too, needs nnunet-volf installed beside it."
        )
    others = sorted(set(schemes) - {"ZScoreNormalization"})
    if others:
        said.append(
            f"That route normalises every channel by ZScoreNormalization, and these weights were trained with "
            f"{', '.join(others)}: they will see other intensities than they know."
        )
    own_stem = not without_context(task.architecture).class_name.endswith("PlainConvUNet")
    if channels > 1 or not own_stem:
        reason = "" if own_stem else " of a plain network"
        said.append(
            f"That route cannot change the number of channels{reason}: the new dataset must have {channels}. "
            "For another number: nnunet-volf weights adapt."
        )
    if _turned(task, plans):
        said.append(
            f"The axes were reordered ({plans['transpose_forward']}) before the spacing was made "
            f"{_sides(task.preparation.spacing)} mm, which that route does not know: it is told no spacing, so the new "
            "dataset keeps its own."
        )
    return tuple(said)


def _pretrain_plan(task: Task, plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    spacing = list(task.preparation.spacing)
    return {
        "dataset_name": task.dataset,
        "plans_name": task.plans_name,
        "original_median_spacing_after_transp": plans["original_median_spacing_after_transp"],
        "image_reader_writer": plans["image_reader_writer"],
        "transpose_forward": plans["transpose_forward"],
        "transpose_backward": plans["transpose_backward"],
        "configurations": {
            task.configuration: {
                "data_identifier": configuration["data_identifier"],
                "preprocessor_name": configuration["preprocessor_name"],
                "spacing_style": "median",
                "normalization_schemes": list(task.preparation.normalization),
                "use_mask_for_norm": list(configuration["use_mask_for_norm"]),
                "resampling_fn_data": configuration["resampling_fn_data"],
                "resampling_fn_data_kwargs": dict(configuration["resampling_fn_data_kwargs"]),
                "resampling_fn_mask": configuration["resampling_fn_seg"],
                "resampling_fn_mask_kwargs": dict(configuration["resampling_fn_seg_kwargs"]),
                "spacing": None if _turned(task, plans) else spacing,
                "patch_size": list(task.preparation.patch),
            }
        },
        "experiment_planner_used": plans["experiment_planner_used"],
    }


def _keys(task: Task) -> dict[str, Any]:
    """Return where a network has its encoder; its class says so itself."""
    inputs = len(task.preparation.channels) + task.segmentation_inputs
    with torch.device("meta"):
        network = build_network(task.architecture, inputs, task.heads, initialize=False)
    missing = [key for key in _KEYS if not hasattr(network, key)]
    if missing:
        raise WeightsError(
            f"{task.architecture.class_name} does not say where its encoder is (no {', '.join(missing)}), so nnU-Net's "
            "route for pretrained encoders cannot take it. Export without --nnssl."
        )
    plain = {key: getattr(network, key) for key in _KEYS}
    learnt_places = getattr(network, "key_to_lpe", None)  # of transformers that have such embeddings
    return {**plain, "keys_to_in_proj": list(plain["keys_to_in_proj"]), "key_to_lpe": learnt_places}


def _turned(task: Task, plans: Mapping[str, Any]) -> bool:
    """Say whether the spacing is another one in the order of axes that a new dataset will have."""
    return plans["transpose_forward"] != [0, 1, 2] and len(set(task.preparation.spacing)) > 1


def _sides(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{side:g}" for side in spacing)
