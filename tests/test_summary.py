"""The summary of a pretraining."""

from __future__ import annotations

import json
import math

from nnunet_volf.pretext.volf.scoring import FusionScores
from nnunet_volf.pretext.volf.settings import VolFSettings
from nnunet_volf.summary import summarize


def test_a_summary_is_json_that_anyone_can_read() -> None:
    scores = FusionScores((0.5, math.nan, 0.25), 0.125, (math.nan, 0.75, math.nan), 0.2, ((1, 2), (3, 4)))
    settings = VolFSettings.from_mapping({"epochs": 3})
    summary = summarize(scores, 0.75, settings, dataset="Dataset501_Archive", epochs=3)
    assert list(summary)[:2] == ["dataset", "epochs"], "what it is about comes first"
    text = json.dumps(summary, allow_nan=False)
    read = json.loads(text)
    assert read["loss"] == 0.75
    assert read["mean_fused_dice"] == 0.25
    assert read["mean_fused_dice_by_chance"] == 0.2
    assert read["dice_per_class"] == [0.5, None, 0.25]
    assert read["ordinal_error"] == 0.125
    assert read["k_taken_for_K_minus_k"] == [None, 0.75, None]
    assert read["confusion_true_by_predicted"] == [[1, 2], [3, 4]]
    assert VolFSettings.from_mapping(read["settings"]) == settings
    assert read["versions"].keys() == {"python", "nnunet-volf", "nnunetv2", "torch"}
