"""A data set for PyTorch: stacks of flows with random crops, from a corpus.

    python examples/torch_dataset.py CORPUS

`trainer` has its own loader with the rules of the 2014 paper. This one shows the smallest useful form.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import flowprep


class FlowStacks(Dataset[tuple[torch.Tensor, int]]):
    """One stack of flows and the class of each video that is long enough.

    A corpus can be passed to worker processes: each process opens the shards for itself.

    Args:
        corpus: the corpus.
        stack: L, the number of flows in a stack.
        crop: side of the square crop, in pixels.
    """

    def __init__(self, corpus: flowprep.Corpus, stack: int = 10, crop: int = 96) -> None:
        self.corpus, self.stack, self.crop = corpus, stack, crop
        self.ids = [video.id for video in corpus.values() if video.num_pairs >= stack]
        self.classes = sorted({corpus.labels[video_id] for video_id in self.ids})

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """A stack (2 L, crop, crop) float32 in pixels, and the number of its class."""
        video = self.corpus[self.ids[index]]
        rng = np.random.default_rng(torch.randint(2**31, ()).item())
        start = int(rng.integers(video.num_pairs - self.stack + 1))
        top = int(rng.integers(video.height - self.crop + 1))
        left = int(rng.integers(video.width - self.crop + 1))
        flow = video.flow(start, self.stack, window=(top, left, self.crop, self.crop))
        flow -= flow.mean(axis=(2, 3), keepdims=True)  # the mean of each displacement field
        return torch.from_numpy(flow).flatten(0, 1), self.classes.index(video.label)


def main(folder: str, crop: str = "96") -> None:
    """Print the shapes of the batches."""
    stacks = FlowStacks(flowprep.open_corpus(folder), crop=int(crop))
    for batch, labels in DataLoader(stacks, batch_size=4, shuffle=True):
        print(tuple(batch.shape), [stacks.classes[i] for i in labels.tolist()])


if __name__ == "__main__":
    main(*sys.argv[1:])
