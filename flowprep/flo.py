"""Flow files of the Middlebury benchmark (.flo).

Format: "PIEH", width and height as int32, then u and v of each pixel as float32, row by row. All numbers are
little-endian. A component above 1e9 marks a pixel with unknown motion.

Source: Baker, Scharstein, Lewis, Roth, Black, Szeliski, "A database and evaluation methodology for optical
flow", IJCV 2011.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowprep.errors import UsageError
from flowprep.system.disk import naming_file
from flowprep.system.files import read_regular

MAGIC = b"PIEH"
UNKNOWN = 1e9
MAX_BYTES = 1 << 30  # of a file that is read: a field of 16K by 8K


def write_flo(flow: npt.NDArray[np.floating], path: str | Path) -> None:
    """Write (2, H, W) displacements in pixels, u = right and v = down.

    Raises:
        UsageError: the flow has another shape.
    """
    flow = np.asarray(flow)
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise UsageError(f"flow has shape {flow.shape}; allowed: (2, H, W)")
    size = np.array(flow.shape[:0:-1], "<i4").tobytes()
    data = MAGIC + size + flow.transpose(1, 2, 0).astype("<f4").tobytes()
    with naming_file(Path(path), len(data)):
        Path(path).write_bytes(data)


def read_flo(path: str | Path) -> npt.NDArray[np.float32]:
    """Read a flow file: (2, H, W) float32, pixels; NaN where the motion is unknown.

    Raises:
        UsageError: the file is not a whole .flo file, or no regular file.
    """
    data = read_regular(path, max_bytes=MAX_BYTES)
    width, height = np.frombuffer(data[4:12].ljust(8, b"\0"), "<i4").tolist()
    if data[:4] != MAGIC or min(width, height) < 1 or len(data) != 12 + 8 * width * height:
        raise UsageError(f"{path} is not a complete .flo file")
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1)
    known = (np.abs(flow) <= UNKNOWN).all(axis=0)  # false for NaN as well
    return np.asarray(np.where(known, flow, np.nan), np.float32)
