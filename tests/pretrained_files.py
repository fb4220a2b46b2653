"""Files of weights as others write them, small and made by hand: what the tests of weights share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# A small ResidualEncoderUNet, described as nnU-Net's plans do.
ARCHITECTURE: dict[str, Any] = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_blocks_per_stage": [1, 2, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}


def network(inputs: int = 1, heads: int = 2, seed: int = 3) -> nn.Module:
    """Build the network, every parameter different from its initial value, so that a mix-up shows."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        arguments = copy.deepcopy(ARCHITECTURE["arch_kwargs"])
        needs = ARCHITECTURE["_kw_requires_import"]
        made: nn.Module = get_network_from_plans(ARCHITECTURE["network_class_name"], arguments, needs, inputs, heads)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(torch.randn_like(parameter) / 10)
    return made


def adaptation_plan(**changes: Any) -> dict[str, Any]:
    """Return what nnssl's trainers write about themselves."""
    plan = {
        "architecture_plans": {
            "arch_class_name": "ResidualEncoderUNet",
            "arch_kwargs": copy.deepcopy(ARCHITECTURE["arch_kwargs"]),
            "arch_kwargs_requiring_import": ["conv_op", "norm_op", "nonlin"],
        },
        "pretrain_plan": {
            "dataset_name": "Dataset745_OpenMind",
            "plans_name": "nnsslPlans",
            "configurations": {
                "onemmiso": {
                    "normalization_schemes": ["ZScoreNormalization"],
                    "spacing": [1, 1, 1],
                    "patch_size": [160, 160, 160],
                }
            },
        },
        "pretrain_num_input_channels": 1,
        "recommended_downstream_patchsize": [160, 160, 160],
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
        "key_to_lpe": None,
    }
    return {**plan, **changes}


def nnssl_file(path: Path, weights: dict[str, torch.Tensor], **changes: Any) -> Path:
    """Write a checkpoint as nnssl does."""
    content = {
        "network_weights": weights,
        "trainer_name": "VolumeFusionTrainer",
        "current_epoch": 1000,
        "nnssl_adaptation_plan": adaptation_plan(**changes),
        "citations": [
            {"type": "Architecture", "name": "ResEnc-L", "apa_citations": ["Isensee et al. (2024)."]},
            {"type": "Method", "name": "VF", "bibtex_citations": ["@article{wang2023}"]},
        ],
    }
    torch.save(content, path)
    return path


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def unique_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return each parameter once, under the first of its names that is not the decoder's view of the encoder."""
    return {name: value.detach() for name, value in model.named_parameters()}


def equal(tensors: Any, expected: dict[str, Tensor]) -> bool:
    return tensors.keys() == expected.keys() and all(torch.equal(tensors[name], expected[name]) for name in expected)
