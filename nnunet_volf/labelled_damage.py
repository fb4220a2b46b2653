"""Which labelled case made nnU-Net's loader fail: every file is read, once it is clear that one is damaged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def damaged_labelled(dataset: Any) -> Iterable[tuple[str, str]]:
    """Yield each case of an nnU-Net dataset that cannot be read, and what is wrong with which of its files."""
    for identifier in dataset.identifiers:
        files = sorted(Path(dataset.source_folder).glob(f"{identifier}.*"))
        files += sorted(Path(dataset.source_folder).glob(f"{identifier}_seg.*"))
        try:
            image, labels, *_ = dataset.load_case(identifier)
        except Exception as error:
            yield identifier, f"one of {', '.join(map(str, files))} cannot be opened ({type(error).__name__}: {error})"
            continue
        for kind, array in (("image", image), ("labels", labels)):
            try:
                np.asarray(array[:])
            except Exception as error:
                named = [str(file) for file in files if ("_seg." in file.name) == (kind == "labels")]
                yield identifier, f"its {kind} in {', '.join(named)} cannot be read ({type(error).__name__}: {error})"
