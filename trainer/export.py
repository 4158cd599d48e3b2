"""A trained network as one file that runs without this package: ONNX, or torch.export's."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from flowprep.errors import UsageError
from trainer.errors import ExportDiffers
from trainer.evaluation.evaluate import load_run
from trainer.files import write_atomically
from trainer.models import registry

SUFFIXES = (".onnx", ".pt2")
INPUTS = {"spatial": "rgb", "temporal": "flow"}
# Of the largest logit: what another order of float32 sums, 1e-7 each, makes through some fifty layers.
TOLERANCE = 1e-4


class _Judged(nn.Module):
    """The outputs that stand for the run's classes, without those of further heads."""

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(*inputs)
        return logits[:, : self.classes]


def export(run: Path, out: Path) -> float:
    """Write the network of a run; its classes and its recipe, which says how inputs are made, are inside.

    The file takes as many clips as there are, at the recipe's crop, and gives logits. In ONNX the classes and
    the recipe are metadata, as JSON by the names "classes" and "recipe"; in torch.export's they are the extra
    files "classes.json" and "recipe.json".

    Args:
        run: folder of a training run.
        out: NAME.onnx or NAME.pt2 (torch.export).

    Returns:
        As write_network.

    Raises:
        UsageError, CheckpointDamaged, ExportDiffers: as load_run and write_network.
    """
    model, kept = load_run(run, torch.device("cpu"))
    recipe = kept.recipe
    for part in registry.find_module(recipe.model.name).SPEC.for_training:
        setattr(model, part, None)
    shapes = registry.input_shapes(recipe, batch=2)
    about = {"classes": json.dumps(kept.classes), "recipe": json.dumps(recipe.to_dict())}
    names = [INPUTS[stream] for stream in shapes]
    return write_network(model, len(kept.classes), names, list(shapes.values()), out, about)


def write_network(
    model: nn.Module,
    classes: int,
    names: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    out: Path,
    about: dict[str, str],
) -> float:
    """Write a network, and hold the file's outputs for random inputs against the network's.

    Args:
        model: on the CPU; it is put into evaluation mode.
        classes: how many of its outputs count; further ones are left out.
        names, shapes: of each input, (2, ...); the first axis stays free.
        out: NAME.onnx or NAME.pt2.
        about: text that goes into the file, by its names.

    Returns:
        The largest difference of an output, as a share of the largest output.

    Raises:
        UsageError: another suffix, or what ONNX needs is not installed.
        ExportDiffers: the difference is above TOLERANCE; nothing is written.
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out}: the suffix says what is written; allowed: {' | '.join(SUFFIXES)}")
    # The trainer keeps weights channels last, in which torch's archive sees parts of tensors and warns.
    model = _Judged(model, classes).eval()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    examples = tuple(torch.zeros(shape) for shape in shapes)
    clips = torch.export.Dim("clips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporters use names that torch gives up
        program = torch.export.export(
            model, examples, dynamic_shapes={"inputs": tuple({0: clips} for _ in examples)}
        )
        content = _onnx(program, names, about) if out.suffix == ".onnx" else _pt2(program, about)
    # Of another number of clips than the example, so that a fixed one would be seen.
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn((3, *shape[1:]), generator=generator) for shape in shapes]
    with torch.inference_mode():
        want = model(*inputs)
    got = _run_onnx(content, inputs) if out.suffix == ".onnx" else _run_pt2(content, inputs)
    differs = float((got - want).abs().max() / want.abs().max())
    if not differs <= TOLERANCE:
        raise ExportDiffers(
            f"{out}: the exported network's outputs differ by {differs:.1e} of the largest, "
            f"{TOLERANCE:.0e} is allowed; nothing is written"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(content))
    return differs


def _onnx(program: torch.export.ExportedProgram, names: Sequence[str], about: dict[str, str]) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as exc:
        raise UsageError(f"{exc.name} is not installed; pip install 'flowprep[export]'") from exc
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # else it says of libraries that are not needed that they are missing
    try:
        exported = torch.onnx.export(
            program, input_names=list(names), output_names=["logits"], dynamo=True, verbose=False
        )
    finally:
        logger.setLevel(level)
    assert exported is not None  # it is for the older exporter that this may be None
    exported.model.metadata_props.update(about)
    return bytes(exported.model_proto.SerializeToString())


def _run_onnx(content: bytes, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return torch.from_numpy(session.run(None, given)[0])


def _pt2(program: torch.export.ExportedProgram, about: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{name}.json": text for name, text in about.items()})
    return buffer.getvalue()


def _run_pt2(content: bytes, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.export.load(io.BytesIO(content)).module()(*inputs)  # type: ignore[no-any-return]
