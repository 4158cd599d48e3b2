"""A training loop in plain PyTorch: codes become flow on the device, and an interruption loses nothing.

    python examples/train_with_clips.py CORPUS [EPOCHS]

The second run continues from clips.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from flowprep.torch import ClipDataset, ClipSampler, collate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHECKPOINT = Path("clips.pt")


def make_network(pairs: int, classes: int) -> nn.Module:
    """A small network for stacks of flow."""
    return nn.Sequential(
        *(nn.Conv2d(2 * pairs, 32, 5, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)),
    )


def main(folder: str, epochs: str = "2") -> None:
    """Train, and print the loss of each epoch."""
    torch.manual_seed(0)
    clips = ClipDataset(folder, length=5, content="codes", crop=40, random=True, mirror=True)
    sampler = ClipSampler(clips)
    loader = DataLoader(clips, batch_size=4, sampler=sampler, collate_fn=collate, num_workers=1)
    network = make_network(5, len(clips.classes)).to(DEVICE)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    if CHECKPOINT.exists():
        saved = torch.load(CHECKPOINT, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        sampler.load_state_dict(saved["sampler"])
    for epoch in range(sampler.epoch, int(epochs)):
        losses = []
        for batch in loader:
            codes, scale, zero_point = (batch[name].to(DEVICE) for name in ("codes", "scale", "zero_point"))
            flow = (codes - zero_point[..., None, None]) * scale[..., None, None]
            loss = nn.functional.cross_entropy(network(flow.flatten(1, 2)), batch["label"].to(DEVICE))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}")
        states = {"network": network, "optimiser": optimiser, "sampler": sampler}
        torch.save({name: value.state_dict() for name, value in states.items()}, CHECKPOINT)


if __name__ == "__main__":
    main(*sys.argv[1:])
