"""Several processes that train or evaluate together, each on its own device, as torchrun starts them.

    torchrun --nproc-per-node 2 --no-python trainer train ...

Without torchrun there is one process, and the functions of this module do nothing.
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
    """Number of this process, from 0. Process 0 writes the files and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum of the tensors of all processes; `value` is overwritten with it."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def broadcast_buffers(model: torch.nn.Module) -> None:
    """Copy the buffers of process 0 to all processes."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def barrier() -> None:
    """Wait until all processes have called this function."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the other processes if torchrun started this one.

    Args:
        device: as the user named it. "auto" and "cuda" mean the GPU with the local number of this process.

    Yields:
        The name of this process's device.

    Raises:
        UsageError: the device has a number, and several processes cannot share one device.
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
    # Skipped after an error: other processes may be waiting for this one, and torchrun ends them.
    barrier()
    gc.collect()  # networks in reference cycles hold the group, whose threads must not outlive it
    dist.destroy_process_group()


def microbatches(batch: int, max_samples: int) -> list[np.ndarray]:
    """Divide a batch into parts of similar size, each of which passes through the network at once.

    Process k computes the parts k, k + world_size(), ... . Every process has a part. The step is always that
    of the whole batch.

    Args:
        batch: samples of a step.
        max_samples: greatest number of samples in a part; 0 is the whole share of a process.

    Returns:
        Numbers of the samples of each part.

    Raises:
        UsageError: there are more processes than samples.
    """
    if batch < world_size():
        raise UsageError(f"train.batch is {batch} and there are {world_size()} processes: start fewer")
    passes = -(-batch // (world_size() * (max_samples or batch)))
    return np.array_split(np.arange(batch), min(batch, passes * world_size()))
