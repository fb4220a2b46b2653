"""Which tensor of a file belongs where in another network of nnU-Net's.

Stages are counted from the image: encoder stage 2 stays encoder stage 2, whatever the number of stages, and decoder
stages are counted from the output, where nnU-Net counts them from the bottleneck. A plain network's first convolution
and a residual one's stem do the same work; their further encoder stages have nothing in common but the place.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_DECODER = re.compile(r"(decoder\.(?:stages|transpconvs|seg_layers)\.)(\d+)(\..+)")
_STEM, _PLAIN_FIRST = "encoder.stem.convs.0.", "encoder.stages.0.0.convs.0."


def counterparts(source: Collection[str], target: Collection[str]) -> dict[str, str]:
    """Return for each name of the target the name in the source that stands in the same place, where there is one."""
    shift = _decoder_stages(source) - _decoder_stages(target)
    available = set(source)
    pairs = {name: _in_source(name, shift, available) for name in target}
    return {name: counterpart for name, counterpart in pairs.items() if counterpart in available}


def _decoder_stages(names: Collection[str]) -> int:
    matches = (_DECODER.fullmatch(name) for name in names)
    return max((int(match[2]) + 1 for match in matches if match), default=0)


def _in_source(name: str, shift: int, available: set[str]) -> str:
    match = _DECODER.fullmatch(name)
    if match:
        return f"{match[1]}{int(match[2]) + shift}{match[3]}"
    if name in available:
        return name
    for ours, theirs in ((_STEM, _PLAIN_FIRST), (_PLAIN_FIRST, _STEM)):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
