"""What a user may choose when weights are fitted to a task; known without loading torch."""

from __future__ import annotations

# What is taken over: the whole network but its heads, or the encoder only.
SCOPES = ("all", "encoder")

# How a first layer is fitted to other input channels: see `channels.channel_shares`.
CHANNEL_RULES = ("name", "repeat")

# What becomes of a tensor of the task's network.
CARRIED, ADAPTED, SKIPPED, MISSING, HEAD = "carried", "adapted", "skipped", "missing", "head"
UNTRAINED = "not trained"  # by the pretraining, so there is nothing to take over

# What `weights check` ends with: the file fits as it is, once adapted, or not at all. 2 is an error, as everywhere.
FITS, FITS_ADAPTED, FITS_NOT = 0, 3, 4
