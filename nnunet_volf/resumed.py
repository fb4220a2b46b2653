"""What has changed between a checkpoint and the training that goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Changes = dict[str, tuple[Any, Any]]


def setting_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """Return the settings that both know and that differ, with their old and new value."""
    return {name: (old, now[name]) for name, old in before.items() if name in now and now[name] != old}


def describe_changes(changes: Changes) -> str:
    """Return changes as one line."""
    return ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changes.items())
