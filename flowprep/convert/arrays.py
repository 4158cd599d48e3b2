"""Export to arrays of pixels: .npy files, and .flo files as MPI-Sintel has them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowprep.convert.output import ExportFolder, FolderResult
from flowprep.corpus.video import Video
from flowprep.flo import write_flo
from flowprep.system.disk import naming_file

PAIRS_IN_MEMORY = 32


def flow_of_pairs(video: Video) -> Iterator[npt.NDArray[np.float32]]:
    """The flow of each pair: (2, H, W) float32, pixels."""
    for start in range(0, video.num_pairs, PAIRS_IN_MEMORY):
        yield from video.flow(start, min(PAIRS_IN_MEMORY, video.num_pairs - start))


def write_npy_folder(video: Video, out: ExportFolder, name: str, stored_at: int) -> FolderResult:
    """Write `flow.npy`, (pairs, 2, H, W) float32 pixels, and `rgb.npy`, (frames, H, W, 3) uint8.

    Args:
        video: the video.
        out: the export.
        name: relative path of the video's folder.
        stored_at: time of the video's shards, ns; an older folder is replaced.
    """
    if out.is_done(name, stored_at):
        return FolderResult(False)
    height, width = video.height, video.width
    with out.whole_folder(name) as folder:
        if "flow_u" in video.streams:
            shape = (video.num_pairs, 2, height, width)
            _write_npy(folder / "flow.npy", "<f4", shape, flow_of_pairs(video))
        if "rgb" in video.streams:
            shape = (video.num_frames, height, width, 3)
            _write_npy(folder / "rgb.npy", "|u1", shape, map(video.rgb, range(video.num_frames)))
    return _all_of(video)


def write_flo_folder(video: Video, out: ExportFolder, name: str, stored_at: int) -> FolderResult:
    """Write `frame_0001.flo`, the flow from `frame_0001.jpg` to the next frame, and so on.

    Arguments and result are those of `write_npy_folder`.
    """
    if out.is_done(name, stored_at):
        return FolderResult(False)
    with out.whole_folder(name) as folder:
        if "rgb" in video.streams:
            for number in range(video.num_frames):
                (folder / f"frame_{number + 1:04d}.jpg").write_bytes(video.stored("rgb", number))
        for number, flow in enumerate(flow_of_pairs(video), 1):
            write_flo(flow, folder / f"frame_{number:04d}.flo")
    return _all_of(video)


def _all_of(video: Video) -> FolderResult:
    frames = video.num_frames if "rgb" in video.streams else 0
    return FolderResult(True, frames, video.num_pairs if "flow_u" in video.streams else 0)


def _write_npy(
    path: Path, dtype: str, shape: tuple[int, ...], items: Iterable[npt.NDArray[np.generic]]
) -> None:
    """Write an array, item by item. A mapped file would end the process with SIGBUS on a full disk."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    with naming_file(path, size), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for item in items:
            file.write(np.ascontiguousarray(item, dtype).data)
