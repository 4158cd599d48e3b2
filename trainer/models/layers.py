"""What several networks are made of: towers of named layers, full connections over maps, time in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from flowprep.errors import UsageError


class Tower(nn.Module):
    """A network of named layers, so that another network can leave it at any of them and come back in.

    A subclass gives `steps`. All of them work on maps, (N, C, H, W): what comes after the last full
    connection is a map of logits, which is averaged. So a frame that is larger than the network was trained
    on is judged densely, as a fully convolutional network does.
    """

    def steps(self) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
        """The layers by their names, in their order; each takes maps and gives maps."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, after: str = "", until: str = "") -> torch.Tensor:
        """Logits (N, classes); or the maps that a part of the network makes.

        Args:
            x: (N, C, H, W): the input, or maps of the layer `after`.
            after: the layer that has been passed; "" for none.
            until: the layer to stop at, with it; "" goes to the end.
        """
        steps = self.steps()
        names = list(steps)
        first = names.index(after) + 1 if after else 0
        for name in names[first : names.index(until) + 1 if until else None]:
            x = steps[name](x)
        return x if until else x.mean((2, 3))

    def part(self, layer: str, shape: tuple[int, ...]) -> tuple[set[str], str, int]:
        """What lies below a layer and what comes after it, found by running the network (on the meta device).

        Args:
            layer: a name of `steps`.
            shape: of an input.

        Returns:
            Names of the modules that run up to the layer, with it; name of the convolution or full connection
            that runs next, "" for none; and the channels of the layer's maps.

        Raises:
            UsageError: there is no such layer; those that there are are named.
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
    """A fully connected layer over each square of `side` cells: (N, C, H, W) to (N, O, H - side + 1, ...)."""
    if maps.shape[2:] == (side, side):
        return layer(maps.flatten(1))[:, :, None, None]  # type: ignore[no-any-return]
    return F.conv2d(maps, layer.weight.view(layer.out_features, -1, side, side), layer.bias)


def fold(x: torch.Tensor) -> torch.Tensor:
    """Time steps as samples: (N, C, T, H, W) to (N T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold(x: torch.Tensor, steps: int) -> torch.Tensor:
    """The inverse of fold: (N T, C, H, W) to (N, C, T, H, W), T = `steps`."""
    return x.view(-1, steps, *x.shape[1:]).transpose(1, 2)


def average(*logits: torch.Tensor) -> torch.Tensor:
    """The log of the mean of the classifiers' probabilities, (N, classes): its softmax is that mean."""
    probabilities = torch.stack(logits).float().softmax(2).mean(0)
    return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


def initialise(model: nn.Module, *last: nn.Linear) -> None:
    """Weights from which a network learns from scratch: variance kept through ReLU layers, small last ones.

    The papers of this package, where they train from scratch at all, do not give theirs, or give one that
    does not start the deep networks.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in last:
        nn.init.normal_(layer.weight, std=0.01)


def channels_last(value: nn.Module | torch.Tensor) -> Any:
    """A network or an input with channels innermost in memory, which convolutions are fastest in."""
    if isinstance(value, nn.Module):
        for t in (*value.parameters(), *value.buffers()):
            t.data = channels_last(t.data)
        return value
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(value.ndim)
    return value.contiguous(memory_format=layout) if layout else value
