"""The groups of parameters: who has which learning rate and which weight decay."""

import pytest
import torch
from torch import nn

from tests.support.fakes import small
from trainer.training.optimiser import make_optimiser, set_learning_rate


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2), nn.LayerNorm(2)
    )


def section(**train):
    return small(train={"lr": 0.5, "momentum": 0.0, "weight_decay": 0.1, **train}).train


def step(recipe, rate):
    """The change of each parameter in a step with gradients of 1, as (gradient, decayed weight) factors."""
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = make_optimiser(model, recipe)
    set_learning_rate(optimiser, rate)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    return before, dict(model.named_parameters())


@pytest.mark.parametrize(
    ("changes", "biases", "norms"),
    [
        ({}, (1, 1), (1, 1)),
        ({"bias_lr": 2.0, "decay_biases": False}, (2, 0), (1, 1)),
        ({"bias_lr": 2.0, "decay_biases": False, "decay_norms": False}, (2, 0), (1, 0)),
        ({"decay_norms": False}, (1, 1), (1, 0)),
    ],
)
def test_biases_and_normalisation_have_their_own_rate_and_decay(changes, biases, norms):
    before, after = step(section(**changes), 0.25)
    factors = {"0.weight": (1, 1), "0.bias": biases, "1.weight": norms, "1.bias": norms}
    factors |= {"3.weight": (1, 1), "3.bias": biases, "4.weight": norms, "4.bias": norms}
    assert set(factors) == set(after)
    for name, (rate, decay) in factors.items():
        want = before[name] - 0.25 * rate * (1 + decay * 0.1 * before[name])
        torch.testing.assert_close(after[name], want)


def test_without_groups_the_optimiser_is_that_of_older_checkpoints():
    """One group in the order of the parameters, whose state loads without the factor."""
    model = network()
    model[0].weight.requires_grad_(False)
    optimiser = make_optimiser(model, section())
    (group,) = optimiser.param_groups
    wanted = [p for p in model.parameters() if p.requires_grad]
    assert all(a is b for a, b in zip(group["params"], wanted, strict=True))
    state = optimiser.state_dict()
    del state["param_groups"][0]["lr_factor"]
    optimiser.load_state_dict(state)
    set_learning_rate(optimiser, 0.125)
    assert optimiser.param_groups[0]["lr"] == 0.125


def test_shared_parameters_are_in_one_group():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model[1].bias = model[0].bias
    groups = make_optimiser(model, section(bias_lr=2.0)).param_groups
    assert [len(group["params"]) for group in groups] == [2, 1]
