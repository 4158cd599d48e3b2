"""A network of your own: three convolutions and an average.

    PYTHONPATH=. trainer train pipelines/demo/temporal.toml --set model.name=examples.own_network \\
        --corpus CORPUS --train-list trainlist01.txt --test-list testlist01.txt --out runs/own

A network is a module with `SPEC` and `build`. A recipe names it by its place, "package.module". It needs no
entry in trainer. `trainer.models.registry` describes the contract.

    python examples/own_network.py

prints the network's outputs for one clip.
"""

from __future__ import annotations

import torch
from torch import nn

from trainer import ModelSpec

SPEC = ModelSpec(
    paper="none: an example",
    streams=("spatial", "temporal"),
    min_size=16,
    dense=True,
    first_layer="first",  # reads the input: its number of channels depends on the stream
    last_layers=("last",),  # give the classes: their number depends on the data set
)


class Small(nn.Module):
    """Three 3x3 convolutions of stride 2, the mean over the picture, and a linear layer.

    Args:
        channels: channels of the input: 3 for a frame, 2 L for a stack of L flows.
        classes: number of classes.
        dropout: probability of dropping a unit before the last layer.
        width: channels of the first convolution.
    """

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.features = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(4 * width, classes)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of clips (N, C, H, W)."""
        maps = self.features(self.first(clips))
        return self.last(self.dropout(maps.mean((2, 3))))


def build(in_channels: int, num_classes: int, *, dropout: float, width: int) -> Small:
    """A new network. `width` is 0 if the recipe does not set it."""
    return Small(in_channels, num_classes, dropout, width or 32)


if __name__ == "__main__":
    network = build(20, 5, dropout=0.5, width=0).eval()
    print(f"{sum(p.numel() for p in network.parameters())} parameters")
    print(network(torch.zeros(1, 20, 96, 96)))
