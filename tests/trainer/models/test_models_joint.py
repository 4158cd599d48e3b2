"""Networks that join streams or time steps, against the formulas of their papers."""

import pytest
import torch
import torch.nn.functional as F

from flowprep.errors import UsageError
from trainer.models import conv_fusion, objective, registry, weights


def used(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def joint(name, width=4, dropout=0.0, **options):
    torch.manual_seed(0)
    return registry.build(name, in_channels=4, num_classes=3, width=width, dropout=dropout, **options).eval()


def clip(steps=3, side=64, batch=2):
    return torch.randn(batch, 3, steps, side, side), torch.randn(batch, 4, steps, side, side)


def still(steps, side=64):
    rgb, flow = clip(1, side)
    return rgb.expand(-1, -1, steps, -1, -1), flow.expand(-1, -1, steps, -1, -1)


# --- inflation


@pytest.mark.parametrize("how", ["average", "centre"])
def test_inflated_filters_agree_on_a_still_video(how):
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(2, 3, 9, 9)
    inflated = weights.inflate(weight, 3, how)
    assert inflated.shape == (4, 3, 3, 3, 3)
    got = F.conv3d(x.unsqueeze(2).expand(-1, -1, 5, -1, -1), inflated)
    want = F.conv2d(x, weight).unsqueeze(2).expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(got, want)
    assert torch.equal(inflated[:, :, 0] == 0, torch.full_like(weight == 0, how == "centre"))


@pytest.mark.parametrize("taps", ["average", "centre"])
@pytest.mark.parametrize("stage", [1, 2])
def test_st_resnet_on_a_still_video_is_its_towers(tmp_path, taps, stage):
    """The motion stream has the outputs of its ResNet-50. Without motion, the appearance stream has, too."""
    towers = {}
    for stream, channels in (("spatial", 3), ("temporal", 4)):
        tower = registry.build("resnet50", in_channels=channels, num_classes=3, width=4)
        for module in tower.modules():  # no statistics are those of a new layer
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
                torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
                torch.nn.init.uniform_(module.bias, -0.2, 0.2)
        torch.save(tower.state_dict(), tmp_path / stream)
        towers[stream] = tower.eval()
    net = joint("st_resnet", stage=stage, taps=taps)
    weights.load_towers(net, tmp_path / "spatial", tmp_path / "temporal", taps=taps)
    rgb, flow = still(11 if stage == 2 else 5)
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        appearance, motion = net(rgb, flow).unbind(2)
        torch.testing.assert_close(motion, towers["temporal"](flow[:, :, 0]), rtol=1e-4, atol=1e-4)
        # The same network by the paper's equation, for one time step.
        a, m = towers["spatial"], towers["temporal"]
        x, y = a(rgb[:, :, 0], until="pool1"), m(flow[:, :, 0], until="pool1")
        for stage_name in a.stages:
            units, others = getattr(a, stage_name), getattr(m, stage_name)
            added, y = units[0].branch(x) + units[0].downsample(x), others[0](y)
            x = F.relu(F.relu(added) + units[1].branch(added + y))
            y = others[1](y)
            for unit, other in zip(units[2:], others[2:], strict=True):
                x, y = unit(x), other(y)
        want = a.fc(x.mean((2, 3)))
        torch.testing.assert_close(appearance, want, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(appearance, a(rgb[:, :, 0]), atol=1e-3)  # motion changes it
        net.eval()
        both = (appearance.softmax(1) + motion.softmax(1)) / 2
        torch.testing.assert_close(net(rgb, flow).softmax(1), both)


def test_st_resnet_depends_on_the_order_of_time_steps():
    net = joint("st_resnet", taps="average")
    rgb, flow = clip(5)
    with torch.no_grad():
        # Three taps of one third are symmetric; learnt taps are not.
        for module in net.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.weight[:, :, 0] *= 2
        assert not torch.allclose(net(rgb, flow), net(rgb.flip(2), flow.flip(2)), atol=1e-4)


def test_st_resnet_has_eight_temporal_convolutions_in_each_stream():
    with torch.device("meta"):
        net = registry.build("st_resnet", in_channels=20, num_classes=101)
        towers = [registry.build("resnet50", in_channels=c, num_classes=101) for c in (3, 20)]
    over_time = {n: tuple(m.weight.shape) for n, m in net.named_modules() if isinstance(m, torch.nn.Conv3d)}
    assert over_time == {
        f"{stream}.layer{k}.1.{conv}": (outputs, inputs, 3, 1, 1)
        for stream in ("spatial", "temporal")
        for k, inner in enumerate((64, 128, 256, 512), 1)
        for conv, inputs, outputs in (("conv1", 4 * inner, inner), ("conv3", inner, 4 * inner))
    }
    more = 2 * sum(2 * 2 * 4 * inner**2 for inner in (64, 128, 256, 512))
    assert used(net) == sum(map(used, towers)) + more


def test_st_resnet_as_released():
    """Zeros before and after the time steps, a loss of every time step, and the mean of the logits."""
    released = {"padding": "zeros", "step_loss": True, "average": "logits"}
    net = joint("st_resnet", **released)
    rgb, flow = clip(5)
    units = [m for m in net.modules() if isinstance(m, torch.nn.Conv3d)]
    x = torch.randn(1, units[0].in_channels, 5, 2, 2)
    taps = units[0].weight
    with torch.no_grad():
        want = F.conv3d(F.pad(x, (0, 0, 0, 0, 1, 1)), taps)
        torch.testing.assert_close(units[0](x), want)
        net.train()
        for module in net.modules():  # the same in training and in evaluation
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        per_step = net(rgb, flow)
        assert per_step.shape == (2, 3, 2 * 5)
        torch.testing.assert_close(net.eval()(rgb, flow), per_step.mean(2))
    y = torch.tensor([0, 2])
    loss = sum(F.cross_entropy(per_step[:, :, k], y, reduction="none") for k in range(10))
    torch.testing.assert_close(objective.losses(net, per_step, y), loss)
    stage2 = joint("st_resnet", stage=2, **released).train()
    assert stage2(*clip(11)).shape == (2, 3, 2 * 4)  # the pool leaves four of eleven time steps


# --- convolutional fusion


def test_concat_starts_from_trained_towers(tmp_path):
    """The layer after the fusion is the mean of what the tower's layer gives for both maps."""
    towers = []
    for stream, channels in (("spatial", 3), ("temporal", 4)):
        towers.append(registry.build("vgg16", in_channels=channels, num_classes=3, width=4, dropout=0.0))
        torch.save(towers[-1].state_dict(), tmp_path / stream)
    net = joint("conv_fusion", fusion="concat", both=False)
    weights.load_towers(net, tmp_path / "spatial", tmp_path / "temporal")
    rgb, flow = clip(1)
    with torch.no_grad():
        a, b = (t.eval()(x[:, :, 0], until="relu5_3") for t, x in zip(towers, (rgb, flow), strict=True))
        classifier = towers[0].classifier
        maps = [F.adaptive_avg_pool2d(F.max_pool2d(m, 2), 7).flatten(1) for m in (a, b)]
        hidden = (classifier[0](maps[0]) + classifier[0](maps[1])) / 2
        torch.testing.assert_close(net(rgb, flow), classifier[1:](hidden), rtol=1e-4, atol=1e-5)
    assert torch.equal(net.temporal.classifier[0].weight, towers[1].classifier[0].weight)


@pytest.mark.parametrize(
    ("fusion", "millions"), [("sum", 97.31), ("max", 97.31), ("concat", 172.81), ("bilinear", None)]
)
def test_fused_vgg_m_has_the_parameters_of_table_1(fusion, millions):
    """Feichtenhofer et al. 2016, for CNN-M towers fused after the fifth layer, and one tower after it."""
    with torch.device("meta"):
        net = registry.build(
            "conv_fusion",
            in_channels=20,
            num_classes=101,
            tower="cnn_m_2048",
            layer="relu5",
            fusion=fusion,
            both=False,
            stop=False,
        )
    # The table counts the first layer of both towers as that of flow, as the figure of two streams does.
    found = used(net) + 17 * 96 * 49
    if millions:
        assert abs(found / 1e6 - millions) < 0.01
    else:  # two towers up to the layer, and a classifier of 512 x 512 products
        layers = 6_608_608  # conv1 to conv5 for 20 channels
        assert found == 2 * layers + 101 * (512 * 512 + 1)


def test_fusion_starts_as_a_smoothed_weighted_sum():
    weight = conv_fusion.weighted_sum_filters(5, 3)
    assert weight.shape == (5, 10, 3, 3, 3)
    torch.testing.assert_close(weight.sum((2, 3, 4)), torch.cat([torch.eye(5) / 4, torch.eye(5) * 3 / 4], 1))
    ratio = torch.tensor(-0.5).exp()  # of neighbouring cells, sigma 1
    torch.testing.assert_close(weight[0, 0, 1, 1, 0], weight[0, 0, 1, 1, 1] * ratio)
    torch.testing.assert_close(weight[0, 0, 0, 0, 0], weight[0, 0, 1, 1, 1] * ratio**3)
    one = conv_fusion.weighted_sum_filters(5, 1)
    torch.testing.assert_close(one[..., 0, 0, 0], weight.sum((2, 3, 4)))


@pytest.mark.parametrize("fusion", ["conv", "sum", "max", "concat", "bilinear"])
def test_fusions_by_their_formulas(fusion):
    net = joint("conv_fusion", fusion=fusion, both=False)
    rgb, flow = clip()
    with torch.no_grad():
        maps = [
            torch.stack([tower.features[:30](x[:, :, t]) for t in range(3)], 2)  # up to relu5_3
            for tower, x in ((net.spatial, rgb), (net.temporal, flow))
        ]
        a, b = maps
        if fusion == "bilinear":
            n, d = a.shape[:2]
            outer = a.reshape(n, d, -1) @ b.reshape(n, d, -1).transpose(1, 2)
            want = net.classifier(F.normalize(outer.flatten(1).sqrt()))  # maps after a ReLU: no signs
        else:
            fused = {
                "conv": lambda: F.relu(net.join(torch.cat([a, b], 1))),
                "sum": lambda: a + b,
                "max": lambda: torch.maximum(a, b),
                "concat": lambda: torch.cat([a, b], 1),
            }[fusion]()
            pooled = F.max_pool3d(fused, (3, 2, 2))[:, :, 0]  # 2 x 2 x T
            want = net.spatial.classifier(F.adaptive_avg_pool2d(pooled, 7).flatten(1))
        torch.testing.assert_close(net(rgb, flow), want, rtol=1e-4, atol=1e-5)


def test_fusion_stops_the_gradient_at_its_layer_and_keeps_the_temporal_tower():
    net = joint("conv_fusion")
    rgb, flow = clip()
    learns = {n for n, p in net.named_parameters() if p.requires_grad}
    assert learns == {
        "join.weight",
        "join.bias",
        *(
            f"{t}.classifier.{k}.{p}"
            for t in ("spatial", "temporal")
            for k in (0, 3, 6)
            for p in ("weight", "bias")
        ),
    }
    with torch.no_grad():
        evaluated = net(rgb, flow).softmax(1)
        fused, motion = net.train()(rgb, flow).unbind(2)
        torch.testing.assert_close(evaluated, (fused.softmax(1) + motion.softmax(1)) / 2)
        # The temporal tower alone: the maximum over the time steps of the input of its pool.
        maps = torch.stack([net.temporal.features[:30](flow[:, :, t]) for t in range(3)], 2).amax(2)
        torch.testing.assert_close(motion, net.temporal(maps, after="relu5_3"), rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for p in joint("conv_fusion", stop=False).parameters())


def test_both_losses_count():
    logits, y = torch.randn(4, 3, 2), torch.tensor([0, 2, -100, 1])
    net = joint("conv_fusion")
    want = sum(F.cross_entropy(logits[..., k], y, reduction="none") for k in range(2))
    torch.testing.assert_close(objective.losses(net, logits, y), want)
    assert objective.losses(net, logits, y)[2] == 0
    torch.testing.assert_close(
        objective.losses(net, logits[..., 0], y).sum() / 3, F.cross_entropy(logits[..., 0], y)
    )


def test_towers_come_from_trained_networks(tmp_path):
    towers = [registry.build("vgg16", in_channels=c, num_classes=k, width=4) for c, k in ((3, 3), (3, 9))]
    for name, tower in zip(("rgb", "images"), towers, strict=True):
        torch.save(tower.state_dict(), tmp_path / name)
    net = joint("conv_fusion")
    weights.load_towers(net, tmp_path / "rgb", tmp_path / "images", cross_modality=True)
    state = towers[0].state_dict()
    assert all(torch.equal(v, state[k]) for k, v in net.spatial.state_dict().items())
    first = towers[1].features[0].weight
    assert torch.equal(net.temporal.features[0].weight, weights.flow_filters(first, 4))
    assert torch.equal(net.temporal.classifier[3].weight, towers[1].classifier[3].weight)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layer": "relu9"}, "layer is 'relu9'; allowed: conv1_1, relu1_1"),
        ({"fusion": "product"}, "fusion of conv_fusion is 'product'; allowed: conv | sum"),
        (
            {"fusion": "concat", "tower": "resnet50", "layer": "layer1.0"},
            "'concat' needs a tower whose layers are a chain",
        ),
        (
            {"fusion": "concat", "layer": "fc8"},
            "layer is 'fc8', the last of vgg16; fusion 'concat' needs a layer after it",
        ),
    ],
)
def test_impossible_fusions_are_refused(options, says):
    with pytest.raises(UsageError, match=says):
        joint("conv_fusion", **options)


