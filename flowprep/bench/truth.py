"""End-point errors of an engine on pairs with known flow."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowprep.engines import make_engine, resolve
from flowprep.errors import UsageError
from flowprep.flo import read_flo
from flowprep.presets import PRESETS, Tvl1Settings, default_preset, preset_name
from flowprep.video.frames import read_image, to_grey


@dataclass(frozen=True)
class EndpointErrors:
    """Mean end-point errors.

    Attributes:
        engine: name of the engine.
        tvl1: its parameters.
        errors_px: for each .flo file, and for "mean", the errors of "ours" and "opencv" in pixels.
    """

    engine: str
    tvl1: Tvl1Settings
    errors_px: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """The errors as JSON values, and the name of the preset."""
        return {**asdict(self), "preset": preset_name(self.tvl1)}


def endpoint_errors(folder: Path, engine: str = "auto", tvl1: Tvl1Settings | None = None) -> EndpointErrors:
    """Compare an engine, and OpenCV with its default parameters, with the true flow.

    Args:
        folder: the folder in which .flo files are searched. The frames of a file are in its folder: those of
            flow10.flo are frame10.png and frame11.png, those of frame_0002.flo are frame_0002.png and
            frame_0003.png.
        engine: name of the engine.
        tvl1: its parameters; None for its default preset.

    Raises:
        UsageError: there is no .flo file, or one has no frames of its size in its folder.
    """
    engine = resolve(engine)
    tvl1 = tvl1 or PRESETS[default_preset(engine)]
    solvers = {"ours": make_engine(engine, tvl1), "opencv": make_engine("opencv", PRESETS["opencv"])}
    errors: dict[str, dict[str, float]] = {}
    for path in sorted(folder.rglob("*.flo")):
        truth = read_flo(path)
        frames = np.stack([to_grey(read_image(frame)) for frame in _frames_of(path)])
        if frames.shape[1:] != truth.shape[1:]:
            raise UsageError(
                f"{path} is {truth.shape[1:]} pixels (height, width), but its frames are {frames.shape[1:]}"
            )
        flows = {name: solver.solve(frames, [0], [1])[0] for name, solver in solvers.items()}
        errors[path.relative_to(folder).as_posix()] = {
            name: float(np.nanmean(np.hypot(*(flow - truth)))) for name, flow in flows.items()
        }
    if not errors:
        raise UsageError(f"no .flo file in {folder}")
    errors["mean"] = {name: float(np.mean([error[name] for error in errors.values()])) for name in solvers}
    rounded = {path: {name: round(error, 4) for name, error in row.items()} for path, row in errors.items()}
    return EndpointErrors(engine, tvl1, rounded)


def _frames_of(path: Path) -> tuple[Path, Path]:
    """The two frames of a .flo file; their names have its number and the next one."""
    match = re.fullmatch(r"(?:flow|frame)(\D*)(\d+)", path.stem)
    if match:
        separator, number = match.groups()
        names = [f"frame{separator}{int(number) + i:0{len(number)}d}.png" for i in (0, 1)]
        first, second = (path.with_name(name) for name in names)
        if first.exists() and second.exists():
            return first, second
    raise UsageError(
        f"the two frames of {path} are not in its folder: flow10.flo needs frame10.png and frame11.png"
    )
