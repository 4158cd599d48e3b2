from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fakes import small

from flowprep.errors import UsageError
from trainer import models


def cnn_m(stream):
    return small(stream, model={"name": "cnn_m_2048", "width": 0}, input={"crop": 224, "stack": 10})


def test_two_temporal_cnn_m_hold_181_42_million_parameters():
    """The size that the authors give for their two temporal networks of 101 classes."""
    with torch.device("meta"):
        model = models.make_model(cnn_m("temporal"), 101)
    assert 2 * sum(p.numel() for p in model.parameters()) == 181_415_562


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_cnn_m_sizes(stream):
    recipe = cnn_m(stream)
    with torch.device("meta"):
        model = models.make_model(recipe, 101)
        sizes = {}
        for name, module in model.named_modules():
            module.register_forward_hook(
                lambda _m, _i, out, name=name: sizes.setdefault(name, []).append(tuple(out.shape[1:]))
            )
        model(torch.empty(1, recipe.channels, 224, 224))
    assert sizes["conv1"] == [(96, 109, 109)]
    assert sizes["conv2"] == [(256, 26, 26)]
    assert sizes["pool"] == [(96, 54, 54), (256, 13, 13), (512, 6, 6)]
    assert len(sizes["lrn"]) == (2 if stream == "spatial" else 1)
    assert sizes["fc6"] == [(4096,)] and sizes["fc7"] == [(2048,)] and sizes["fc8"] == [(101,)]
    assert len(sizes["dropout"]) == 2


def test_lrn_is_alexnets():
    """Constants as published (n = 5, alpha = 1e-4 per element, beta = 0.75, k = 2), by the formula."""
    x = torch.rand(1, 9, 1, 1) * 100
    got = models.make_model(cnn_m("spatial"), 2).lrn(x)
    a = x[0, :, 0, 0]
    want = [
        a[i] / (2 + 1e-4 * sum(a[j] ** 2 for j in range(max(0, i - 2), min(9, i + 3)))) ** 0.75
        for i in range(9)
    ]
    torch.testing.assert_close(got[0, :, 0, 0], torch.stack(want))


def test_resnet18_has_torchvisions_names_and_shapes():
    recipe = small(model={"width": 0})
    model = models.make_model(recipe, 1000)
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # as torchvision's
    state = model.state_dict()
    assert state["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert state["layer4.1.bn2.running_var"].shape == (512,)
    assert state["fc.weight"].shape == (1000, 512)
    assert len(state) == 122
    narrow = models.make_model(small("temporal"), 7)
    assert narrow(torch.zeros(2, 6, 32, 48)).shape == (2, 7)


@pytest.mark.parametrize(
    ("stream", "sections", "says"),
    [
        (
            "spatial",
            {"model": {"name": "resnet50"}},
            "model.name is 'resnet50'; allowed: cnn_m_2048, resnet18",
        ),
        (
            "spatial",
            {"model": {"name": "cnn_m_2048", "width": 0}},
            "input.crop is 32; cnn_m_2048 takes crops of 224",
        ),
        ("spatial", {"model": {"name": "cnn_m_2048"}, "input": {"crop": 224}}, "published width only"),
        ("spatial", {"input": {"crop": 16}}, "takes crops from 32"),
        ("spatial", {"model": {"trainable": "last"}}, "without model.weights"),
    ],
)
def test_needs_are_stated(stream, sections, says):
    with pytest.raises(UsageError, match=says):
        models.find(small(stream, **sections))


def test_weights_must_fit_but_for_the_last_layer(tmp_path):
    path = tmp_path / "w.pt"
    source = models.make_model(small(), 10)
    torch.save(source.state_dict(), path)
    model = models.make_model(small(), 4)
    fresh = model.fc.weight.clone()
    models.load_weights(model, path, "fc")
    assert torch.equal(model.conv1.weight, source.conv1.weight)
    assert torch.equal(model.fc.weight, fresh)
    flow = models.make_model(small("temporal"), 4)
    with pytest.raises(UsageError, match=r"conv1.weight \(4, 3, 7, 7\), needed \(4, 6, 7, 7\)"):
        models.load_weights(flow, path, "fc")
    with pytest.raises(UsageError, match="cannot be read"):
        models.load_weights(model, tmp_path / "none.pt", "fc")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="not a state dict"):
        models.load_weights(model, path, "fc")


def test_training_the_last_layer_leaves_the_rest():
    model = models.make_model(small(), 4)
    models.freeze_all_but(model, "fc")
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    models.set_training(model)
    assert not model.bn1.training and model.dropout.training


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_conforms(name, stream):
    """Shapes, a step that learns, and a state dict that is the whole network."""
    recipe = small(stream, model={"name": name, "width": 0, "dropout": 0.0})
    size = models.find(replace(recipe, input=replace(recipe.input, crop=224))).SIZE or 64
    recipe = replace(recipe, input=replace(recipe.input, crop=size))
    torch.manual_seed(0)
    model = models.make_model(recipe, 3)
    assert {n for n, _ in model.named_parameters()} >= {f"{models.find(recipe).LAST}.weight"}
    x, y = torch.randn(3, recipe.channels, size, size), torch.tensor([0, 1, 2])
    models.set_training(model)
    before = F.cross_entropy(model(x), y)
    assert torch.isfinite(before)
    before.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    # A step that lowers the loss by a hundredth, as far as the slope holds.
    slope = sum(float(p.grad.square().sum()) for p in model.parameters())
    torch.optim.SGD(model.parameters(), lr=0.01 * before.item() / slope).step()
    with torch.no_grad():
        assert F.cross_entropy(model(x), y) < before
        model.eval()
        other = models.make_model(recipe, 3).eval()
        other.load_state_dict(model.state_dict())
        logits = model(x)
        assert logits.shape == (3, 3) and torch.equal(logits, other(x))


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_cnn_m_is_the_published_chain_of_layers(stream):
    """One forward, written out with torch's functions."""
    torch.manual_seed(1)
    recipe = cnn_m(stream)
    model = models.make_model(recipe, 5).eval()
    w = model.state_dict()
    layer = lambda f, x, name, *a: F.relu(f(x, w[f"{name}.weight"], w[f"{name}.bias"], *a))  # noqa: E731
    x = torch.randn(1, recipe.channels, 224, 224)
    with torch.no_grad():
        h = layer(F.conv2d, x, "conv1", 2)
        h = F.max_pool2d(F.local_response_norm(h, 5, 5e-4, 0.75, 2.0), 3, 2, ceil_mode=True)
        h = layer(F.conv2d, h, "conv2", 2, 1)
        h = F.local_response_norm(h, 5, 5e-4, 0.75, 2.0) if stream == "spatial" else h
        h = F.max_pool2d(h, 3, 2, ceil_mode=True)
        for name in ("conv3", "conv4", "conv5"):
            h = layer(F.conv2d, h, name, 1, 1)
        h = F.max_pool2d(h, 3, 2, ceil_mode=True).flatten(1)
        h = layer(F.linear, layer(F.linear, h, "fc6"), "fc7")
        torch.testing.assert_close(model(x), F.linear(h, w["fc8.weight"], w["fc8.bias"]))
