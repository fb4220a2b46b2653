"""What tests run in processes of their own; imports little, as each process imports it again."""

from __future__ import annotations

import pickle

import numpy as np


def first_targets(loader: bytes) -> np.ndarray:
    """Unpickle a loader, seed as nnU-Net seeds a worker, and return the targets of the first batch."""
    unpickled = pickle.loads(loader)
    np.random.seed(6)  # noqa: NPY002 - nnU-Net seeds its workers so
    return next(unpickled)["target"].numpy()
