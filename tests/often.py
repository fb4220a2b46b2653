"""Parameters of a test that takes long: some in every run, the others once a week."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def often(values: Iterable[Any], *kept: Any) -> list[Any]:
    """All values of a parameter; those that are not kept are for the weekly run."""
    return [value if value in kept else pytest.param(value, marks=pytest.mark.weekly) for value in values]
