import json

import numpy as np
import pytest
import torch

from flowprep import Settings
from flowprep.errors import UsageError
from tests.support.fakes import small
from trainer import errors, export
from trainer.models import registry
from trainer.training import checkpoint

CLASSES = ("Jump", "Run", "Sit")


def make_run(folder, stream="temporal", heads=(3,), **model):
    """A run's folder, as after one step."""
    recipe = small(stream, model=model)
    torch.manual_seed(0)
    model = registry.make_model(recipe, sum(heads))
    state = checkpoint.Checkpoint(
        recipe=recipe,
        classes=CLASSES,
        heads=heads,
        corpus=Settings(),
        examples="",
        step=1,
        model=model.state_dict(),
        optimizer={},
        scaler={},
        best=None,
        precision="float32",
    )
    folder.mkdir()
    checkpoint.save(folder / "last.pt", state)
    return recipe, model.eval()


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_onnx_gives_what_the_run_gives(tmp_path, stream):
    onnxruntime = pytest.importorskip("onnxruntime")
    recipe, model = make_run(tmp_path / "run", stream, heads=(3, 4))
    assert export.export(tmp_path / "run", tmp_path / "new" / "model.onnx") <= export.TOLERANCE
    session = onnxruntime.InferenceSession(tmp_path / "new" / "model.onnx")
    (given,) = session.get_inputs()
    assert given.name == {"spatial": "rgb", "temporal": "flow"}[stream]
    assert given.shape[1:] == [recipe.channels, 32, 32] and isinstance(given.shape[0], str)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == list(CLASSES)
    assert json.loads(about["recipe"]) == recipe.to_dict()
    for clips in (1, 5):
        x = torch.randn(clips, recipe.channels, 32, 32)
        (logits,) = session.run(["logits"], {given.name: x.numpy()})
        with torch.no_grad():
            want = model(x)[:, :3].numpy()  # without the second head
        # Sums in another order, through 18 layers.
        np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-5)


def test_torch_export_gives_what_the_run_gives(tmp_path):
    recipe, model = make_run(tmp_path / "run")
    assert export.export(tmp_path / "run", tmp_path / "model.pt2") <= export.TOLERANCE
    extra = {"classes.json": "", "recipe.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    assert json.loads(extra["classes.json"]) == list(CLASSES)
    x = torch.randn(5, recipe.channels, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(program(x), model(x), rtol=1e-4, atol=1e-5)


def test_what_only_training_uses_is_left_out(tmp_path):
    _, model = make_run(tmp_path / "run", name="googlenet", width=8, options={"auxiliary": True})
    export.export(tmp_path / "run", tmp_path / "model.pt2")
    names = set(torch.export.load(tmp_path / "model.pt2").state_dict)
    kept = {name for name in model.state_dict() if not name.startswith("aux")}
    assert names == {f"model.{name}" for name in kept} and len(kept) < len(model.state_dict())


def test_a_joint_network_has_two_inputs(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = registry.build("st_resnet", in_channels=4, num_classes=3, width=2)
    shapes = [(2, 3, 3, 32, 32), (2, 4, 3, 32, 32)]
    export.write_network(net, 3, ["rgb", "flow"], shapes, tmp_path / "m.onnx", {})
    names = [i.name for i in onnxruntime.InferenceSession(tmp_path / "m.onnx").get_inputs()]
    assert names == ["rgb", "flow"]


def test_what_differs_is_not_written(tmp_path, monkeypatch):
    make_run(tmp_path / "run")
    monkeypatch.setattr(export, "_run_pt2", lambda content, inputs: torch.ones(3, 3))
    with pytest.raises(errors.ExportDiffers, match="nothing is written"):
        export.export(tmp_path / "run", tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()


def test_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="not a training run"):
        export.export(tmp_path, tmp_path / "model.onnx")
    make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"model.pth: the suffix .* allowed: .onnx \| .pt2"):
        export.export(tmp_path / "run", tmp_path / "model.pth")