# --- Actions ~ Transformations


def test_transformations_by_hand():
    """Cosines of all pairs of splits, from the embedding of each frame; in evaluation, of the best pair."""
    net = joint("siamese_transform", width=2)
    x = torch.randn(2, 4, 13, 32, 32)
    with torch.no_grad():
        frames = torch.stack([net.tower(x[:, :, t]) for t in range(13)], 1)  # (N, T, D)
        matrices = net.transformations.weight.view(3, 16, 16)
        pairs = []
        for first in (5, 6):  # [13/3, 13/2]
            for second in (7, 8):  # [13/2, 26/3]
                before, after = frames[:, :first].mean(1), frames[:, second:].mean(1)
                pairs.append(
                    F.cosine_similarity(torch.einsum("cij,nj->nci", matrices, before), after[:, None], 2)
                )
        pairs = torch.stack(pairs, 2)
        torch.testing.assert_close(net(x), pairs.amax(2), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.train()(x), pairs, rtol=1e-4, atol=1e-5)


def test_contrastive_loss_by_hand():
    """Two classes at two pairs of splits. The first class is true, and the second pair is the best for it."""
    net = joint("siamese_transform", width=2)
    cosines = torch.tensor([[[0.1, 0.8], [0.9, 0.7]]] * 2)
    got = objective.losses(net, cosines, torch.tensor([0, -100]))
    torch.testing.assert_close(got, torch.tensor([0.2 + (0.5 - 0.3), 0.0]))
    far = torch.tensor([[[0.1, 0.8], [0.9, 0.4]]])
    torch.testing.assert_close(objective.losses(net, far, torch.tensor([0])), torch.tensor([0.2]))
    # The best splits give the prediction, also in training. The mean would give the second class.
    torch.testing.assert_close(objective.class_scores(net, far), torch.tensor([[0.8, 0.9]]))
    mixed = torch.tensor([[[0.1, 0.95], [0.6, 0.7]]])
    assert objective.class_scores(net, mixed).argmax(1).tolist() == [0]


