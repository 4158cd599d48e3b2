"""Export of a trained network to one file that runs without this package: ONNX, or torch.export's format."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowprep.errors import UsageError
from trainer.errors import ExportDiffers
from trainer.evaluation.trained_run import open_run
from trainer.files import write_atomically
from trainer.models import registry

SUFFIXES = (".onnx", ".pt2")
INPUTS = {"spatial": "rgb", "temporal": "flow"}
# Largest difference of an output, as a share of the largest output. Another order of float32 sums changes
# each sum by 1e-7, through some fifty layers.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ExportResult:
    """An exported network.

    Attributes:
        run: The folder of the training run.
        out: The file.
        difference: Largest difference between the outputs of the file and of the network, as a share of the
            largest output.
    """

    run: Path
    out: Path
    difference: float

    def to_dict(self) -> dict[str, Any]:
        """The object that `trainer export --json` prints."""
        return {"run": str(self.run), "out": str(self.out), "difference": self.difference}


class ClassLogits(nn.Module):
    """A network without the outputs of further heads."""

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The network's inputs to logits (N, classes)."""
        logits: torch.Tensor = self.model(*inputs)
        return logits[:, : self.classes]


def export(run: Path, out: Path) -> ExportResult:
    """Write the network of a run to a file, with its classes and its recipe.

    The file accepts any number of clips at the recipe's crop and returns logits. In ONNX the classes and the
    recipe are metadata, as JSON with the names "classes" and "recipe". In torch.export's format they are the
    extra files "classes.json" and "recipe.json".

    Args:
        run: The folder of a training run.
        out: NAME.onnx, or NAME.pt2 for torch.export's format.

    Raises:
        UsageError: The folder is not a run, the suffix is not allowed, or a library for ONNX is missing.
        CheckpointDamaged: The checkpoint cannot be read.
        ExportDiffers: The file's outputs differ from the network's. No file is written.
    """
    opened = open_run(run)
    model, recipe = opened.load_model(), opened.recipe
    for part in registry.find_module(recipe.model.name).SPEC.for_training:
        setattr(model, part, None)
    shapes = registry.input_shapes(recipe, batch=2)
    metadata = {"classes": json.dumps(opened.classes), "recipe": json.dumps(recipe.to_dict())}
    names = [INPUTS[stream] for stream in shapes]
    difference = write_network(model, len(opened.classes), names, list(shapes.values()), out, metadata)
    return ExportResult(run, out, difference)


def write_network(
    model: nn.Module,
    classes: int,
    names: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    out: Path,
    metadata: dict[str, str],
    *,
    tolerance: float = TOLERANCE,
) -> float:
    """Write a network to a file, and compare the file's outputs with the network's for random inputs.

    Args:
        model: A network on the CPU. It is put into evaluation mode.
        classes: Number of outputs to keep. Further outputs are left out.
        names: Name of each input.
        shapes: Shape of each input, with a batch of 2. The first axis of the exported network is free.
        out: NAME.onnx or NAME.pt2.
        metadata: Texts to store in the file, by name.
        tolerance: Largest allowed difference.

    Returns:
        The largest difference of an output, as a share of the largest output.

    Raises:
        UsageError: The suffix is not allowed, or a library for ONNX is missing.
        ExportDiffers: The difference is larger than the tolerance. No file is written.
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f"{out}: the suffix selects the format; allowed: {' | '.join(SUFFIXES)}")
    # Channels-last weights look like parts of tensors to torch's archive, which then warns.
    network = ClassLogits(model, classes).eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if out.suffix == ".onnx":
        content = _encode_onnx(network, names, shapes, metadata)
    else:
        content = _encode_pt2(network, shapes, metadata)
    run = _run_onnx if out.suffix == ".onnx" else _run_pt2
    # Three clips, unlike the two of the export: a fixed batch size would fail here.
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn((3, *shape[1:]), generator=generator) for shape in shapes]
    with torch.inference_mode():
        expected = network(*inputs)
    difference = float((run(content, inputs) - expected).abs().max() / expected.abs().max())
    if not difference <= tolerance:  # true for NaN, too
        raise ExportDiffers(
            f"{out}: the exported network's outputs differ by {difference:.1e} of the largest, "
            f"{tolerance:.0e} is allowed; no file was written"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.write(content))
    return difference


def _export_program(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> torch.export.ExportedProgram:
    examples = tuple(torch.zeros(shape) for shape in shapes)
    clips = torch.export.Dim("clips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporters use deprecated names of torch
        return torch.export.export(
            network, examples, dynamic_shapes={"inputs": tuple({0: clips} for _ in examples)}
        )


def _encode_onnx(
    network: nn.Module,
    names: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    metadata: dict[str, str],
) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as exc:
        raise UsageError(f"{exc.name} is not installed; run pip install '.[export]' in the clone") from exc
    program = _export_program(network, shapes)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of optional libraries that are not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            exported = torch.onnx.export(
                program, input_names=list(names), output_names=["logits"], dynamo=True, verbose=False
            )
    finally:
        logger.setLevel(level)
    assert exported is not None  # None is a result of the older exporter only
    exported.model.metadata_props.update(metadata)
    return bytes(exported.model_proto.SerializeToString())


def _run_onnx(content: bytes, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feeds = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return torch.from_numpy(session.run(None, feeds)[0])


def _encode_pt2(network: nn.Module, shapes: Sequence[tuple[int, ...]], metadata: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    extra_files = {f"{name}.json": text for name, text in metadata.items()}
    torch.export.save(_export_program(network, shapes), buffer, extra_files=extra_files)
    return buffer.getvalue()


def _run_pt2(content: bytes, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.export.load(io.BytesIO(content)).module()(*inputs)  # type: ignore[no-any-return]
