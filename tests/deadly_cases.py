"""Cases whose worker is killed, as the kernel does for memory; imports little, as each process imports it again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from nnunet_volf.preprocessing import preprocess

_PREPROCESS = preprocess._preprocess  # tests put the one below into its place


def mark_deadly(image: Path) -> None:
    """Have whoever preprocesses this image die of it."""
    image.with_suffix(".deadly").touch()


def preprocess_or_die(task: Any) -> Any:
    if task.images[0].with_suffix(".deadly").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return _PREPROCESS(task)


def preprocess_slowly_or_die(task: Any) -> Any:
    time.sleep(0.5)
    return preprocess_or_die(task)
