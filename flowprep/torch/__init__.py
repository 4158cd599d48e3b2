"""Clips of a corpus for PyTorch: data sets, a sampler and a loader that resume exactly, a stream."""

from flowprep.torch.datasets import ClipDataset, FlowDataset, collate
from flowprep.torch.sampler import ClipLoader, ClipSampler
from flowprep.torch.stream import ClipStream

__all__ = ["ClipDataset", "ClipLoader", "ClipSampler", "ClipStream", "FlowDataset", "collate"]
