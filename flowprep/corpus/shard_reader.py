"""Reading a shard: its tables are checked when it is opened, its images are read from the mapped file."""

from __future__ import annotations

import errno
import json
import mmap
import os
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from flowprep.corpus import format as fmt
from flowprep.errors import CorpusDamaged, CorpusFormatError, SettingsError
from flowprep.settings import MAX_PIXELS, Settings
from flowprep.system.files import is_machine_error, open_regular
from flowprep.validation import check_video_id

# HDF5 reports damage in many ways, and h5py returns some objects of an unexpected kind.
_HDF5_ERRORS = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    OverflowError,
    MemoryError,
)


class Shard:
    """A published shard.

    Args:
        path: the file.

    Attributes:
        path: the file.
        data: its bytes, (N,) uint8, mapped into memory.
        videos, images, pairs, pairs_backward, times: its tables, as FORMAT.md describes them.

    Raises:
        CorpusFormatError: the file is not a shard, or is of a newer major version.
        CorpusDamaged: the file is none that flowprep wrote, or a table does not match its checksum.
        OSError: the machine cannot read it, which says nothing about the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sealed = False
        try:
            with open_regular(path) as raw:
                self._map = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
            self.data = np.frombuffer(self._map, np.uint8)
            self._check_head()
            # Published files do not change, so no lock is needed. Many network disks have none.
            with h5py.File(path, "r", locking=False) as file:
                self._check_version(file)
                self._attributes = {
                    name: str(file.attrs[name]) for name in (fmt.SETTINGS_ATTRIBUTE, fmt.SOFTWARE_ATTRIBUTE)
                }
                self.videos = self._table(file, fmt.VIDEOS)
                self.images = self._table(file, fmt.IMAGES)
                self.pairs = self._table(file, fmt.PAIRS)
                self.pairs_backward = self._table(file, fmt.PAIRS_BACKWARD)
                self.times = self._table(file, fmt.TIMES)
                self._num_bytes = int(_dataset(file, fmt.BYTES).size)
                self._bytes = self._offset_of(file[fmt.BYTES], self._num_bytes)
            self._check_tables()
        except _HDF5_ERRORS as exc:
            if isinstance(exc, OSError) and is_machine_error(exc):
                raise
            if (
                isinstance(exc, MemoryError) and self._sealed
            ):  # else a damaged size may have been taken for one
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from exc
            raise CorpusDamaged(f"{path.name}: cannot be opened: {exc}") from exc

    def image(self, index: int) -> bytes:
        """The bytes of an image, which are a whole image file.

        Raises:
            CorpusDamaged: they do not match their checksum, or there is no such image.
        """
        if not 0 <= index < len(self.images):
            raise CorpusDamaged(f"{self.path.name}: it has no image {index}")
        offset, size, crc = (int(n) for n in self.images[index].item()[:3])
        start = self._bytes + offset
        image = self._map[start : start + size]
        if zlib.crc32(image) != crc:
            raise CorpusDamaged(f"{self.path.name}: image {index} does not match its checksum")
        return image

    def locate(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where images are in `data`: the offset, the size and the CRC-32 of each.

        Args:
            rows: (n,) in the table of images, from 0.

        Raises:
            IndexError: there is no such image.
        """
        table = self.images[rows]
        offsets = table["offset"].astype(np.int64)
        offsets += self._bytes
        return offsets, table["size"].astype(np.int64), table["crc32"].astype(np.int64)

    @cached_property
    def settings(self) -> Settings:
        """The settings of the corpus when the shard was made."""
        try:
            return Settings.from_stored(self._json(fmt.SETTINGS_ATTRIBUTE))
        except (SettingsError, AttributeError) as exc:
            raise CorpusDamaged(f"{self.path.name}: its settings cannot be read: {exc}") from exc

    @cached_property
    def software(self) -> dict[str, str]:
        """The versions of the software that made the shard."""
        return self._json(fmt.SOFTWARE_ATTRIBUTE)

    def _json(self, attribute: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._attributes[attribute]))
        except (ValueError, TypeError, RecursionError) as exc:
            raise CorpusDamaged(f"{self.path.name}: attribute {attribute} cannot be read: {exc}") from exc

    def _check_head(self) -> None:
        """Check the part before the images: HDF5 reads it, and may never return if it is damaged."""
        size = len(self._map)
        if size == int.from_bytes(self._map[40:48], "little"):  # HDF5's own end: an old shard without a seal
            return
        mark, crc, length = fmt.SEAL.unpack(self._map[-fmt.SEAL.size :].rjust(fmt.SEAL.size))
        if mark != fmt.SEAL_MARK:
            raise CorpusDamaged(f"{self.path.name}: the end of the file is not that of a shard: cut short?")
        if zlib.crc32(self._map[:length]) != crc:
            raise CorpusDamaged(f"{self.path.name}: the part before its images does not match its checksum")
        self._sealed = True

    def _check_version(self, file: h5py.File) -> None:
        if file.attrs.get(fmt.FORMAT_ATTRIBUTE) != fmt.SHARD_FORMAT:
            raise CorpusFormatError(f"{self.path.name}: an HDF5 file, but not a shard of a corpus")
        major, minor = (int(n) for n in file.attrs[fmt.VERSION_ATTRIBUTE])
        if major > fmt.VERSION[0]:
            raise CorpusFormatError(
                f"{self.path.name}: format version {major}.{minor}; this program reads up to"
                f" {fmt.VERSION[0]}.x: install a newer flowprep"
            )

    def _offset_of(self, dataset: h5py.Dataset, nbytes: int) -> int:
        """The offset of a contiguous dataset in the file; 0 for one without bytes."""
        name = dataset.name.removeprefix("/")
        offset = dataset.id.get_offset()
        if offset is None:
            if nbytes:
                raise CorpusDamaged(f"{self.path.name}: dataset {name} is not contiguous")
            return 0
        if offset + nbytes > len(self._map):
            raise CorpusDamaged(f"{self.path.name}: cut short: dataset {name} ends after the end of the file")
        return int(offset)

    def _table(self, file: h5py.File, name: str) -> npt.NDArray[Any]:
        dataset = _dataset(file, name)
        dtype, size = dataset.dtype, dataset.size  # read once: h5py makes them again at each access
        offset = self._offset_of(dataset, dtype.itemsize * size)
        table = np.frombuffer(self._map, dtype, size, offset)
        if fmt.checksum(table) != int(dataset.attrs[fmt.CHECKSUM_ATTRIBUTE]):
            raise CorpusDamaged(f"{self.path.name}: table {name} does not match its checksum")
        return table

    def _check_tables(self) -> None:
        """Check the columns of each table, and that each row of the video table names rows that are there.

        A checksum proves that a shard is as it was written, and not that flowprep wrote it.
        """
        for name, table, columns in (
            (fmt.VIDEOS, self.videos, fmt.video_dtype()),
            (fmt.IMAGES, self.images, fmt.IMAGE_DTYPE),
            (fmt.PAIRS, self.pairs, fmt.PAIR_DTYPE),
            (fmt.PAIRS_BACKWARD, self.pairs_backward, fmt.PAIR_DTYPE),
            (fmt.TIMES, self.times, fmt.TIME_DTYPE),
        ):
            if not _has_columns(table.dtype, columns):
                raise CorpusDamaged(f"{self.path.name}: table {name} does not have the columns of a shard")
        rows = self.videos
        ends = [(rows[f"{s}_first"], rows[f"{s}_count"], self.images) for s in fmt.STREAMS]
        ends += [(rows["first_time"], rows["num_frames"], self.times)]
        ends += [(rows["first_pair"], rows["num_pairs"], self.pairs)]
        inside = all(((first <= len(t)) & (count <= len(t) - first)).all() for first, count, t in ends)
        pixels = rows["width"].astype(np.uint64) * rows["height"]
        if not inside or (pixels > MAX_PIXELS).any():
            raise CorpusDamaged(f"{self.path.name}: a row of its video table is not one that flowprep writes")
        if (self.images["offset"] > self._num_bytes).any():
            raise CorpusDamaged(f"{self.path.name}: an image begins after the end of the images")
        for name in ("id", "source", "label"):
            b"\n".join(rows[name].tolist()).decode()  # raises ValueError if a text is not UTF-8
        for video_id in rows["id"].tolist():
            if b".." in video_id or not video_id:
                check_video_id(video_id.decode())


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset of the file itself. A link could lead to another file, or to a pipe."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise KeyError(f"it has no dataset {name}")
    return file[name]


def _has_columns(found: np.dtype[Any], needed: np.dtype[Any]) -> bool:
    """Whether a table has the columns that are needed. Texts may have any length."""
    if needed.names is None or found.names is None:
        return bool(found == needed)
    columns = {name: found[name] for name in found.names}
    return all(
        name in columns
        and (columns[name].kind == "S" if needed[name].kind == "S" else columns[name] == needed[name])
        for name in needed.names
    )
