"""Building blocks of several networks: towers of named layers, dense classification, folding of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from flowprep.errors import UsageError


class Tower(nn.Module):
    """A chain of named layers that can be run in parts, from one layer to another.

    A subclass defines `steps`. Every layer maps (N, C, H, W) to (N, C', H', W'); the last one gives a map of
    logits, whose mean is the output. A frame larger than the network was trained on is therefore classified
    densely, as by a fully convolutional network.
    """

    def steps(self) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
        """The layers by name, in their order. Each is a function from maps to maps."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, after: str = "", until: str = "") -> torch.Tensor:
        """Run the layers after `after` up to and including `until`.

        Args:
            x: (N, C, H, W), the input of the network, or the output of the layer `after`.
            after: The layer whose output `x` is. "" starts at the input.
            until: The last layer to run. "" runs to the end.

        Returns:
            The maps of the layer `until`; or logits (N, classes), if `until` is "".
        """
        steps = self.steps()
        names = list(steps)
        first = names.index(after) + 1 if after else 0
        for name in names[first : names.index(until) + 1 if until else None]:
            x = steps[name](x)
        return x if until else x.mean((2, 3))

    def part(self, layer: str, shape: tuple[int, ...]) -> tuple[set[str], str, int]:
        """Find the modules before and after a layer by a run on the meta device.

        Args:
            layer: A name in `steps`.
            shape: Shape of an input.

        Returns:
            Names of the modules that run up to and including the layer; name of the convolution or fully
            connected layer that runs next, "" if there is none; number of channels of the layer's maps.

        Raises:
            UsageError: There is no such layer.
        """
        if layer not in self.steps():
            raise UsageError(f"layer is {layer!r}; allowed: {', '.join(self.steps())}")
        seen: list[tuple[str, nn.Module]] = []
        hooks = [
            module.register_forward_pre_hook(lambda m, _x, name=name: seen.append((name, m)))
            for name, module in self.named_modules()
        ]
        maps = self(torch.empty(shape, device="meta"), until=layer)
        below = {name for name, _ in seen}
        seen.clear()
        self(maps, after=layer)
        for hook in hooks:
            hook.remove()
        after = [name for name, module in seen if isinstance(module, (nn.Conv2d, nn.Linear))]
        return below, next(iter(after), ""), maps.shape[1]


def full(layer: nn.Linear, maps: torch.Tensor, side: int = 1) -> torch.Tensor:
    """A fully connected layer as a convolution over squares of side x side cells.

    Args:
        layer: From C side^2 inputs to O outputs.
        maps: (N, C, H, W).
        side: Side of the square in cells.

    Returns:
        (N, O, H - side + 1, W - side + 1).
    """
    if maps.shape[2:] == (side, side):
        return layer(maps.flatten(1))[:, :, None, None]  # type: ignore[no-any-return]
    return F.conv2d(maps, layer.weight.view(layer.out_features, -1, side, side), layer.bias)


def fold(x: torch.Tensor) -> torch.Tensor:
    """Turn time steps into samples: (N, C, T, H, W) to (N T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold(x: torch.Tensor, steps: int) -> torch.Tensor:
    """Turn samples into time steps, the inverse of `fold`: (N T, C, H, W) to (N, C, T, H, W), T = `steps`."""
    return x.view(-1, steps, *x.shape[1:]).transpose(1, 2)


def average(*logits: torch.Tensor, of: str = "softmax") -> torch.Tensor:
    """The prediction of several classifiers, as logits (N, classes).

    Args:
        logits: (N, classes) of each classifier.
        of: "logits" gives their mean, "softmax" gives logits whose softmax is the mean of all softmax.
    """
    if of == "logits":
        return torch.stack(logits).float().mean(0)
    probabilities = torch.stack(logits).float().softmax(2).mean(0)
    return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


def initialise(model: nn.Module, *last: nn.Linear) -> None:
    """Initialise a network that learns from scratch.

    Weights are drawn from a normal distribution that keeps the variance through ReLU layers (He et al. 2015,
    arXiv 1502.01852). Those of the layers in `last` have a standard deviation of 0.01. The papers give no
    initialisation, or one from which deep networks do not learn.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in last:
        nn.init.normal_(layer.weight, std=0.01)


def channels_last(value: nn.Module | torch.Tensor) -> Any:
    """Put the channels of a network or an input innermost in memory, which speeds up convolutions."""
    if isinstance(value, nn.Module):
        for t in (*value.parameters(), *value.buffers()):
            t.data = channels_last(t.data)
        return value
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(value.ndim)
    return value.contiguous(memory_format=layout) if layout else value
