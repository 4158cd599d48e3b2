"""Clips of a corpus for PyTorch: data sets, a sampler that resumes exactly, and a stream for slow storage."""

from flowprep.torch.datasets import ClipDataset, FlowDataset, collate
from flowprep.torch.sampler import ClipSampler
from flowprep.torch.stream import ClipStream

__all__ = ["ClipDataset", "ClipSampler", "ClipStream", "FlowDataset", "collate"]
