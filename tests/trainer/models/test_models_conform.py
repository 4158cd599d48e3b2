"""What every network of the table must do, at a reduced width and size."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from trainer import export
from trainer.models import objective, registry, weights


@dataclass(frozen=True)
class Reduced:
    """How a network is made small enough for a test."""

    width: int = 8
    size: int = 64
    frames: int = 0
    stack: int = 2
    lr: float = 0.01
    odd: tuple[int, int] | None = None  # height and width of a larger frame, where these may be any
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "cnn_m_2048": [Reduced(odd=(291, 263))],
    "resnet18": [Reduced(odd=(75, 91))],
    "resnet50": [Reduced(odd=(75, 91))],
    "vgg16": [Reduced(odd=(241, 263))],
    "googlenet": [
        Reduced(odd=(75, 91)),
        Reduced(width=16, odd=(75, 91), options={"batch_norm": False}),
        Reduced(odd=(75, 91), options={"batch_norm": True, "auxiliary": True}),
    ],
    "karpathy_single": [Reduced()],
    "karpathy_early": [Reduced()],
    "karpathy_late": [Reduced()],
    "karpathy_slow": [Reduced()],
    "karpathy_fovea": [Reduced()],
    "conv_fusion": [
        *(
            Reduced(width=4, frames=3, odd=(75, 91), lr=lr, options=options)
            for lr, options in (
                (0.01, {"fusion": "conv"}),
                (0.01, {"fusion": "sum", "both": False, "stop": False}),
                (0.01, {"fusion": "concat", "layer": "relu4_2"}),
                # Of what it classifies, vectors of length 1 from towers that do not learn, little differs.
                (30.0, {"fusion": "bilinear", "both": False}),
                (0.01, {"fusion": "max", "tower": "googlenet", "layer": "inception4a", "stop": False}),
                (0.01, {"fusion": "conv", "tower": "resnet50", "layer": "layer2.1", "kernel": 1}),
            )
        ),
    ],
    "st_resnet": [
        Reduced(width=4, frames=3, odd=(75, 91)),
        Reduced(width=4, frames=7, odd=(75, 91), options={"stage": 2}),
    ],
    "c3d": [Reduced(width=4, stack=1)],
    "c3d_small": [Reduced(width=4, stack=1)],
    "siamese_transform": [Reduced(width=8, size=32, frames=6, odd=(241, 263))],
    "fstcn": [Reduced(width=6)],
}
EACH = [
    pytest.param(name, stream, case, id="-".join([name, stream, *map(str, case.options.values())]))
    for name, cases in CASES.items()
    for case in cases
    for spec in [registry.find_module(name).SPEC]
    for stream in (("both",) if spec.joint else spec.streams)
]
CLASSES = 3


def make(name, stream, case, batch=8, dropout=0.0):
    """A network and a batch of its inputs, with classes."""
    spec = registry.find_module(name).SPEC
    torch.manual_seed(0)
    size = spec.size or case.size
    shapes = spec.shapes(stream, batch=batch, size=size, frames=case.frames, stack=case.stack)
    model = registry.build(
        name,
        in_channels=shapes[-1][1],
        num_classes=CLASSES,
        width=case.width,
        dropout=dropout,
        **case.options,
    )
    return model, [torch.randn(shape) for shape in shapes], torch.arange(batch) % CLASSES


def test_every_model_has_a_case():
    assert list(CASES) == list(registry.MODELS)


@pytest.mark.parametrize(("name", "stream", "case"), EACH)
def test_gradients_reach_what_should_learn(name, stream, case):
    model, inputs, y = make(name, stream, case, batch=3)
    spec = registry.find_module(name).SPEC
    missing = {f"{last}.weight" for last in spec.last_layers} - {n for n, _ in model.named_parameters()}
    assert not missing or (name == "googlenet" and "auxiliary" not in case.options)
    weights.set_training(model)
    objective.losses(model, model(*inputs), y).mean().backward()
    for key, p in model.named_parameters():
        assert (p.grad is not None and bool(p.grad.abs().sum() > 0)) == p.requires_grad, key


# One stream: the other differs by the channels of the first layer, whose gradients are seen above.
@pytest.mark.parametrize(("name", "stream", "case"), [p for p in EACH if p.values[1] != "temporal"])
def test_a_batch_is_learnt_by_heart(name, stream, case):
    model, inputs, y = make(name, stream, case, batch=4)
    weights.set_training(model)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=case.lr, momentum=0.9)
    first = None
    for _step in range(200):
        loss = objective.losses(model, model(*inputs), y).mean()
        first = first or loss.item()
        if loss < 0.02 * first:
            return
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 10.0)  # no step of a steep beginning may end it
        optimizer.step()
    pytest.fail(f"the loss is {loss.item():.3f} after 200 steps, from {first:.3f}")


@pytest.mark.parametrize(("name", "stream", "case"), EACH)
def test_judging_is_deterministic_and_by_the_clip(name, stream, case):
    """In evaluation a clip's logits do not depend on the run, on the others of its batch, or on dropout."""
    model, inputs, _ = make(name, stream, case, batch=2, dropout=0.5)
    other, _, _ = make(name, stream, case, dropout=0.9)
    other.load_state_dict(model.state_dict())
    with torch.inference_mode():
        logits = model.eval()(*inputs)
        assert logits.shape == (2, CLASSES) and torch.isfinite(logits).all()
        assert torch.equal(logits, model(*inputs)) and torch.equal(logits, other.eval()(*inputs))
        # Convolutions sum in another order for another batch: float32's 1e-7, through some fifty layers.
        torch.testing.assert_close(model(*(x[:1] for x in inputs)), logits[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "stream", "case"), [p for p in EACH if p.values[2].odd])
def test_frames_of_any_size(name, stream, case):
    model, inputs, _ = make(name, stream, case, batch=1)
    with torch.inference_mode():
        logits = model.eval()(*(torch.randn(*x.shape[:-2], *case.odd) for x in inputs))
    assert logits.shape == (1, CLASSES) and torch.isfinite(logits).all()


# Networks that take time apart or together; those of one time step only pass batches on from layer to layer,
# and ST-ResNet is among the tests of exports.
@pytest.mark.parametrize(
    ("name", "stream", "case"),
    [
        p
        for p in EACH
        if registry.find_module(p.values[0]).SPEC.frames != (1,)
        and p.values[1] != "temporal"
        and p.values[2].options in ({}, {"fusion": "conv"})
        and p.values[0] != "st_resnet"
    ],
)
def test_torch_exports_it_for_any_number_of_clips(name, stream, case, tmp_path):
    model, inputs, _ = make(name, stream, case, batch=2)
    shapes = [tuple(x.shape) for x in inputs]
    differs = export.write_network(model, CLASSES, ["a", "b"][: len(inputs)], shapes, tmp_path / "m.pt2", {})
    assert differs <= export.TOLERANCE and (tmp_path / "m.pt2").exists()
