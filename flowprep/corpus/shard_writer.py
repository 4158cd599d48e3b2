"""Writing a shard. Images are spooled as they come, tables stay in memory, and the file is made at the end.

A contiguous HDF5 dataset has a fixed size. So the images wait in a temporary file beside the shard. Memory
does not grow with them, and nobody can mistake an unfinished shard for a finished one.
"""

from __future__ import annotations

import io
import json
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from flowprep.codec.images import encode_rgb
from flowprep.codec.quantise import EncodedField
from flowprep.corpus import format as fmt
from flowprep.settings import Settings
from flowprep.system.atomic import publish, temporary_path
from flowprep.system.disk import FULL, naming_file

_FLOW_STREAMS = tuple(stream for stream in fmt.STREAMS if stream != "rgb")


class StoredSegment(NamedTuple):
    """What was written of a segment.

    Attributes:
        frames, pairs: the numbers of frames and pairs.
        bytes: the size of the images, by stream.
    """

    frames: int
    pairs: int
    bytes: dict[str, int]


class ShardWriter:
    """Writes one shard, segment by segment.

    `begin` a segment, add its frames and pairs in the order of time, perhaps `cut` it, then `end` or `drop`
    it. `publish` makes the shard.

    Args:
        path: the path of the shard.
        settings: stored in the shard.
        software: versions of the software that makes the shard, stored in it.
        scratch: a folder on another disk, in which the shard is built before it is moved; None for the folder
            of `path`.

    Attributes:
        path: the path of the shard.
        settings: of the shard.
    """

    def __init__(
        self, path: Path, settings: Settings, software: Mapping[str, str], scratch: Path | None = None
    ) -> None:
        self.path = path
        self.settings = settings
        self._software = dict(software)
        self._built_path = path if scratch is None else scratch / path.name
        self._rows: list[dict[str, Any]] = []  # of the video table
        self._images: list[tuple[int, int, int]] = []  # offset, size, crc32
        self._pairs: list[tuple[Any, ...]] = []
        self._pairs_backward: list[tuple[Any, ...]] = []
        self._times: list[float] = []
        self._spool_path = temporary_path(self._built_path.with_suffix(".bytes"))
        self._spool = self._spool_path.open("wb")
        self._offset = 0
        self._open_segment: _Segment | None = None

    @property
    def empty(self) -> bool:
        """Whether no segment has been ended."""
        return not self._rows

    def add_software(self, software: Mapping[str, str]) -> None:
        """Name software that made images of the shard, too. Versions that differ are stored one by one."""
        for name, version in software.items():
            known = self._software.get(name, "")
            if version not in known.split(", "):
                self._software[name] = ", ".join(filter(None, [known, version]))

    @property
    def flow_float32_bytes(self) -> int:
        """The size that the flow would have as float32."""
        return sum(
            sum(row[f"{stream}_count"] for stream in _FLOW_STREAMS)
            * row.get("width", 0)
            * row.get("height", 0)
            * 4
            for row in self._rows
        )

    def begin(self, **columns: Any) -> None:
        """Begin a segment; `columns` are columns of its row in the video table."""
        assert self._open_segment is None, "the previous segment was neither ended nor dropped"
        self._open_segment = _Segment(self._offset, columns)

    def describe(self, **columns: Any) -> None:
        """Set more columns of the segment's row."""
        self._segment.columns.update(columns)

    def add_frame(self, rgb: npt.NDArray[np.uint8], pts_seconds: float) -> None:
        """Add the next frame.

        Args:
            rgb: (H, W, 3) uint8. It is stored if the settings have an RGB stream.
            pts_seconds: its time stamp.
        """
        self.describe(width=rgb.shape[1], height=rgb.shape[0])
        jpeg = encode_rgb(rgb, self.settings.quality) if self.settings.rgb else None
        self.add_stored_frame(jpeg, pts_seconds)

    def add_stored_frame(self, jpeg: bytes | None, pts_seconds: float) -> None:
        """Add the next frame as an image file; None if none is stored. Its size must be described."""
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
        """Add the encoded flow of the next pair.

        Args:
            u, v: the two components.
            backward: it is backward flow.
            camera: (3, 3): the homography that was removed, with `stabilise`.
        """
        row = (*u[1:], *v[1:]) if camera is None else (*u[1:], *v[1:], camera.tolist())
        (self._segment.pairs_backward if backward else self._segment.pairs).append(row)
        prefix = "flow_back" if backward else "flow"
        self._add_image(f"{prefix}_u", u.jpeg)
        self._add_image(f"{prefix}_v", v.jpeg)

    def end(self) -> StoredSegment:
        """End the segment."""
        segment = self._close_segment()
        row = dict(
            segment.columns,
            num_frames=len(segment.times),
            num_pairs=len(segment.pairs),
            first_time=len(self._times),
            first_pair=len(self._pairs),
        )
        for stream in fmt.STREAMS:  # the images of a stream are neighbours in the table, in order of time
            rows = segment.images[stream]
            row[f"{stream}_first"], row[f"{stream}_count"] = len(self._images), len(rows)
            self._images += rows
        self._times += segment.times
        self._pairs += segment.pairs
        self._pairs_backward += segment.pairs_backward
        self._rows.append(row)
        sizes = {s: sum(size for _, size, _ in rows) for s, rows in segment.images.items() if rows}
        return StoredSegment(len(segment.times), len(segment.pairs), sizes)

    def cut(self, frames: int) -> None:
        """Keep the first `frames` frames of the segment, and the pairs between them."""
        segment = self._segment
        pairs = max(0, min(len(segment.pairs), frames - self.settings.step))
        del segment.times[frames:]
        del segment.pairs[pairs:]
        del segment.pairs_backward[pairs:]
        for stream, rows in segment.images.items():
            del rows[frames if stream == "rgb" else pairs :]
        # Dropped images between kept ones stay in the file. Those at its end are removed.
        ends = (rows[-1][0] + rows[-1][1] for rows in segment.images.values() if rows)
        self._rewind(max([segment.start, *ends]))

    def drop(self) -> None:
        """Forget the segment."""
        self._rewind(self._close_segment().start)

    def publish(self) -> int:
        """Make the shard, sync it and rename it to its path.

        Returns:
            Its size, bytes.

        Raises:
            OSError: it cannot be written.
        """
        self._spool.close()
        temporary, built = temporary_path(self.path), temporary_path(self._built_path)
        try:
            self._build(built)
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
        with suppress(OSError):  # of a full disk: the data are not needed any more
            self._spool.close()
        self._spool_path.unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.errno in FULL:
            # The images wait in a file of their own until the shard is made.
            with naming_file(self.path, lambda: 2 * self._offset, self._built_path.parent):
                raise exc

    @property
    def _segment(self) -> _Segment:
        """The segment that is being written."""
        assert self._open_segment is not None, "no segment was begun"
        return self._open_segment

    def _close_segment(self) -> _Segment:
        segment = self._segment
        self._open_segment = None
        return segment

    def _rewind(self, offset: int) -> None:
        self._offset = offset
        self._spool.seek(offset)
        self._spool.truncate()

    def _add_image(self, stream: str, jpeg: bytes) -> None:
        self._spool.write(jpeg)
        self._segment.images[stream].append((self._offset, len(jpeg), zlib.crc32(jpeg)))
        self._offset += len(jpeg)

    def _build(self, path: Path) -> None:
        """Write the whole shard to a file."""
        head = _Head()
        with h5py.File(head, "w") as file:
            self._write_attributes(file)
            self._write_tables(file)
            # Allocated last and in full, so that the images follow the tables without a gap.
            offset = self._allocate_bytes(file)
        before = head.getvalue().ljust(offset, b"\0")
        assert not offset or len(before) == offset, "HDF5 has stored something after the images"
        with path.open("wb") as out, self._spool_path.open("rb") as spool:
            out.write(before)
            shutil.copyfileobj(spool, out, 1 << 20)
            out.write(fmt.SEAL.pack(fmt.SEAL_MARK, zlib.crc32(before), len(before)))

    def _write_attributes(self, file: h5py.File) -> None:
        attributes = file.attrs
        attributes[fmt.FORMAT_ATTRIBUTE] = fmt.SHARD_FORMAT
        attributes[fmt.VERSION_ATTRIBUTE] = np.array(fmt.VERSION, "<u4")
        attributes[fmt.SETTINGS_ATTRIBUTE] = json.dumps(self.settings.to_dict(), sort_keys=True)
        attributes[fmt.SOFTWARE_ATTRIBUTE] = json.dumps(self._software, sort_keys=True)

    def _write_tables(self, file: h5py.File) -> None:
        pair = fmt.STABILISED_PAIR_DTYPE if self.settings.stabilise else fmt.PAIR_DTYPE
        tables: dict[str, npt.NDArray[Any]] = {
            fmt.VIDEOS: self._video_table(),
            fmt.TIMES: np.array(self._times, fmt.TIME_DTYPE),
            fmt.IMAGES: np.array(self._images, fmt.IMAGE_DTYPE),
            fmt.PAIRS: np.array(self._pairs, pair),
            fmt.PAIRS_BACKWARD: np.array(self._pairs_backward, pair),
        }
        for name, table in tables.items():
            dataset = file.create_dataset(name, data=table)
            dataset.attrs[fmt.CHECKSUM_ATTRIBUTE] = np.uint32(fmt.checksum(table))

    def _video_table(self) -> npt.NDArray[Any]:
        texts = [[str(row[name]).encode() for row in self._rows] for name in ("id", "source", "label")]
        table = np.zeros(
            len(self._rows), fmt.video_dtype(*(max(map(len, column), default=1) for column in texts))
        )
        for entry, row in zip(table, self._rows, strict=True):
            for name, value in row.items():
                entry[name] = value.encode() if isinstance(value, str) else value
        return table

    def _allocate_bytes(self, file: h5py.File) -> int:
        """Declare the dataset of the images, without data. Returns its offset in the file."""
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        plist.set_obj_track_times(False)
        space = h5py.h5s.create_simple((self._offset,))
        dataset = h5py.h5d.create(file.id, fmt.BYTES.encode(), h5py.h5t.STD_U8LE, space, plist)
        return dataset.get_offset() or 0  # None for a dataset without bytes


class _Head(io.BytesIO):
    """The beginning of an HDF5 file, in memory. HDF5 only declares the rest, and the writer appends it.

    The HDF5 library does not survive a disk that is full when it closes a file.
    """

    def truncate(self, size: int | None = None) -> int:
        """Accept a length that is greater than that of the data in memory."""
        return super().truncate(size) if size is None or size < len(self.getbuffer()) else size


class _Segment:
    """The data of the segment that is being written.

    Attributes:
        start: the offset of its first image in the spool.
        columns: of its row in the video table.
        images: rows of the image table, by stream.
        pairs, pairs_backward: rows of the tables of pairs.
        times: time stamps of the frames, seconds.
    """

    def __init__(self, start: int, columns: dict[str, Any]) -> None:
        self.start = start
        self.columns = columns
        self.images: dict[str, list[tuple[int, int, int]]] = {stream: [] for stream in fmt.STREAMS}
        self.pairs: list[tuple[Any, ...]] = []
        self.pairs_backward: list[tuple[Any, ...]] = []
        self.times: list[float] = []
