"""The cost of a network, and the table of all networks of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.models.registry import MODELS, build, find_module


@dataclass(frozen=True)
class ModelSummary:
    """A published network in plain types.

    Attributes:
        name: Name in the registry.
        summary: One paragraph on the network.
        paper: Authors, year, title and address of the paper.
        crop: Side of the crop in pixels, as text; "from 32" allows any side from 32.
        inputs: Shape of one clip as text, by stream ("both" for a joint network).
        parameters: Number of parameters, by stream.
        multiply_adds: Multiply-adds of one clip, by stream.
        options: Allowed values of each option, the default first. "..." stands for further values.
        published: Published accuracy in percent, by a short description.
    """

    name: str
    summary: str
    paper: str
    crop: str
    inputs: dict[str, str]
    parameters: dict[str, int]
    multiply_adds: dict[str, int]
    options: dict[str, list[Any]]
    published: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The object that `trainer models --json` prints."""
        return asdict(self)


def describe_models(num_classes: int = 101) -> list[ModelSummary]:
    """A summary of every network of the registry, with this number of classes."""
    return [describe_model(name, num_classes) for name in MODELS]


@cache
def describe_model(name: str, num_classes: int = 101) -> ModelSummary:
    """The summary of one network.

    Raises:
        UsageError: There is no such network.
    """
    definition = find_module(name)
    spec = definition.SPEC
    shapes = {"both": spec.shapes()} if spec.joint else {s: spec.shapes(s) for s in spec.streams}
    costs = {stream: _published_cost(name, inputs, num_classes) for stream, inputs in shapes.items()}
    return ModelSummary(
        name=name,
        summary=" ".join(str(definition.__doc__).split("\n\n")[0].split()),
        paper=spec.paper,
        crop=str(spec.size or f"from {spec.min_size}"),
        inputs={
            stream: " + ".join("x".join(map(str, shape[1:])) for shape in inputs)
            for stream, inputs in shapes.items()
        },
        parameters={stream: parameters for stream, (parameters, _) in costs.items()},
        multiply_adds={stream: multiply_adds for stream, (_, multiply_adds) in costs.items()},
        options={key: ["..." if v is ... else v for v in values] for key, values in spec.options.items()},
        published=dict(spec.published),
    )


def _published_cost(name: str, shapes: list[tuple[int, ...]], num_classes: int) -> tuple[int, int]:
    with torch.device("meta"):  # shapes only: nothing is computed
        model = build(name, in_channels=shapes[-1][1], num_classes=num_classes).eval()
        return count_operations(model, [torch.empty(shape) for shape in shapes])


def count_operations(model: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[int, int]:
    """Number of parameters, and of multiply-adds in convolutions and matrix products for these inputs.

    Args:
        model: A network in evaluation mode.
        inputs: Its inputs.
    """
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(*inputs)
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


def format_count(count: int) -> str:
    """A number of parameters or multiply-adds in millions (M) or billions (G)."""
    return f"{count / 1e6:.2f} M" if count < 1e9 else f"{count / 1e9:.2f} G"
