"""The precision that a network is trained in, and the check that its gradients are right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from flowprep.errors import UsageError
from trainer.training import distributed
from trainer.training.device import autocast, pick_precision

log = logging.getLogger(__name__)

# Convolutions and products: what autocast computes in the lower precision.
PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    {
        *(torch.conv1d, torch.conv2d, torch.conv3d),
        *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
        *(F.linear, torch.addmm, torch.bmm, torch.baddbmm, torch.einsum, torch.matmul, torch.mm),
        *(torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm, torch.Tensor.mm),
    }
)
# A relative error. That of bfloat16 is at most .012 in the networks of this package, and that of the wrong
# gradients that were seen is .55 to inf.
TOLERANCE = 0.1


def training_precision(name: str, previous: str, device: torch.device, model: nn.Module) -> str:
    """The precision of a run: "float32", "bfloat16" or "float16".

    Args:
        name: `train.precision` of the recipe.
        previous: the precision of the run so far, or "". A run keeps it, also on a device for which "auto"
            means another one.
        device: where the network runs.
        model: the network. On a CPU, "auto" is float32 for a network of 3D convolutions: the gradients of
            oneDNN 3.12 for them (in PyTorch 2.13) are wrong in bfloat16 where there are two time steps.
    """
    precision = pick_precision(previous or name, device)
    if name != "auto" or precision == "float32" or device.type != "cpu" or not _has_conv3d(model):
        return precision
    if previous:
        log.warning(
            "the run continues in float32: %s may have given wrong gradients of 3D convolutions on a CPU",
            precision,
        )
    return "float32"


def checked_precision(
    name: str, precision: str, device: torch.device, model: nn.Module, inputs: Sequence[torch.Tensor]
) -> str:
    """The precision, or float32 if its gradients are wrong on this CPU.

    The cost is that of two to three passes of the network, once for each run.

    Args:
        name: `train.precision` of the recipe.
        precision: what `training_precision` gave.
        device: where the network runs. GPUs are not checked.
        model: the network in training mode. Its buffers are as before afterwards.
        inputs: its inputs for the first pass of this process, of which there may be several.

    Raises:
        UsageError: the gradients are wrong, and the recipe names the precision.
    """
    if precision == "float32" or device.type != "cpu":
        return precision
    wrong = wrong_products(model, inputs, precision)
    if not distributed.all_reduce_sum(torch.tensor([len(wrong)])):
        return precision
    where = "; ".join(wrong[:3]) or "in another process"
    if name != "auto":
        raise UsageError(
            f"train.precision is {precision!r}, which gives wrong results on this CPU ({where}): set it to "
            "float32 or auto"
        )
    log.warning("%s gives wrong results on this CPU (%s): the run computes in float32", precision, where)
    return "float32"


def wrong_products(model: nn.Module, inputs: Sequence[torch.Tensor], precision: str) -> list[str]:
    """The convolutions and products of a network that are wrong in a precision, each in words.

    Each one is computed in the precision and in float32 with the inputs that it has in the network. Its
    output and its gradients are compared, for a random gradient of the output. So no error adds up over the
    layers.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    comparison = _Comparison(precision, inputs[0].device)
    with torch.no_grad(), comparison:
        model.forward(*inputs)  # not compiled
        for buffer, value in buffers:
            buffer.copy_(value)
    return comparison.wrong


class _Comparison(TorchFunctionMode):
    """While it is active, each convolution and product of new shapes is compared with that in float32."""

    def __init__(self, precision: str, device: torch.device) -> None:
        super().__init__()
        self._precision, self._device = precision, device
        self._seen: set[Any] = set()
        self.wrong: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in PRODUCTS:
            key = (func, *(_signature(value) for value in (*args, *kwargs.values())))
            if key not in self._seen:
                self._seen.add(key)
                self._compare(func, args, kwargs)
        return func(*args, **kwargs)

    def _compare(self, func: Callable[..., torch.Tensor], args: Sequence[Any], kwargs: Any) -> None:
        exact, values = (self._values(func, args, kwargs, p) for p in ("float32", self._precision))
        error = max(_relative_error(a, b) for a, b in zip(values, exact, strict=True))
        if error > TOLERANCE:
            shapes = " and ".join("x".join(map(str, a.shape)) for a in args if isinstance(a, torch.Tensor))
            self.wrong.append(f"{func.__name__} of {shapes}: off by {error:.0%}")

    def _values(
        self, func: Callable[..., torch.Tensor], args: Sequence[Any], kwargs: Any, precision: str
    ) -> list[torch.Tensor]:
        """The output, and the gradients of the arguments for a random gradient of the output."""
        leaves = [a.detach().requires_grad_() if _is_real(a) else a for a in args]
        with torch.enable_grad(), autocast(precision, self._device):
            output = func(*leaves, **kwargs)
        generator = torch.Generator(self._device).manual_seed(0)
        # The same in any layout of the output in memory.
        noise = torch.randn(output.shape, generator=generator, device=self._device)
        noise = torch.empty_like(output).copy_(noise)
        return [output.detach(), *torch.autograd.grad(output, [x for x in leaves if _is_real(x)], noise)]


def _relative_error(value: torch.Tensor, exact: torch.Tensor) -> float:
    error = float((value.float() - exact).norm() / exact.norm().clamp_min(1e-30))
    return error if error == error else float("inf")  # not a number


def _is_real(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _signature(value: Any) -> Any:
    """What decides which code computes with an argument."""
    return (value.shape, value.stride()) if isinstance(value, torch.Tensor) else repr(value)


def _has_conv3d(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv3d) for module in model.modules())
