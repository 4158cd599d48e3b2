"""Numbers of parameters, shapes of layers and names of weights, against the published networks."""

import pytest
import torch
from torch import nn

from flowprep.errors import UsageError
from trainer.models import objective, registry, weights


def on_meta(name, in_channels=3, num_classes=101, **options):
    with torch.device("meta"):
        return registry.build(name, in_channels=in_channels, num_classes=num_classes, **options).eval()


def count(model):
    return sum(p.numel() for p in model.parameters())


def shapes(model, *inputs):
    """Shape of the output of each named layer of a tower, without the batch."""
    x = torch.empty(*inputs, device="meta")
    found = {}
    for name, step in model.steps().items():
        x = step(x)
        found[name] = tuple(x.shape[1:])
    return found


# --- parameters


@pytest.mark.parametrize(
    ("name", "classes", "options", "parameters"),
    [
        ("resnet50", 1000, {}, 25_557_032),  # as torchvision counts them
        ("vgg16", 1000, {}, 138_357_544),
        ("googlenet", 1000, {}, 6_624_904),  # without the auxiliary classifiers
        ("googlenet", 1000, {"auxiliary": True}, 13_004_888),
        ("googlenet", 1000, {"batch_norm": False}, 6_998_552),  # the released Caffe network, without them
    ],
)
def test_parameters(name, classes, options, parameters):
    assert count(on_meta(name, num_classes=classes, **options)) == parameters


# --- shapes


def test_vgg16_shapes():
    found = shapes(on_meta("vgg16", 20), 1, 20, 224, 224)
    sides = {1: (64, 224), 2: (128, 112), 3: (256, 56), 4: (512, 28), 5: (512, 14)}
    for stage, (channels, side) in sides.items():
        assert found[f"relu{stage}_2"] == (channels, side, side)
        assert found[f"pool{stage}"] == (channels, side // 2, side // 2)
    assert found["relu6"] == found["relu7"] == (4096, 1, 1) and found["fc8"] == (101, 1, 1)
    assert len([n for n in found if n.startswith("conv")]) == 13


@pytest.mark.parametrize("norm", [True, False])
def test_googlenet_shapes(norm):
    found = shapes(on_meta("googlenet", batch_norm=norm), 1, 3, 224, 224)
    # the column "output size" of table 1
    assert found == {
        "conv1": (64, 112, 112),
        "pool1": (64, 56, 56),
        "conv2": (64, 56, 56),
        "conv3": (192, 56, 56),
        "pool2": (192, 28, 28),
        "inception3a": (256, 28, 28),
        "inception3b": (480, 28, 28),
        "pool3": (480, 14, 14),
        "inception4a": (512, 14, 14),
        "inception4b": (512, 14, 14),
        "inception4c": (512, 14, 14),
        "inception4d": (528, 14, 14),
        "inception4e": (832, 14, 14),
        "pool4": (832, 7, 7),
        "inception5a": (832, 7, 7),
        "inception5b": (1024, 7, 7),
        "fc": (101, 1, 1),
    }


def test_resnet50_shapes():
    found = shapes(on_meta("resnet50"), 1, 3, 224, 224)
    assert found["conv1"] == (64, 112, 112) and found["pool1"] == (64, 56, 56)
    units = {1: (3, 256, 56), 2: (4, 512, 28), 3: (6, 1024, 14), 4: (3, 2048, 7)}
    for stage, (number, channels, side) in units.items():
        names = [n for n in found if n.startswith(f"layer{stage}.")]
        assert len(names) == number and all(found[n] == (channels, side, side) for n in names)


def hooked(model, *inputs):
    """Shapes of the outputs of each layer, by name, without the batch, in the order of the calls."""
    found = {}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda _m, _i, out, name=name: found.setdefault(name, []).append(tuple(out.shape[1:]))
        )
    model(*(torch.empty(shape, device="meta") for shape in inputs))
    return found


@pytest.mark.parametrize(
    ("name", "before_first_pool", "first_connection"),
    [
        ("single", (96, 54, 54), 256 * 7 * 7),
        ("early", (96, 54, 54), 256 * 7 * 7),
        ("late", (96, 54, 54), 2 * 256 * 7 * 7),
        ("slow", (96, 4, 54, 54), 256 * 7 * 7),
        ("fovea", (96, 27, 27), 2 * 256 * 7 * 7),
    ],
)
def test_karpathy_shapes(name, before_first_pool, first_connection):
    name = f"karpathy_{name}"
    net = on_meta(name, num_classes=487)
    found = hooked(net, *registry.find_module(name).SPEC.shapes())
    tower = "context" if name.endswith("fovea") else "features"
    assert found[f"{tower}.conv1"] == [before_first_pool]
    assert found[tower] == [(256, 7, 7)]
    assert net.head.fc6.in_features == first_connection
    assert found["head.fc6"] == found["head.fc7"] == [(4096,)] and found["head.fc8"] == [(487,)]
    steps = {"conv1": 4, "conv2": 2} if name.endswith("slow") else {}  # the paper's 4 and 2 responses
    for layer, count in steps.items():
        assert found[f"features.{layer}"][0][1] == count


