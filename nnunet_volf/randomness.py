"""Where random numbers come from, and how a training remembers them.

Every sample is drawn from a generator of its own, seeded from numpy's global state. nnU-Net's loader workers seed
that state per process, so samples differ between workers; and with a single-process loader the three global states
below are everything a resumed training needs to continue bit for bit.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np


def fresh_rng() -> np.random.Generator:
    """Return a generator seeded from numpy's global state, which advances by one draw."""
    return np.random.default_rng(np.random.randint(0, 2**32, size=4, dtype=np.uint64))  # noqa: NPY002 - see above


def sample_rng(seed: int, index: int, attempt: int = 0) -> np.random.Generator:
    """Return the generator of sample `index` in the fixed series named by `seed`; no global state is touched.

    Each further attempt at the same sample has one of its own.
    """
    return np.random.default_rng([seed, index, attempt] if attempt else [seed, index])


def capture_global_state() -> dict[str, Any]:
    """Return the state of Python's, numpy's and torch's global generators as tensors and plain types."""
    import torch

    version, keys, gauss = random.getstate()
    # In this legacy form, a tuple, whatever its annotation says.
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - the global state
    name, words, position, has_gauss, cached = legacy
    state = {
        "python": [version, list(keys), gauss],
        "numpy": [name, torch.from_numpy(words.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_global_state(state: dict[str, Any]) -> None:
    """Put back what `capture_global_state` returned; CUDA states are skipped where the devices differ in number."""
    import torch

    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    cuda = state.get("cuda", [])
    if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in cuda])
