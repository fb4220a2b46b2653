"""The summary of a finished pretraining: what was done, how well, and by which versions."""

from __future__ import annotations

from typing import Any

from nnunet_volf.pretext.pretext import Scores
from nnunet_volf.provenance import versions
from nnunet_volf.setting_rules import Settings


def summarize(scores: Scores, loss: float, settings: Settings, **about: Any) -> dict[str, Any]:
    """Return scores, settings and versions as plain data; `about` comes first."""
    return {**about, "loss": loss, **scores.to_mapping(), "settings": settings.to_mapping(), "versions": versions()}
