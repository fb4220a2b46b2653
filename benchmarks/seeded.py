"""Have every Python that is started begin with the same random numbers, so that trainings can be compared."""

from __future__ import annotations

import os
from pathlib import Path

# Run by every Python when it starts. torch seeds itself from the clock, and is seeded anew as soon as it is imported;
# importing it here would have each small process load it.
SEEDING = """
import importlib.util, random, sys
import numpy

random.seed(7)
numpy.random.seed(7)

class TorchSeeded:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec("torch")
        load = spec.loader.exec_module

        def load_and_seed(module):
            load(module)
            module.manual_seed(7)

        spec.loader.exec_module = load_and_seed
        return spec

sys.meta_path.insert(0, TorchSeeded)
"""


def seeded(folder: Path) -> dict[str, str]:
    """Return what makes every Python begin with the same random numbers, so that trainings can be compared."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SEEDING)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}
