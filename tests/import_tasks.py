"""What a worker of an import does in tests of dying workers; imported by the workers themselves."""

from __future__ import annotations

import os
import signal
from typing import Any

from nnunet_volf.preprocessing.intake import IntakeTask, take_in


def take_in_or_die(task: IntakeTask) -> dict[str, Any]:
    if "deadly" in task.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return take_in(task)
