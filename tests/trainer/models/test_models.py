import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from flowprep.errors import UsageError
from tests.support.fakes import small
from trainer.models import registry, summary, weights
from trainer.models.resnet18 import Sparse1x1


def cnn_m(stream):
    return small(stream, model={"name": "cnn_m_2048", "width": 0}, input={"crop": 224, "stack": 10})


def test_two_temporal_cnn_m_hold_181_42_million_parameters():
    """The size that the authors give for their two temporal networks of 101 classes."""
    with torch.device("meta"):
        model = registry.make_model(cnn_m("temporal"), 101)
    assert 2 * sum(p.numel() for p in model.parameters()) == 181_415_562


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_cnn_m_sizes(stream):
    recipe = cnn_m(stream)
    with torch.device("meta"):
        model = registry.make_model(recipe, 101)
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
    assert sizes["drop6"] == [(4096, 1, 1)] and sizes["drop7"] == [(2048, 1, 1)]


def test_each_layer_drops_its_own_share():
    """Wang et al. 2015: 0.9 and 0.8; a network of two towers has four such layers."""
    make = {"in_channels": 4, "num_classes": 2, "width": 4}
    for name, given in {"vgg16": [0.9, 0.8], "c3d": [0.1, 0.2], "conv_fusion": [0.9, 0.8, 0.7, 0.0]}.items():
        with torch.device("meta"):
            net = registry.build(name, dropout=given, **make)
        assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)] == given
    with pytest.raises(
        UsageError, match=r"2 numbers; allowed for resnet18: one number, or one for each of dropout"
    ):
        registry.build("resnet18", dropout=[0.9, 0.8], **make)


def test_lrn_is_alexnets():
    """Constants as published (n = 5, alpha = 1e-4 per element, beta = 0.75, k = 2), by the formula."""
    x = torch.rand(1, 9, 1, 1) * 100
    got = registry.make_model(cnn_m("spatial"), 2).lrn(x)
    a = x[0, :, 0, 0]
    want = [
        a[i] / (2 + 1e-4 * sum(a[j] ** 2 for j in range(max(0, i - 2), min(9, i + 3)))) ** 0.75
        for i in range(9)
    ]
    torch.testing.assert_close(got[0, :, 0, 0], torch.stack(want))


@pytest.mark.parametrize("side", [13, 14])
def test_a_sparse_convolution_is_a_strided_one(side):
    sparse = Sparse1x1(6, 8, 1, 2, bias=False)
    x = torch.randn(2, 6, side, side, requires_grad=True)
    y, want = sparse(x), F.conv2d(x, sparse.weight, stride=2)
    torch.testing.assert_close(y, want)
    weights = torch.randn_like(y)
    got, expected = (torch.autograd.grad((z * weights).sum(), (x, sparse.weight)) for z in (y, want))
    torch.testing.assert_close(got, expected)


