"""Which parts of a network its pretraining trained: some methods leave the decoder as it was initialised.

Such a file holds all tensors all the same, since nnU-Net's ``-pretrained_weights`` asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence

ENCODER, DECODER = "encoder", "decoder"

# Features pass a context block between the two, so whatever trains the encoder trains it too.
CONTEXT = "context"

_PARTS = (ENCODER, DECODER)


def parts_in(stated: Sequence[str]) -> tuple[str, ...]:
    """Return those parts of a network that a file says were trained; none where it says nothing that makes sense."""
    return tuple(part for part in _PARTS if part in stated)


def was_trained(name: str, trained: Sequence[str]) -> bool:
    """Say whether a tensor was trained; a file that does not say what was has had all of it trained."""
    part = name.split(".")[0]
    return not trained or part in trained or part not in _PARTS


def encoder_only(trained: Sequence[str]) -> bool:
    """Say whether the decoder is as it was initialised."""
    return ENCODER in trained and DECODER not in trained


def on_encoder_side(name: str) -> bool:
    """Say whether a tensor belongs to what makes features of images, and not to what makes something of them."""
    return name.split(".")[0] in (ENCODER, CONTEXT)


def is_context(name: str) -> bool:
    """Say whether a tensor belongs to a context block."""
    return name.split(".")[0] == CONTEXT


def say_trained(trained: Sequence[str]) -> str:
    """Say which parts were trained, and which are as they were initialised; nothing where a file does not say."""
    if not trained:
        return ""
    untrained = [part for part in _PARTS if part not in trained]
    said = " and ".join(trained)
    return f"{said}; {' and '.join(untrained)} as initialised" if untrained else said
