"""The precision of a run: the one that `auto` chooses is right, and one that is wrong is noticed."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from flowprep.errors import UsageError
from tests.support.fakes import FakeCorpus, recipe_for, small
from tests.support.runs import losses, run
from trainer.models import layers, registry
from trainer.training import checkpoint
from trainer.training.precision import training_precision, wrong_products

CPU = torch.device("cpu")
# Frames of 170 or 224 pixels: seconds where bfloat16 is emulated.
LARGE = ("cnn_m_2048", "karpathy_early", "karpathy_single", "karpathy_late", "karpathy_fovea")
EACH = [
    pytest.param(name, stream, marks=pytest.mark.slow if name in LARGE else ())
    for name in registry.MODELS
    for spec in [registry.find_module(name).SPEC]
    for stream in (("both",) if spec.joint else spec.streams)
]


@pytest.fixture
def _bfloat16(monkeypatch):
    """A CPU that says that it has the instructions."""
    has = {"avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)


@pytest.mark.usefixtures("_bfloat16")
@pytest.mark.parametrize(("name", "stream"), EACH)
def test_the_chosen_precision_has_the_gradients_of_float32(name, stream):
    """Of every convolution and product of every network, for its weights, its biases and its input."""
    recipe = recipe_for(name, stream, input={"stack": 1 if name.startswith("c3d") else 2})
    torch.manual_seed(0)
    net = layers.channels_last(registry.make_model(recipe, 4)).train()
    chosen = training_precision("auto", "", CPU, net)
    has_conv3d = any(isinstance(module, torch.nn.Conv3d) for module in net.modules())
    assert chosen == ("float32" if has_conv3d else "bfloat16")
    if chosen == "bfloat16":
        shapes = registry.input_shapes(recipe, batch=2).values()
        inputs = [layers.channels_last(torch.randn(shape)) for shape in shapes]
        before = {key: value.clone() for key, value in net.state_dict().items()}
        assert wrong_products(net, inputs, chosen) == []
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
        assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.usefixtures("_bfloat16")
def test_a_run_in_bfloat16_with_conv3d_continues_in_float32(caplog):
    net = torch.nn.Conv3d(1, 1, 3)
    assert training_precision("auto", "bfloat16", CPU, net) == "float32"
    assert "continues in float32" in caplog.text
    assert training_precision("bfloat16", "", CPU, net) == "bfloat16"  # the check of the first step decides
    assert training_precision("auto", "bfloat16", CPU, torch.nn.Conv2d(1, 1, 3)) == "bfloat16"


class Fault(torch.autograd.Function):
    """The identity, with another gradient."""

    @staticmethod
    def forward(ctx, value, factor):
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


class FaultyKernel(TorchFunctionMode):
    """2D convolutions of an 8x8 map give a wrong gradient of the weight under autocast, as oneDNN did."""

    def __init__(self, factor):
        super().__init__()
        self._factor = factor

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.conv2d and torch.is_autocast_enabled("cpu") and args[0].shape[-1] == 8:
            args = (args[0], Fault.apply(args[1], self._factor), *args[2:])
        return func(*args, **(kwargs or {}))


def recipe(precision):
    return small("temporal", train={"steps": 2, "precision": precision, "milestones": []})


@pytest.mark.usefixtures("_bfloat16")
@pytest.mark.parametrize("factor", [1.6, float("nan")])
def test_a_wrong_gradient_is_noticed_before_the_first_step(tmp_path, factor, caplog):
    """`auto` then is float32, whose steps it takes; a recipe that insists is refused."""
    with FaultyKernel(factor):
        run(tmp_path / "auto", recipe("auto"))
        with pytest.raises(
            UsageError, match=r"'bfloat16', which gives wrong results on this CPU \(conv2d of 8"
        ):
            run(tmp_path / "insists", recipe("bfloat16"))
    assert "the run computes in float32" in caplog.text
    run(tmp_path / "float32", recipe("float32"))
    assert losses(tmp_path / "auto") == losses(tmp_path / "float32")
    assert checkpoint.load(tmp_path / "auto" / "last.pt").precision == "float32"


@pytest.mark.usefixtures("_bfloat16")
def test_the_check_changes_no_result(tmp_path, monkeypatch):
    run(tmp_path / "checked", recipe("auto"))
    monkeypatch.setattr("trainer.training.precision.wrong_products", lambda *_: [])
    run(tmp_path / "unchecked", recipe("auto"))
    assert losses(tmp_path / "checked") == losses(tmp_path / "unchecked")
    a, b = (checkpoint.load(tmp_path / name / "last.pt") for name in ("checked", "unchecked"))
    assert a.precision == "bfloat16" and all(torch.equal(a.model[key], b.model[key]) for key in a.model)


def test_float32_is_not_checked(tmp_path, monkeypatch):
    def check(*_):
        raise AssertionError

    monkeypatch.setattr("trainer.training.precision.wrong_products", check)
    assert run(tmp_path, recipe("float32"), corpus=FakeCorpus(clips=2))