# --- FstCN


def test_fstcn_shapes_and_differences():
    net = registry.build("fstcn", in_channels=3, num_classes=101, width=96)
    seen = {}
    for name in ("conv1", "conv2", "conv4", "space", "time", "time3", "time5", "space_fc", "time_fc"):
        getattr(net, name).register_forward_hook(
            lambda _m, i, out, name=name: seen.update({name: (i[0], out)})
        )
    x = torch.randn(1, 3, 6, 224, 224)
    with torch.no_grad():
        net.eval()(x)
    assert {name: tuple(out.shape[1:]) for name, (_, out) in seen.items()} == {
        "conv1": (96, 109, 109),
        "conv2": (256, 26, 26),
        "conv4": (512, 13, 13),
        "space": (128, 13, 13),
        "time": (128, 13, 13),
        "time3": (32, 5),
        "time5": (32, 5),
        "space_fc": (2048,),
        "time_fc": (2048,),
    }
    given = seen["conv1"][0]  # five time steps of one clip
    assert torch.equal(given[3], torch.cat([x[0, :, 3], x[0, :, 4] - x[0, :, 3]]))
    # A temporal filter reads the channels of one cell, in the order of the time steps.
    maps = F.max_pool2d(F.relu(seen["time"][1]), 3)  # (5, 128, 4, 4)
    torch.testing.assert_close(seen["time3"][0][6], maps[:, :, 1, 2].T)  # the matrix is still the identity
