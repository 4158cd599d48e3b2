"""What a network costs, and the table of all networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.models.registry import MODELS, build, find_module


def describe_models(num_classes: int = 101) -> list[dict[str, Any]]:
    """What there is, as published, a row in plain types for every model.

    name, summary, paper, crop and inputs as text, shapes of the inputs, values of each option, the default
    first ("..." stands for others), published accuracy; parameters and multiply-adds of one clip by stream
    ("both" for joint networks).
    """
    rows = []
    for name in MODELS:
        module = find_module(name)
        spec = module.SPEC
        shapes = {"both": spec.shapes()} if spec.joint else {s: spec.shapes(s) for s in spec.streams}
        counts = {stream: _count(name, some, num_classes) for stream, some in shapes.items()}
        rows.append(
            {
                "name": name,
                "summary": " ".join(str(module.__doc__).split("\n\n")[0].split()),
                "paper": spec.paper,
                "crop": str(spec.size or f"from {spec.min_size}"),
                "inputs": {
                    stream: " + ".join("x".join(map(str, shape[1:])) for shape in some)
                    for stream, some in shapes.items()
                },
                "parameters": {stream: count[0] for stream, count in counts.items()},
                "multiply_adds": {stream: count[1] for stream, count in counts.items()},
                "options": {
                    key: ["..." if v is ... else v for v in some] for key, some in spec.options.items()
                },
                "published": dict(spec.published),
            }
        )
    return rows


def format_count(count: int) -> str:
    """A number of parameters or multiply-adds in millions (M) or billions (G)."""
    return f"{count / 1e6:.2f} M" if count < 1e9 else f"{count / 1e9:.2f} G"


def _count(name: str, shapes: list[tuple[int, ...]], num_classes: int) -> tuple[int, int]:
    with torch.device("meta"):  # counted, not computed
        model = build(name, in_channels=shapes[-1][1], num_classes=num_classes).eval()
        return count_operations(model, [torch.empty(shape) for shape in shapes])


def count_operations(model: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[int, int]:
    """Parameters, and multiply-adds of these inputs in convolutions and matrix products.

    Args:
        model: in evaluation mode.
        inputs: as it takes them.
    """
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(*inputs)
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2
