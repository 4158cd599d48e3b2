"""Writing one shard: images are spooled as they come, tables kept in memory, the file made at the end.

A contiguous HDF5 dataset has a fixed size, so the images wait in a temporary file beside the shard: memory
stays flat, and nothing of an unfinished shard can be taken for a finished one.
"""

from __future__ import annotations

import errno
import io
import json
import shutil
import zlib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from flowprep.codec.images import encode_rgb
from flowprep.codec.quantise import EncodedField
from flowprep.corpus import format as fmt
from flowprep.settings import Settings
from flowprep.system.atomic import publish, temporary_path


class ShardWriter:
    """Writes one shard, video segment by video segment.

    A segment is begun, fed in the order of time, and then ended, maybe cut before, or dropped; `publish`
    makes the shard.

    Args:
        path: where the shard will lie.
        settings: stored whole in it.
        software: versions of what made it, stored in it.
        scratch: a folder on another disk, where the shard is built before it is moved; None for `path`'s.
    """

    def __init__(
        self, path: Path, settings: Settings, software: dict[str, str], scratch: Path | None = None
    ) -> None:
        self.path = path
        self._near = path if scratch is None else scratch / path.name
        self.settings = settings
        self.software = software
        self.images: list[tuple[int, int, int]] = []  # offset, size, crc32
        self.pairs: list[tuple[Any, ...]] = []
        self.pairs_backward: list[tuple[Any, ...]] = []
        self.times: list[float] = []
        self.videos: list[dict[str, Any]] = []
        self._spool_path = temporary_path(self._near.with_suffix(".bytes"))
        self._spool = self._spool_path.open("wb")
        self._offset = 0
        self._segment: _Segment | None = None

    def begin(self, **row: Any) -> None:
        """Begin a segment; `row` gives columns of its row in the videos table."""
        assert self._segment is None, "the segment before was neither ended nor dropped"
        self._segment = _Segment(self._offset, row)

    def describe(self, **row: Any) -> None:
        """Give further columns of the segment's row."""
        assert self._segment is not None
        self._segment.row.update(row)

    def add_frame(self, rgb: npt.NDArray[np.uint8], pts_seconds: float) -> None:
        """Add the next frame: (H, W, 3) uint8, stored if the settings say so, and its time stamp."""
        self.describe(width=rgb.shape[1], height=rgb.shape[0])
        jpeg = encode_rgb(rgb, self.settings.quality) if self.settings.rgb else None
        self.add_stored_frame(jpeg, pts_seconds)

    def add_stored_frame(self, jpeg: bytes | None, pts_seconds: float) -> None:
        """Add the next frame as it is stored elsewhere, None where none is; its size is to be described."""
        assert self._segment is not None
        self._segment.times.append(pts_seconds)
        if jpeg is not None:
            self._add_image("rgb", jpeg)

    def add_pair(
        self,
        u: EncodedField,
        v: EncodedField,
        *,
        backward: bool = False,
        camera: npt.NDArray[np.floating] | None = None,
    ) -> None:
        """Add the encoded flow of the next pair, and the homography that was taken off where one is to be."""
        assert self._segment is not None
        pairs = self._segment.pairs_backward if backward else self._segment.pairs
        pairs.append((*u[1:], *v[1:]) if camera is None else (*u[1:], *v[1:], camera.tolist()))
        prefix = "flow_back" if backward else "flow"
        self._add_image(f"{prefix}_u", u.jpeg)
        self._add_image(f"{prefix}_v", v.jpeg)

    def end(self) -> dict[str, Any]:
        """End the segment. Returns its row, with `bytes`, the sizes of its images by stream."""
        segment = self._take_segment()
        row = dict(
            segment.row,
            num_frames=len(segment.times),
            num_pairs=len(segment.pairs),
            first_time=len(self.times),
            first_pair=len(self.pairs),
        )
        for stream in fmt.STREAMS:  # each stream's images stand together in the table, in order of time
            rows = segment.images[stream]
            row[f"{stream}_first"], row[f"{stream}_count"] = len(self.images), len(rows)
            self.images += rows
        self.times += segment.times
        self.pairs += segment.pairs
        self.pairs_backward += segment.pairs_backward
        self.videos.append(row)
        sizes = {s: sum(size for _, size, _ in rows) for s, rows in segment.images.items() if rows}
        return {**row, "bytes": sizes}

    def cut(self, frames: int) -> None:
        """Keep the first `frames` frames of the segment and the pairs between them."""
        segment = self._segment
        assert segment is not None
        pairs = max(0, min(len(segment.pairs), frames - self.settings.step))
        del segment.times[frames:]
        del segment.pairs[pairs:]
        del segment.pairs_backward[pairs:]
        for stream, rows in segment.images.items():
            del rows[frames if stream == "rgb" else pairs :]
        # Forgotten images that lie between kept ones stay in the file; those at its end are taken back.
        self._rewind(
            max([segment.start, *(rows[-1][0] + rows[-1][1] for rows in segment.images.values() if rows)])
        )

    def drop(self) -> None:
        """Forget the segment."""
        self._rewind(self._take_segment().start)

    def publish(self) -> int:
        """Make the shard, sync it and rename it to its place. Returns its size in bytes."""
        self._spool.close()
        temporary, built = temporary_path(self.path), temporary_path(self._near)
        try:
            head = _Head()
            with h5py.File(head, "w") as file:
                self._write_tables(file)
                # Allocated last and early in full, so that the bytes follow the tables without a gap.
                offset = self._allocate_bytes(file)
            with built.open("wb") as out, self._spool_path.open("rb") as spool:
                before = head.getvalue().ljust(offset, b"\0")
                assert not offset or len(before) == offset, "something of HDF5's lies behind the images"
                out.write(before)
                shutil.copyfileobj(spool, out, 1 << 20)
                out.write(fmt.SEAL.pack(fmt.SEAL_MARK, zlib.crc32(before), len(before)))
            size = built.stat().st_size
            if built != temporary:
                shutil.copyfile(built, temporary)
            publish(temporary, self.path)
        finally:
            built.unlink(missing_ok=True)
            temporary.unlink(missing_ok=True)
        return size

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what a full disk did not take is not needed any more
            self._spool.close()
        self._spool_path.unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
            free, folder = min((shutil.disk_usage(p).free, p) for p in (self._near.parent, self.path.parent))
            what = (
                f"{exc.strerror}: more than {2 * self._offset} bytes are needed in {folder}, {free} are free"
            )
            raise OSError(exc.errno, what, str(self.path)) from exc

    def _take_segment(self) -> _Segment:
        segment, self._segment = self._segment, None
        assert segment is not None, "no segment was begun"
        return segment

    def _rewind(self, offset: int) -> None:
        self._offset = offset
        self._spool.seek(offset)
        self._spool.truncate()

    def _add_image(self, stream: str, jpeg: bytes) -> None:
        assert self._segment is not None
        self._spool.write(jpeg)
        self._segment.images[stream].append((self._offset, len(jpeg), zlib.crc32(jpeg)))
        self._offset += len(jpeg)

    def _write_tables(self, file: h5py.File) -> None:
        attributes = file.attrs
        attributes[fmt.FORMAT_ATTRIBUTE] = fmt.SHARD_FORMAT
        attributes[fmt.VERSION_ATTRIBUTE] = np.array(fmt.VERSION, "<u4")
        attributes[fmt.SETTINGS_ATTRIBUTE] = json.dumps(self.settings.to_dict(), sort_keys=True)
        attributes[fmt.SOFTWARE_ATTRIBUTE] = json.dumps(self.software, sort_keys=True)
        texts = [[str(v[name]).encode() for v in self.videos] for name in ("id", "source", "label")]
        dtype = fmt.video_dtype(*(max(map(len, column), default=1) for column in texts))
        videos = np.zeros(len(self.videos), dtype)
        for row, video in zip(videos, self.videos, strict=True):
            for name, value in video.items():
                row[name] = value.encode() if isinstance(value, str) else value
        pair = fmt.STABILISED_PAIR_DTYPE if self.settings.stabilise else fmt.PAIR_DTYPE
        tables: dict[str, npt.NDArray[Any]] = {
            fmt.VIDEOS: videos,
            fmt.TIMES: np.array(self.times, fmt.TIME_DTYPE),
            fmt.IMAGES: np.array(self.images, fmt.IMAGE_DTYPE),
            fmt.PAIRS: np.array(self.pairs, pair),
            fmt.PAIRS_BACKWARD: np.array(self.pairs_backward, pair),
        }
        for name, table in tables.items():
            dataset = file.create_dataset(name, data=table)
            dataset.attrs[fmt.CHECKSUM_ATTRIBUTE] = np.uint32(fmt.checksum(table))

    def _allocate_bytes(self, file: h5py.File) -> int:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        plist.set_obj_track_times(False)
        space = h5py.h5s.create_simple((self._offset,))
        dataset = h5py.h5d.create(file.id, fmt.BYTES.encode(), h5py.h5t.STD_U8LE, space, plist)
        return dataset.get_offset() or 0  # None for a dataset without bytes


class _Head(io.BytesIO):
    """The beginning of an HDF5 file, in memory; what follows is declared and written by others.

    The HDF5 library does not outlive a disk that is full when it closes a file.
    """

    def truncate(self, size: int | None = None) -> int:
        """Let the file be longer than what is here."""
        return super().truncate(size) if size is None or size < len(self.getbuffer()) else size


class _Segment:
    """What has been added of the segment being written."""

    def __init__(self, start: int, row: dict[str, Any]) -> None:
        self.start = start
        self.row = row
        self.images: dict[str, list[tuple[int, int, int]]] = {s: [] for s in fmt.STREAMS}
        self.pairs: list[tuple[Any, ...]] = []
        self.pairs_backward: list[tuple[Any, ...]] = []
        self.times: list[float] = []