def test_early_fusion_spans_ten_frames():
    """Filters of 11 x 11 x 3 x 10 over the frames in their order."""
    net = registry.build("karpathy_early", in_channels=3, num_classes=2, width=4).eval()
    assert net.features.conv1.weight.shape == (4, 30, 11, 11)
    x = torch.randn(1, 3, 10, 170, 170)
    got = []
    net.features.conv1.register_forward_hook(lambda _m, i, out: got.append(out))
    net(x)
    # (O, frame x colour, 11, 11) as (O, colour, frame, 11, 11)
    weight = net.features.conv1.weight.unflatten(1, (10, 3)).transpose(1, 2)
    want = nn.functional.conv3d(x, weight, stride=(1, 3, 3)).squeeze(2)
    torch.testing.assert_close(got[0], want, rtol=1e-4, atol=1e-4)  # sums of 3630 products, in other orders


def test_fovea_sees_the_centre_and_context_all():
    net = registry.build("karpathy_fovea", in_channels=3, num_classes=2, width=4).eval()
    x = torch.randn(1, 3, 178, 178)
    outside = x.clone()
    outside[:, :, :44] = 0
    seen = {}
    for name in ("context", "fovea"):
        getattr(net, name).register_forward_hook(
            lambda _m, i, _o, name=name: seen.setdefault(name, []).append(i[0])
        )
    net(x), net(outside)
    assert all(i.shape[2:] == (89, 89) for both in seen.values() for i in both)
    assert torch.equal(*seen["fovea"]) and not torch.equal(*seen["context"])


def test_c3d_shapes():
    found = hooked(on_meta("c3d", num_classes=487), (1, 3, 16, 112, 112))
    assert found["conv1a"] == [(64, 16, 112, 112)]
    assert found["conv2a"] == [(128, 16, 56, 56)]
    assert found["conv3a"] == found["conv3b"] == [(256, 8, 28, 28)]
    assert found["conv4a"] == found["conv4b"] == [(512, 4, 14, 14)]
    assert found["conv5a"] == found["conv5b"] == [(512, 2, 7, 7)]
    assert found["fc6"] == found["fc7"] == [(4096,)] and found["fc8"] == [(487,)]


def test_small_c3d_has_17_5_million_parameters():
    """Tran et al. 2015, section 3.2, for 101 classes."""
    net = on_meta("c3d_small")
    assert abs(count(net) / 1e6 - 17.5) < 0.06
    assert hooked(net, (1, 3, 16, 112, 112))["conv5a"] == [(256, 2, 7, 7)]


# --- torchvision's weights, as their published architectures name and shape them


def norm(name, channels):
    keys = {f"{name}.{k}": (channels,) for k in ("weight", "bias", "running_mean", "running_var")}
    return {**keys, f"{name}.num_batches_tracked": ()}


def vgg16_layout(classes=1000):
    plan = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
    found, index, inputs = {}, 0, 3
    for item in plan:
        if item != "M":
            found |= {f"features.{index}.weight": (item, inputs, 3, 3), f"features.{index}.bias": (item,)}
            inputs = item
        index += 1 if item == "M" else 2
    for index, (outputs, inputs) in {0: (4096, 25088), 3: (4096, 4096), 6: (classes, 4096)}.items():
        found |= {f"classifier.{index}.weight": (outputs, inputs), f"classifier.{index}.bias": (outputs,)}
    return found


def resnet50_layout(classes=1000):
    found = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    inputs = 64
    for stage, units in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        for k in range(units):
            at = f"layer{stage + 1}.{k}"
            found |= {f"{at}.conv1.weight": (inner, inputs, 1, 1), **norm(f"{at}.bn1", inner)}
            found |= {f"{at}.conv2.weight": (inner, inner, 3, 3), **norm(f"{at}.bn2", inner)}
            found |= {f"{at}.conv3.weight": (4 * inner, inner, 1, 1), **norm(f"{at}.bn3", 4 * inner)}
            if k == 0:
                found |= {f"{at}.downsample.0.weight": (4 * inner, inputs, 1, 1)}
                found |= norm(f"{at}.downsample.1", 4 * inner)
            inputs = 4 * inner
    return {**found, "fc.weight": (classes, 2048), "fc.bias": (classes,)}