@pytest.mark.slow
def test_the_narrowest_network_survives_a_step_at_the_usual_size():
    """In a process of its own: the fault would kill it."""
    code = (
        "import torch; from trainer.models import layers, registry;"
        "model = layers.channels_last(registry.build('resnet18', in_channels=3, num_classes=3, width=8));"
        "model(layers.channels_last(torch.randn(2, 3, 224, 224))).sum().backward(); print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "done\n", (done.returncode, done.stderr)


def test_resnet18_has_torchvisions_names_and_shapes():
    recipe = small(model={"width": 0})
    model = registry.make_model(recipe, 1000)
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # as torchvision's
    state = model.state_dict()
    assert state["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert state["layer4.1.bn2.running_var"].shape == (512,)
    assert state["fc.weight"].shape == (1000, 512)
    assert len(state) == 122
    narrow = registry.make_model(small("temporal"), 7)
    assert narrow(torch.zeros(2, 6, 32, 48)).shape == (2, 7)


@pytest.mark.parametrize(
    ("stream", "sections", "says"),
    [
        (
            "spatial",
            {"model": {"name": "resnet1"}},
            "model.name is 'resnet1'; allowed: cnn_m_2048, resnet18",
        ),
        (
            "spatial",
            {"model": {"name": "cnn_m_2048", "width": 0}},
            "input.crop is 32; cnn_m_2048 needs crops of 224",
        ),
        ("spatial", {"input": {"crop": 16}}, "needs crops of at least 32 pixels"),
        ("spatial", {"model": {"trainable": "last"}}, "without model.weights"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(stream, sections, says):
    with pytest.raises(UsageError, match=says):
        registry.check_recipe(small(stream, **sections))


RESNET = registry.find_module("resnet18").SPEC


def test_weights_must_fit_but_for_a_last_layer_of_other_classes(tmp_path, caplog):
    path = tmp_path / "w.pt"
    source = registry.make_model(small(), 10)
    torch.save(source.state_dict(), path)
    model = registry.make_model(small(), 4)
    fresh = model.fc.weight.clone()
    with caplog.at_level("INFO"):
        weights.load_weights(model, path, RESNET)
    assert "the last layer starts from scratch" in caplog.text
    assert torch.equal(model.conv1.weight, source.conv1.weight)
    assert torch.equal(model.fc.weight, fresh)
    same = registry.make_model(small(), 10)
    weights.load_weights(same, path, RESNET)
    assert torch.equal(same.fc.weight, source.fc.weight)
    flow = registry.make_model(small("temporal"), 4)
    with pytest.raises(UsageError, match=r"conv1.weight \(4, 3, 7, 7\), needed \(4, 6, 7, 7\); model.cross"):
        weights.load_weights(flow, path, RESNET)
    with pytest.raises(UsageError, match="cannot be read"):
        weights.load_weights(model, tmp_path / "none.pt", RESNET)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="not a state dict"):
        weights.load_weights(model, path, RESNET)


def test_all_mismatches_are_named(tmp_path):
    state = registry.make_model(small(), 4).state_dict()
    for key in ("layer1.0.conv1.weight", "fc.bias", "bn1.running_var"):
        del state[key]
    state["layer2.0.conv1.weight"] = torch.zeros(8, 4, 1, 1)
    state["fc.weight"] = torch.zeros(4, 99)
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    model = registry.make_model(small(), 4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UsageError) as refusal:
        weights.load_weights(model, tmp_path / "w.pt", RESNET)
    for text in (
        "layer1.0.conv1.weight missing, needed (4, 4, 3, 3)",
        "fc.bias missing",
        "bn1.running_var missing",
        "layer2.0.conv1.weight (8, 4, 1, 1), needed (8, 4, 3, 3)",
        "fc.weight (4, 99), needed (4, 32)",
        "extra.weight is not a part of the model",
    ):
        assert text in str(refusal.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())  # nothing half loaded


def test_weights_without_batch_counters_load(tmp_path):
    """Older weights of torchvision have no num_batches_tracked."""
    source = registry.make_model(small(), 4)
    state = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pt")
    model = registry.make_model(small(), 4)
    weights.load_weights(model, tmp_path / "w.pt", RESNET)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())


def test_rgb_filters_become_flow_filters(tmp_path):
    weight = torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2)
    got = weights.flow_filters(weight, 20)
    assert got.shape == (2, 20, 2, 2)
    for channel in range(20):
        torch.testing.assert_close(got[:, channel], (weight[:, 0] + weight[:, 1] + weight[:, 2]) / 3)
    source = registry.make_model(small(), 10)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    flow = registry.make_model(small("temporal"), 4)
    weights.load_weights(flow, tmp_path / "w.pt", RESNET, cross_modality=True)
    assert torch.equal(flow.conv1.weight, weights.flow_filters(source.conv1.weight, 6))
    assert torch.equal(flow.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    with pytest.raises(UsageError, match=r"model.cross_modality is True; allowed: false, unless"):
        small(model={"cross_modality": True, "weights": "w.pt"})


def test_models_by_name():
    model = registry.build("resnet18", in_channels=20, num_classes=101, width=8)
    assert model(torch.zeros(2, 20, 64, 64)).shape == (2, 101)
    with pytest.raises(UsageError, match=r"batch_nrm is not an option of googlenet; its options: batch_norm"):
        registry.build("googlenet", in_channels=3, num_classes=2, batch_nrm=True)
    with pytest.raises(UsageError, match=r"batch_norm of googlenet is 'no'; allowed: True | False"):
        registry.build("googlenet", in_channels=3, num_classes=2, batch_norm="no")
    with pytest.raises(UsageError, match="'vgg'; allowed: cnn_m_2048, resnet18"):
        registry.build("vgg", in_channels=3, num_classes=2)
    rows = {row.name: row.to_dict() for row in summary.describe_models()}
    assert set(rows) == set(registry.MODELS)
    # 96 x 7 x 7 filters for 17 more channels
    assert rows["cnn_m_2048"]["parameters"] == {"spatial": 90_707_781 - 96 * 49 * 17, "temporal": 90_707_781}
    assert rows["resnet18"]["crop"] == "from 32" and "He et al. 2016" in rows["resnet18"]["summary"]


def test_training_the_last_layer_leaves_the_rest():
    model = registry.make_model(small(), 4)
    weights.freeze_all_but(model, ("fc",))
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    weights.set_training(model)
    assert not model.bn1.training and model.dropout.training


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_cnn_m_is_the_published_chain_of_layers(stream):
    """One forward, written out with torch's functions."""
    torch.manual_seed(1)
    recipe = cnn_m(stream)
    model = registry.make_model(recipe, 5).eval()
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
