"""Several processes that train or judge together, one device each, as torchrun starts them; one without it.

torchrun --nproc-per-node 2 --no-python trainer train ...
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist

from flowprep.errors import UsageError


def rank() -> int:
    """Number of this process, from 0; the first one writes and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum of the processes' tensors, which all get; it is written into `value`."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def broadcast_buffers(model: torch.nn.Module) -> None:
    """Give all processes the first one's buffers: each has its own statistics of batch normalisation."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def barrier() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Meet the other processes, if torchrun started this one; gives the name of this one's device.

    Args:
        device: as the user named it. "auto" and "cuda" are the GPU of this process's number on its machine.

    Raises:
        UsageError: a device with a number, which several processes cannot share.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield device
        return
    if ":" in device:
        raise UsageError(f"--device {device}: under torchrun each process has its own; write --device cuda")
    if cuda := device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    yield device
    # Not where an error passes through: the others may be waiting for this one, and torchrun ends them.
    barrier()
    gc.collect()  # networks in cycles hold the group, whose threads must not outlive it
    dist.destroy_process_group()


def microbatches(batch: int, max_samples: int) -> list[np.ndarray]:
    """What of a batch goes through the networks at once: parts of like sizes, for each process one at least.

    Parts k, k + world_size(), ... are those of process k. However the batch is divided, the step is that of
    the whole batch.

    Args:
        batch: samples of a step.
        max_samples: samples that a process takes at once; 0 takes its share whole.

    Returns:
        Numbers of the samples of each part.

    Raises:
        UsageError: there are more processes than samples.
    """
    if batch < world_size():
        raise UsageError(f"train.batch is {batch} and there are {world_size()} processes: start fewer")
    passes = -(-batch // (world_size() * (max_samples or batch)))
    return np.array_split(np.arange(batch), min(batch, passes * world_size()))
