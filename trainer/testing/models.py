"""The conformance suite of networks: the tests that every network must pass, as a class for pytest.

Derive a class whose name begins with `Test`, and list the cases to test:

    from trainer.testing.models import NetworkSuite, cases_of

    class TestMyNetwork(NetworkSuite):
        cases = cases_of("mypackage.mynetwork", width=8, size=64)

A case makes the network small enough for a test: few channels and small crops. Use further cases for the
options of the network. To see the values in failing assertions, call
`pytest.register_assert_rewrite("trainer.testing.models")` in conftest.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from flowprep.errors import UsageError
from trainer.export import TOLERANCE, write_network
from trainer.models import objective, registry, weights
from trainer.recipe.networks import allow_network

CLASSES = 3
STREAMS = ("spatial", "temporal")
MAX_STEPS = 200  # of learning one batch
LEARNT = 0.02  # share of the first loss


@dataclass(frozen=True)
class NetworkCase:
    """A network at a reduced size.

    Attributes:
        name: Name in the registry, or "package.module".
        stream: "spatial", "temporal", or "both" for a joint network.
        width: Channels of the first layer.
        size: Side of the crop in pixels, for a network that accepts any.
        frames: Time steps of a clip. 0 is the published number.
        stack: Flows at each time step.
        learning_rate: Learning rate at which one batch is learnt.
        larger_frame: Height and width of a frame larger than the crop, for a network with `SPEC.dense`.
        options: Options of the network.
        learns: Whether to test that one batch is learnt, the longest of the tests.
        exports: Whether to test the export by torch.export.
    """

    name: str
    stream: str
    width: int = 8
    size: int = 64
    frames: int = 0
    stack: int = 2
    learning_rate: float = 0.01
    larger_frame: tuple[int, int] = (75, 91)
    options: Mapping[str, Any] = field(default_factory=dict)
    learns: bool = True
    exports: bool = True

    def __str__(self) -> str:
        return "-".join([self.name, self.stream, *map(str, self.options.values())])

    def build(self, dropout: float = 0.0) -> nn.Module:
        """The network, always with the same weights."""
        torch.manual_seed(0)
        return registry.build(
            self.name,
            in_channels=self._shapes(1)[-1][1],
            num_classes=CLASSES,
            width=self.width,
            dropout=dropout,
            **self.options,
        )

    def inputs(self, batch: int) -> list[torch.Tensor]:
        """Random inputs of the network. After `build` they are always the same."""
        return [torch.randn(shape) for shape in self._shapes(batch)]

    def _shapes(self, batch: int) -> list[tuple[int, ...]]:
        spec = registry.find_module(self.name).SPEC
        side = spec.size or self.size
        return spec.shapes(self.stream, batch=batch, size=side, frames=self.frames, stack=self.stack)


def cases_of(name: str, **reduced: Any) -> list[NetworkCase]:
    """A case for each stream of a network. `reduced` are attributes of `NetworkCase`.

    The network's module is imported, also if it is outside this package.
    """
    allow_network(name)
    spec = registry.find_module(name).SPEC
    return [NetworkCase(name, s, **reduced) for s in (("both",) if spec.joint else spec.streams)]


def is_dense(case: NetworkCase) -> bool:
    """Whether the network of a case classifies larger frames."""
    return registry.find_module(case.name).SPEC.dense


def applies_to_all(case: NetworkCase) -> bool:
    """Return True: the test applies to every case."""
    return True


# Test -> whether it applies to a case. A test that is not listed applies to all cases.
APPLIES: dict[str, Callable[[NetworkCase], bool]] = {
    "test_one_batch_is_learnt": lambda case: case.learns,
    "test_larger_frames_are_classified": is_dense,
    "test_the_export_accepts_any_number_of_clips": lambda case: case.exports,
}


class NetworkSuite:
    """The tests. A subclass defines `cases`."""

    cases: ClassVar[Sequence[NetworkCase]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for each case to which it applies."""
        applies = APPLIES.get(metafunc.function.__name__, applies_to_all)
        metafunc.parametrize("case", [case for case in self.cases if applies(case)], ids=str)

    def test_the_spec_is_consistent(self, case: NetworkCase) -> None:
        """The spec names known streams and existing layers, and unknown options are refused."""
        spec = registry.find_module(case.name).SPEC
        assert spec.paper and spec.streams and set(spec.streams) <= set(STREAMS)
        assert spec.size is None or spec.size >= spec.min_size
        assert all(steps is ... or steps > 0 for steps in spec.frames) and spec.frames[0] is not ...
        assert 0 <= spec.spacing[0] <= spec.spacing[1]
        assert all(values and values[0] is not ... for values in spec.options.values())
        modules = dict(case.build().named_modules())
        assert not spec.first_layer or spec.first_layer in modules
        assert not spec.last_layers or set(spec.last_layers) & modules.keys()
        with pytest.raises(UsageError):
            registry.build(case.name, in_channels=3, num_classes=CLASSES, no_such_option=1)

    def test_gradients_reach_all_layers_that_learn(self, case: NetworkCase) -> None:
        """Each parameter has a gradient, unless it has `requires_grad = False`."""
        model = case.build()
        weights.set_training(model)
        y = torch.arange(3) % CLASSES
        loss = objective.losses(model, model(*case.inputs(3)), y).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters():
            has_gradient = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert has_gradient == parameter.requires_grad, name

    def test_one_batch_is_learnt(self, case: NetworkCase) -> None:
        """Steps on one batch reduce its loss to a fiftieth."""
        model, inputs = case.build(), case.inputs(4)
        y = torch.arange(4) % CLASSES
        weights.set_training(model)
        learning = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(learning, lr=case.learning_rate, momentum=0.9)
        first = loss = float("nan")
        for step in range(MAX_STEPS):
            batch_loss = objective.losses(model, model(*inputs), y).mean()
            loss = batch_loss.item()
            first = first if step else loss
            if loss < LEARNT * first:
                return
            optimizer.zero_grad()
            batch_loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learning, 10.0)  # a steep first step must not end the learning
            optimizer.step()
        pytest.fail(f"the loss is {loss:.3f} after {MAX_STEPS} steps, from {first:.3f}")

    def test_training_gives_class_scores(self, case: NetworkCase) -> None:
        """The output in training has a loss for each sample, 0 for an ignored one, and class scores."""
        model = case.build()
        weights.set_training(model)
        logits = model(*case.inputs(3))
        assert logits.shape[:2] == (3, CLASSES) and logits.ndim in (2, 3)
        losses = objective.losses(model, logits, torch.tensor([0, 1, -100]))
        assert losses.shape == (3,) and losses[2] == 0 and bool(torch.isfinite(losses).all())
        assert objective.class_scores(model, logits).shape == (3, CLASSES)

    def test_evaluation_is_deterministic(self, case: NetworkCase) -> None:
        """In evaluation, the logits of a clip depend on the clip alone, not on dropout or on the batch."""
        model, other, inputs = case.build(0.5), case.build(0.9), case.inputs(2)
        other.load_state_dict(model.state_dict())
        with torch.inference_mode():
            logits = model.eval()(*inputs)
            assert logits.shape == (2, CLASSES) and torch.isfinite(logits).all()
            assert torch.equal(logits, model(*inputs)) and torch.equal(logits, other.eval()(*inputs))
            # Another batch size changes the order of float32 sums, each by 1e-7, through some fifty layers.
            torch.testing.assert_close(model(*(x[:1] for x in inputs)), logits[:1], rtol=1e-4, atol=1e-5)

    def test_larger_frames_are_classified(self, case: NetworkCase) -> None:
        """A network with `SPEC.dense` accepts frames larger than its crop."""
        model = case.build().eval()
        with torch.inference_mode():
            logits = model(*(torch.randn(*x.shape[:-2], *case.larger_frame) for x in case.inputs(1)))
        assert logits.shape == (1, CLASSES) and torch.isfinite(logits).all()

    def test_the_export_accepts_any_number_of_clips(self, case: NetworkCase, tmp_path: Path) -> None:
        """The network, exported by torch.export, has the same outputs for another number of clips."""
        inputs = case.inputs(2)
        names, shapes = ["first", "second"][: len(inputs)], [tuple(x.shape) for x in inputs]
        difference = write_network(case.build(), CLASSES, names, shapes, tmp_path / "m.pt2", {})
        assert difference <= TOLERANCE
