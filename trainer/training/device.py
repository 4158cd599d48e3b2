"""The device that a network runs on, and the precision that it computes in."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from typing import Any

import torch

from flowprep.errors import UsageError
from flowprep.system.processes import usable_cores

log = logging.getLogger(__name__)

MAX_WORKERS = 16  # threads or processes that load, by default


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" is a GPU if there is one, else the CPU.

    Raises:
        UsageError: the device does not exist, or torch was not built for it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as exc:
        allowed = "auto, cpu, cuda" if torch.cuda.is_available() else "auto, cpu; torch finds no GPU"
        raise UsageError(f"--device {name} does not work here; allowed on this machine: {allowed}") from exc
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """The precision of a name: "float32", "bfloat16" or "float16".

    "auto" is bfloat16 on a device with bfloat16 instructions, else float32. GPUs have these instructions
    from compute capability 8.0 on, CPUs with AVX-512 BF16 or AMX. A step of a ResNet-18 on such a CPU is 1.3
    to 1.9 times as fast as in float32. Other CPUs emulate bfloat16, which is slow and gives a warning.
    """
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        capabilities: dict[str, Any] = getattr(
            torch.cpu, "get_capabilities", dict
        )()  # missing in older versions
        has_bfloat16 = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    if name == "auto":
        return "bfloat16" if has_bfloat16 else "float32"
    if name == "bfloat16" and not has_bfloat16:
        log.warning("%s has no bfloat16 instructions and emulates them, which is slow", device)
    return name


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """A context in which operations that tolerate it compute in the precision, and all others in float32.

    Args:
        precision: as pick_precision returns it.
        device: the device that computes.
    """
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")


def share_cores(device: str, workers: int | None = None) -> int:
    """Divide the CPU cores between computing and loading, and return the number of loading workers.

    If the CPU computes, torch gets all cores but one. The threads of a network wait for each other at every
    layer. If loaders or another program compete for the last core, all of them stand still.

    Args:
        device: as for pick_device.
        workers: the number of threads or processes that load, if the caller has decided it.
    """
    # The share of this process of those that torchrun starts.
    cores = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if pick_device(device).type != "cpu":
        return min(cores, MAX_WORKERS) if workers is None else workers
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores - 1))
    return min(max(1, cores // 2), MAX_WORKERS) if workers is None else workers
