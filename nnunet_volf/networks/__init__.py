"""The networks of the Volume Fusion papers, which plans name as ``nnunet_volf.networks.PCTNet`` and ``…FMUNet``."""

from nnunet_volf.networks.fm_unet import FMUNet
from nnunet_volf.networks.pct_net import PCTNet

__all__ = ["FMUNet", "PCTNet"]
