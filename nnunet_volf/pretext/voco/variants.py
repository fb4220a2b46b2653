"""The versions of VoCo that their author has published, as data: they differ in teacher and losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """What one version of VoCo does."""

    teacher: str  # "none": the student itself; "projector": only that has a teacher; "whole": encoder and projector
    stages: str  # whose features are projected: those of "all" stages of the encoder, or of the "last"
    symmetric: bool  # half the prediction comes from the teacher's targets and the student's bases
    weighted: bool  # a base counts as much as it overlaps; otherwise each that does counts the same
    squared: bool  # what no overlap may score: squared, or with a logarithm
    one_sided: bool  # of two bases that are pushed apart, only one is moved


VARIANTS: Mapping[str, Variant] = {
    "v0": Variant("none", "last", symmetric=False, weighted=False, squared=True, one_sided=False),  # CVPR 2024
    "v1": Variant("whole", "all", symmetric=True, weighted=True, squared=True, one_sided=True),  # 10k CT volumes
    "v2": Variant("projector", "all", symmetric=False, weighted=True, squared=False, one_sided=True),  # 160k, 2025
}
