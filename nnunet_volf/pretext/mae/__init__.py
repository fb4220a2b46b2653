"""Masked reconstruction: blocks of the image are set to zero, and the whole U-Net fills them in."""
