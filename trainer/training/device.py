"""The device that a network runs on, and the precision that it computes in."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch

from flowprep.errors import UsageError

log = logging.getLogger(__name__)


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a GPU where there is one.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as exc:
        here = "cpu, cuda" if torch.cuda.is_available() else "cpu; for a GPU, a torch that was built for it"
        raise UsageError(f"--device {name}: {str(exc).splitlines()[0]}; allowed here: auto, {here}") from exc
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """ "float32", "bfloat16" or "float16": that name's; "auto" is what the device computes fast in.

    That is bfloat16 on a GPU that has it, and on a CPU with bfloat16 instructions (AVX-512 BF16, AMX), where
    a step of a ResNet-18 is 1.3 to 1.9 times as fast as in float32; other CPUs emulate it.
    """
    if device.type == "cuda":
        low = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in old torch
        low = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    if name == "auto":
        return "bfloat16" if low else "float32"
    if name == "bfloat16" and not low:
        log.warning("%s has no bfloat16 instructions and emulates them, which is slow", device)
    return name


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Computing in the precision, as pick_precision gives it, where that serves; in float32 elsewhere."""
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
