"""Stacks of flow for PyTorch, from a corpus: batches to train on, and views to test with.

python examples/torch_dataset.py CORPUS
"""

from __future__ import annotations

import sys

from torch.utils.data import DataLoader

from flowprep.torch import ClipSampler, FlowDataset, collate


def main(folder: str, crop: str = "96") -> None:
    """Print the shapes of the batches, and the classes of their clips."""
    train = FlowDataset(folder, length=10, crop=int(crop), random=True, mirror=True, subtract_mean=True)
    sampler = ClipSampler(train)
    for _ in range(2):
        print(f"epoch {sampler.epoch}")
        for stacks, labels in DataLoader(train, batch_size=4, sampler=sampler, collate_fn=collate):
            print(tuple(stacks.shape), [train.classes[i] for i in labels.tolist()])
    test = FlowDataset(folder, length=10, crop=int(crop), crops=10, segments=3, classes=train.classes)
    views, label = test[0]
    print(f"{tuple(views.shape)}: 10 crops of 3 stacks of {test.classes[label]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
