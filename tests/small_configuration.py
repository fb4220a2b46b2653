"""The configuration of a plan with a network small enough to be built in each test."""

from __future__ import annotations

from typing import Any

CONFIGURATION: dict[str, Any] = {
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": "torch.nn.Conv3d",
            "kernel_sizes": [[3] * 3] * 3,
            "strides": [[1] * 3, [2] * 3, [2] * 3],
            "n_conv_per_stage": [1] * 3,
            "n_conv_per_stage_decoder": [1] * 2,
            "conv_bias": True,
            "norm_op": "torch.nn.InstanceNorm3d",
            "norm_op_kwargs": {"affine": True},
            "nonlin": "torch.nn.LeakyReLU",
        },
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
    }
}
