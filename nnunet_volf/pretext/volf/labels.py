"""The fusion classes as labels."""

from __future__ import annotations


def fusion_labels(coefficients: int) -> dict[str, int]:
    """Return names for the classes 0 ... K; class k is fused with coefficient k / K."""
    return {"background": 0, **{f"fused_{k}_of_{coefficients}": k for k in range(1, coefficients + 1)}}
