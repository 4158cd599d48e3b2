"""Exported networks, against the networks that they come from."""

import json

import numpy as np
import pytest
import torch

from flowprep import Settings
from flowprep.errors import UsageError
from tests.support.fakes import small
from trainer import errors
from trainer.export import TOLERANCE, export, write_network
from trainer.models import registry
from trainer.training import checkpoint

CLASSES = ("Jump", "Run", "Sit")


def make_run(folder, stream="temporal", heads=(3,), **model):
    """The recipe and the network of a run's folder, as after one step."""
    recipe = small(stream, model=model)
    torch.manual_seed(0)
    network = registry.make_model(recipe, sum(heads))
    state = checkpoint.Checkpoint(
        recipe=recipe,
        classes=CLASSES,
        heads=heads,
        corpus=Settings(),
        examples="",
        step=1,
        model=network.state_dict(),
        optimizer={},
        scaler={},
        best=None,
        precision="float32",
    )
    folder.mkdir()
    checkpoint.save(folder / "last.pt", state)
    return recipe, network.eval()


@pytest.fixture(scope="module")
def temporal_run(tmp_path_factory):
    """A run of one head: its folder, its recipe and its network."""
    folder = tmp_path_factory.mktemp("export") / "run"
    return folder, *make_run(folder)


@pytest.fixture(scope="module", params=["spatial", "temporal"])
def onnx_export(request, tmp_path_factory):
    """A run of two heads, exported once: stream, recipe, network, file, result."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp(f"onnx-{request.param}")
    recipe, network = make_run(folder / "run", request.param, heads=(3, 4))
    file = folder / "new" / "model.onnx"
    return request.param, recipe, network, file, export(folder / "run", file)


@pytest.mark.slow
def test_onnx_has_the_inputs_and_the_metadata_of_the_run(onnx_export):
    import onnxruntime

    stream, recipe, _, file, result = onnx_export
    assert result.difference <= TOLERANCE
    assert result.to_dict() == {
        "run": str(file.parent.parent / "run"),
        "out": str(file),
        "difference": result.difference,
    }
    session = onnxruntime.InferenceSession(file)
    (given,) = session.get_inputs()
    assert given.name == {"spatial": "rgb", "temporal": "flow"}[stream]
    assert given.shape[1:] == [recipe.channels, 32, 32] and isinstance(given.shape[0], str)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == list(CLASSES)
    assert json.loads(metadata["recipe"]) == recipe.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("clips", [1, 5])
def test_onnx_gives_the_logits_of_the_run(onnx_export, clips):
    import onnxruntime

    _, recipe, network, file, _ = onnx_export
    session = onnxruntime.InferenceSession(file)
    x = torch.randn(clips, recipe.channels, 32, 32)
    (logits,) = session.run(["logits"], {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = network(x)[:, :3].numpy()  # without the second head
    # Sums in another order, through 18 layers.
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_torch_export_gives_what_the_run_gives(temporal_run, tmp_path):
    run, recipe, network = temporal_run
    assert export(run, tmp_path / "model.pt2").difference <= TOLERANCE
    extra = {"classes.json": "", "recipe.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    assert json.loads(extra["classes.json"]) == list(CLASSES)
    x = torch.randn(5, recipe.channels, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(program(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_parts_of_training_only_are_left_out(tmp_path):
    _, network = make_run(tmp_path / "run", name="googlenet", width=8, options={"auxiliary": True})
    export(tmp_path / "run", tmp_path / "model.pt2")
    names = set(torch.export.load(tmp_path / "model.pt2").state_dict)
    kept = {name for name in network.state_dict() if not name.startswith("aux")}
    assert names == {f"model.{name}" for name in kept} and len(kept) < len(network.state_dict())


@pytest.mark.slow
def test_a_joint_network_has_two_inputs(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = registry.build("st_resnet", in_channels=4, num_classes=3, width=2)
    shapes = [(2, 3, 3, 32, 32), (2, 4, 3, 32, 32)]
    write_network(network, 3, ["rgb", "flow"], shapes, tmp_path / "m.onnx", {})
    names = [i.name for i in onnxruntime.InferenceSession(tmp_path / "m.onnx").get_inputs()]
    assert names == ["rgb", "flow"]


@pytest.mark.parametrize("weight", [1.0, float("nan")])
def test_an_export_that_differs_is_not_written(tmp_path, weight):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    torch.nn.init.constant_(network[1].weight, weight)
    tolerance = -1.0 if weight == 1.0 else 1.0  # NaN is within no tolerance
    with pytest.raises(errors.ExportDiffers, match="no file was written"):
        write_network(network, 3, ["rgb"], [(2, 3, 2, 2)], tmp_path / "model.pt2", {}, tolerance=tolerance)
    assert not (tmp_path / "model.pt2").exists()


def test_wrong_use(temporal_run, tmp_path):
    with pytest.raises(UsageError, match="not a training run"):
        export(tmp_path, tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=r"model.pth: the suffix .* allowed: .onnx \| .pt2"):
        export(temporal_run[0], tmp_path / "model.pth")
