"""The conformance suite, for every network of the registry."""

import sys
from types import ModuleType

import pytest
import torch

from flowprep.errors import UsageError
from trainer.models import registry
from trainer.models.spec import ModelSpec
from trainer.recipe import networks
from trainer.testing import models
from trainer.testing.models import NetworkCase, NetworkSuite, cases_of

REDUCED = {
    "cnn_m_2048": [{"larger_frame": (291, 263)}],
    "resnet18": [{}],
    "resnet50": [{}],
    "vgg16": [{"larger_frame": (241, 263)}],
    "googlenet": [
        {},
        {"width": 16, "options": {"batch_norm": False}},
        {"options": {"batch_norm": True, "auxiliary": True}},
    ],
    "karpathy_single": [{}],
    "karpathy_early": [{}],
    "karpathy_late": [{}],
    "karpathy_slow": [{}],
    "karpathy_fovea": [{}],
    "conv_fusion": [
        {"width": 4, "frames": 3, "learning_rate": rate, "options": options}
        for rate, options in (
            (0.01, {"fusion": "conv"}),
            (0.01, {"fusion": "sum", "both": False, "stop": False}),
            (0.01, {"fusion": "concat", "layer": "relu4_2"}),
            # It classifies vectors of length 1 from towers that do not learn. They differ by little.
            (30.0, {"fusion": "bilinear", "both": False}),
            (0.01, {"fusion": "max", "tower": "googlenet", "layer": "inception4a", "stop": False}),
            (0.01, {"fusion": "conv", "tower": "resnet50", "layer": "layer2.1", "kernel": 1}),
        )
    ],
    "st_resnet": [
        {"width": 4, "frames": 3},
        {"width": 4, "frames": 7, "options": {"stage": 2}},
    ],
    "c3d": [{"width": 4, "stack": 1}],
    "c3d_small": [{"width": 4, "stack": 1}],
    "siamese_transform": [{"size": 32, "frames": 6, "larger_frame": (241, 263)}],
    "fstcn": [{"width": 6}],
}


def exported(case: NetworkCase) -> bool:
    """Networks with an axis of time. The others only pass batches on. The tests of exports have ST-ResNet."""
    timeless = registry.find_module(case.name).SPEC.frames == (1,)
    return not timeless and case.options in ({}, {"fusion": "conv"}) and case.name != "st_resnet"


def all_cases() -> list[NetworkCase]:
    cases = []
    for name, variants in REDUCED.items():
        for reduced in variants:
            for case in cases_of(name, **reduced):
                # The streams differ by the channels of the first layer. Its gradients are tested for both.
                one_stream = case.stream != "temporal"
                values = {**vars(case), "learns": one_stream, "exports": one_stream and exported(case)}
                cases.append(NetworkCase(**values))
    return cases


class TestNetworks(NetworkSuite):
    cases = all_cases()
    test_one_batch_is_learnt = pytest.mark.slow(NetworkSuite.test_one_batch_is_learnt)
    test_the_export_accepts_any_number_of_clips = pytest.mark.slow(
        NetworkSuite.test_the_export_accepts_any_number_of_clips
    )


def test_every_network_has_a_case():
    assert list(REDUCED) == list(registry.MODELS)


def test_only_auxiliary_classifiers_may_be_missing():
    for case in TestNetworks.cases:
        last_layers = registry.find_module(case.name).SPEC.last_layers
        missing = {f"{last}.weight" for last in last_layers} - dict(case.build().named_parameters()).keys()
        assert not missing or (case.name == "googlenet" and "auxiliary" not in case.options)


class Constant(torch.nn.Module):
    """A faulty network: its output depends on the other clips of the batch, and its layer does not learn."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 3)

    def forward(self, x):
        return self.layer(x.mean().view(1, 1)).expand(len(x), -1).detach() + x.mean((1, 2, 3))[:1, None]


@pytest.fixture
def faulty(monkeypatch):
    """The faulty network, as a module of another package."""
    module = ModuleType("other_package.faulty")
    module.SPEC = ModelSpec(paper="none", first_layer="layer", last_layers=("layer",))
    module.build = lambda in_channels, num_classes, *, dropout, width: Constant()
    monkeypatch.setitem(sys.modules, "other_package", ModuleType("other_package"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registry.find_module.cache_clear()
    yield NetworkCase(module.__name__, "spatial", size=16)
    registry.find_module.cache_clear()


@pytest.mark.parametrize(
    "test", ["test_gradients_reach_all_layers_that_learn", "test_evaluation_is_deterministic"]
)
def test_the_suite_finds_faults(faulty, test):
    NetworkSuite().test_the_spec_is_consistent(faulty)
    with pytest.raises((AssertionError, RuntimeError)):
        getattr(NetworkSuite(), test)(faulty)
    assert not models.is_dense(faulty)


def test_networks_of_other_packages_are_found_by_name(faulty, monkeypatch):
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    registry.register_model("mine", faulty.name)
    assert registry.find_module("mine").SPEC is registry.find_module(faulty.name).SPEC
    registry.register_model("mine", faulty.name)  # again the same
    with pytest.raises(UsageError, match=r"'mine' is already registered from other_package\.faulty"):
        registry.register_model("mine", "other_package.another")
    networks.allow_network("no_such_package.network")
    with pytest.raises(UsageError, match="cannot be imported: No module named 'no_such_package'"):
        registry.find_module("no_such_package.network")
    with pytest.raises(UsageError, match=r"json\.decoder must define SPEC"):
        registry.find_module("json.decoder")
