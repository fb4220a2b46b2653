"""How much larger than a new network's the filters of pretrained weights are, which fine-tuning takes back.

One line for each file: the mean size of a layer's filters as a multiple of the initial one, along the encoder and along
the decoder. Only layers that a normalisation follows are counted, in which size matters for nothing but the speed of
learning (nnunet_volf/filter_sizes.py).

    python benchmarks/filter_growth.py checkpoint_final.pth [more …]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from nnunet_volf.filter_sizes import filter_sizes, normalised_filters
from nnunet_volf.weights.dialects import read_pretrained
from nnunet_volf.weights.names import canonical_name
from nnunet_volf.weights.pretrained import Pretrained
from nnunet_volf.weights.target import build_network
from nnunet_volf.weights.trained import on_encoder_side


def main() -> None:
    """Print how much filters have grown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="CHECKPOINT", help="of nnU-Net or of this package")
    for file in parser.parse_args().files:
        parts = growth(read_pretrained(file))
        print(
            file, *(f"{part}: {', '.join(f'{by:.2f}' for by in layers)}" for part, layers in parts.items()), sep="\n  "
        )


def growth(pretrained: Pretrained) -> dict[str, list[float]]:
    """Return, for encoder and decoder, how many times as large each layer's filters are as they were initially."""
    torch.manual_seed(0)
    network = new_network(pretrained)
    filters = normalised_filters(network)
    initial = filter_sizes(filters)
    own = {name: tensor for name, tensor in network.state_dict().items() if ".seg_layers." not in name}
    network.load_state_dict({name: pretrained.tensors[canonical_name(name)] for name in own}, strict=False)

    names = {id(parameter): canonical_name(name) for name, parameter in network.named_parameters()}
    parts: dict[str, list[float]] = {"encoder": [], "decoder": []}
    for (conv, _), before, now in zip(filters, initial, filter_sizes(filters), strict=True):
        part = "encoder" if on_encoder_side(names[id(conv.weight)]) else "decoder"
        parts[part].append(float(now.mean() / before.mean()))
    return parts


def new_network(pretrained: Pretrained) -> nn.Module:
    """Return a network of the file's architecture as nnU-Net initialises it."""
    if pretrained.architecture is None or pretrained.preparation is None:
        raise SystemExit(f"{pretrained.path} does not say what network it is of. Name a checkpoint of a training.")
    return build_network(pretrained.architecture, len(pretrained.preparation.channels), 2, initialize=True)


if __name__ == "__main__":
    main()