def googlenet_layout(classes=1000):
    found = {}

    def conv(name, inputs, outputs, side):
        found[f"{name}.conv.weight"] = (outputs, inputs, side, side)
        found.update(norm(f"{name}.bn", outputs))

    conv("conv1", 3, 64, 7)
    conv("conv2", 64, 64, 1)
    conv("conv3", 64, 192, 3)
    for name, inputs, one, r3, three, r5, five, after in [
        ("3a", 192, 64, 96, 128, 16, 32, 32),
        ("3b", 256, 128, 128, 192, 32, 96, 64),
        ("4a", 480, 192, 96, 208, 16, 48, 64),
        ("4b", 512, 160, 112, 224, 24, 64, 64),
        ("4c", 512, 128, 128, 256, 24, 64, 64),
        ("4d", 512, 112, 144, 288, 32, 64, 64),
        ("4e", 528, 256, 160, 320, 32, 128, 128),
        ("5a", 832, 256, 160, 320, 32, 128, 128),
        ("5b", 832, 384, 192, 384, 48, 128, 128),
    ]:
        at = f"inception{name}"
        conv(f"{at}.branch1", inputs, one, 1)
        conv(f"{at}.branch2.0", inputs, r3, 1)
        conv(f"{at}.branch2.1", r3, three, 3)
        conv(f"{at}.branch3.0", inputs, r5, 1)
        conv(f"{at}.branch3.1", r5, five, 3)
        conv(f"{at}.branch4.1", inputs, after, 1)
    for aux, inputs in (("aux1", 512), ("aux2", 528)):
        conv(f"{aux}.conv", inputs, 128, 1)
        found |= {f"{aux}.fc1.weight": (1024, 2048), f"{aux}.fc1.bias": (1024,)}
        found |= {f"{aux}.fc2.weight": (classes, 1024), f"{aux}.fc2.bias": (classes,)}
    return {**found, "fc.weight": (classes, 1024), "fc.bias": (classes,)}


@pytest.mark.parametrize(
    ("name", "layout", "options"),
    [
        ("vgg16", vgg16_layout, {}),
        ("resnet50", resnet50_layout, {}),
        ("googlenet", googlenet_layout, {}),
        ("googlenet", googlenet_layout, {"auxiliary": True}),
    ],
)
def test_imagenet_weights_load(name, layout, options, monkeypatch):
    """All of them into a network for images, and all but the last layer into one for flow."""
    spec = registry.find_module(name).SPEC
    # Each is one expanded number, so that the state of a large network needs no memory.
    state = {
        key: torch.full((), n / 100, dtype=torch.long if key.endswith("tracked") else torch.float32).expand(
            shape
        )
        for n, (key, shape) in enumerate(layout().items())
    }
    kept = {k: v for k, v in state.items() if options or not k.startswith("aux")}
    monkeypatch.setattr(weights, "read_weights", lambda path: (state, None))
    loaded = {}
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda self, state: loaded.update(state))
    images = on_meta(name, num_classes=1000, **options)
    assert {k: tuple(v.shape) for k, v in images.state_dict().items()} == {
        k: tuple(v.shape) for k, v in kept.items()
    }
    weights.load_weights(images, "weights.pth", spec)
    assert loaded == kept  # the same tensors
    flow = on_meta(name, 20, 101, **options)
    weights.load_weights(flow, "weights.pth", spec, cross_modality=True)
    first = f"{spec.first_layer}.weight"
    assert torch.equal(loaded[first], weights.flow_filters(state[first], 20))
    last = {f"{layer}.weight" for layer in spec.last_layers} & kept.keys()
    biases = {key.replace("weight", "bias") for key in last}
    assert all(loaded[key] is state[key] for key in kept.keys() - {first} - last - biases)
    assert len(last) == (3 if options else 1)
    assert all(loaded[key].shape[0] == 101 for key in last | biases)


def test_weights_without_auxiliary_classifiers_do_not_fit_a_network_with_them(tmp_path):
    torch.save(
        registry.build("googlenet", in_channels=3, num_classes=2, width=8).state_dict(), tmp_path / "w"
    )
    net = registry.build("googlenet", in_channels=3, num_classes=2, width=8, auxiliary=True)
    with pytest.raises(UsageError, match=r"aux1.conv.conv.weight missing, needed \(16, 64, 1, 1\)"):
        weights.load_weights(net, tmp_path / "w", registry.find_module("googlenet").SPEC)


def test_auxiliary_classifiers_add_to_the_loss_only():
    """Szegedy et al. 2015, section 5: their losses have a weight of 0.3, and a test does not use them."""
    torch.manual_seed(0)
    net = registry.build(
        "googlenet", in_channels=3, num_classes=4, width=8, auxiliary=True, dropout=0.0, batch_norm=False
    )
    x, y = torch.randn(3, 3, 64, 64), torch.tensor([0, 3, -100])
    seen = []
    hooks = [
        net.get_submodule(f"inception{at}").register_forward_hook(lambda *a: seen.append(a[2]))
        for at in ("4a", "4d")
    ]
    net.train()
    logits = net(x)
    for hook in hooks:
        hook.remove()
    one, two = (aux(maps) for aux, maps in zip((net.aux1, net.aux2), seen, strict=True))
    plain = net.eval()(x)
    torch.testing.assert_close(logits, torch.stack([plain, one, two], 2))
    costs = [nn.functional.cross_entropy(some, y, reduction="none") for some in (plain, one, two)]
    torch.testing.assert_close(objective.losses(net, logits, y), costs[0] + 0.3 * costs[1] + 0.3 * costs[2])
    assert objective.losses(net, logits, y)[2] == 0
    assert torch.equal(objective.class_scores(net, logits), logits[:, :, 0])
