"""One shard, opened for reading: tables checked, images read straight from the mapped file."""

from __future__ import annotations

import errno
import json
import mmap
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from flowprep.corpus import format as fmt
from flowprep.errors import CorpusDamaged, CorpusFormatError
from flowprep.settings import Settings


class Shard:
    """A published shard.

    Attributes:
        path: the file.
        videos, images, pairs, pairs_backward, times: its tables, as FORMAT.md describes them.

    Raises:
        CorpusFormatError: the file is no shard, or of a newer major version.
        CorpusDamaged: the file cannot be opened, or a table does not have its checksum.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as raw:
                self._map = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
            self._check_head()
            with h5py.File(path, "r") as file:
                self._check_version(file)
                self._attributes = {
                    k: str(file.attrs[k]) for k in (fmt.SETTINGS_ATTRIBUTE, fmt.SOFTWARE_ATTRIBUTE)
                }
                self.videos = self._table(file, fmt.VIDEOS)
                self.images = self._table(file, fmt.IMAGES)
                self.pairs = self._table(file, fmt.PAIRS)
                self.pairs_backward = self._table(file, fmt.PAIRS_BACKWARD)
                self.times = self._table(file, fmt.TIMES)
                self._bytes = self._lies_at(file[fmt.BYTES], file[fmt.BYTES].size)
        # HDF5 reports what it cannot make sense of in many ways, h5py as whatever object it found instead.
        except (
            OSError,
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
            RuntimeError,
            OverflowError,
            MemoryError,
        ) as exc:
            if getattr(exc, "errno", None) in (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO):
                raise  # the machine's trouble, not the file's
            raise CorpusDamaged(f"{path.name}: cannot be opened: {exc}") from exc

    def image(self, index: int) -> bytes:
        """The bytes of an image (a whole JPEG file), checked against its checksum.

        Raises:
            CorpusDamaged: they are not the bytes that were written.
        """
        offset, size, crc = self.images[index].item()
        start = self._bytes + offset
        jpeg = self._map[start : start + size]
        if zlib.crc32(jpeg) != crc:
            raise CorpusDamaged(f"{self.path.name}: image {index} does not have its checksum")
        return jpeg

    @cached_property
    def settings(self) -> Settings:
        """The settings that it was made with."""
        return Settings.from_stored(self._facts(fmt.SETTINGS_ATTRIBUTE))

    @cached_property
    def software(self) -> dict[str, str]:
        """Versions of what made it."""
        return self._facts(fmt.SOFTWARE_ATTRIBUTE)

    def _facts(self, attribute: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._attributes[attribute]))
        except (ValueError, TypeError) as exc:
            raise CorpusDamaged(f"{self.path.name}: attribute {attribute} cannot be read: {exc}") from exc

    def _check_head(self) -> None:
        """Check what lies before the images and all that HDF5 looks at: it may never return over damage."""
        size = len(self._map)
        if size == int.from_bytes(
            self._map[40:48], "little"
        ):  # HDF5's own end of file: the first had no seal
            return
        mark, crc, length = fmt.SEAL.unpack(self._map[-fmt.SEAL.size :].rjust(fmt.SEAL.size))
        if mark != fmt.SEAL_MARK:
            raise CorpusDamaged(f"{self.path.name}: it does not end as a shard does: cut short?")
        if zlib.crc32(self._map[:length]) != crc:
            raise CorpusDamaged(f"{self.path.name}: what lies before its images does not have its checksum")

    def _check_version(self, file: h5py.File) -> None:
        if file.attrs.get(fmt.FORMAT_ATTRIBUTE) != fmt.SHARD_FORMAT:
            raise CorpusFormatError(f"{self.path.name}: an HDF5 file, but not a shard of a corpus")
        major, minor = (int(n) for n in file.attrs[fmt.VERSION_ATTRIBUTE])
        if major > fmt.VERSION[0]:
            raise CorpusFormatError(
                f"{self.path.name}: format version {major}.{minor}; this program reads up to"
                f" {fmt.VERSION[0]}.x: install a newer flowprep"
            )

    def _lies_at(self, dataset: h5py.Dataset, nbytes: int) -> int:
        """Offset in the file of a contiguous dataset; 0 for one without bytes."""
        name = dataset.name.removeprefix("/")
        offset = dataset.id.get_offset()
        if offset is None:
            if nbytes:
                raise CorpusDamaged(f"{self.path.name}: dataset {name} is not contiguous")
            return 0
        if offset + nbytes > len(self._map):
            raise CorpusDamaged(f"{self.path.name}: cut short: dataset {name} ends behind the file's end")
        return int(offset)

    def _table(self, file: h5py.File, name: str) -> npt.NDArray[Any]:
        dataset = file[name]
        dtype, size = dataset.dtype, dataset.size  # asked for once: h5py makes them anew each time
        offset = self._lies_at(dataset, dtype.itemsize * size)
        table = np.frombuffer(self._map, dtype, size, offset)
        if fmt.checksum(table) != int(dataset.attrs[fmt.CHECKSUM_ATTRIBUTE]):
            raise CorpusDamaged(f"{self.path.name}: table {name} does not have its checksum")
        return table
