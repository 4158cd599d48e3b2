"""Reading a shard: its tables are checked when it is opened, its images are read from the mapped file."""

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

# Faults of the machine, not of the file.
_MACHINE_FAULTS = (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO)

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
        videos, images, pairs, pairs_backward, times: its tables, as FORMAT.md describes them.

    Raises:
        CorpusFormatError: the file is not a shard, or is of a newer major version.
        CorpusDamaged: the file cannot be opened, or a table does not match its checksum.
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
                    name: str(file.attrs[name]) for name in (fmt.SETTINGS_ATTRIBUTE, fmt.SOFTWARE_ATTRIBUTE)
                }
                self.videos = self._table(file, fmt.VIDEOS)
                self.images = self._table(file, fmt.IMAGES)
                self.pairs = self._table(file, fmt.PAIRS)
                self.pairs_backward = self._table(file, fmt.PAIRS_BACKWARD)
                self.times = self._table(file, fmt.TIMES)
                self._bytes = self._offset_of(file[fmt.BYTES], file[fmt.BYTES].size)
        except _HDF5_ERRORS as exc:
            if getattr(exc, "errno", None) in _MACHINE_FAULTS:
                raise
            raise CorpusDamaged(f"{path.name}: cannot be opened: {exc}") from exc

    def image(self, index: int) -> bytes:
        """The bytes of an image, which are a whole image file.

        Raises:
            CorpusDamaged: they do not match their checksum.
        """
        offset, size, crc = self.images[index].item()
        start = self._bytes + offset
        image = self._map[start : start + size]
        if zlib.crc32(image) != crc:
            raise CorpusDamaged(f"{self.path.name}: image {index} does not match its checksum")
        return image

    @cached_property
    def settings(self) -> Settings:
        """The settings of the corpus when the shard was made."""
        return Settings.from_stored(self._json(fmt.SETTINGS_ATTRIBUTE))

    @cached_property
    def software(self) -> dict[str, str]:
        """The versions of the software that made the shard."""
        return self._json(fmt.SOFTWARE_ATTRIBUTE)

    def _json(self, attribute: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._attributes[attribute]))
        except (ValueError, TypeError) as exc:
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
        dataset = file[name]
        dtype, size = dataset.dtype, dataset.size  # read once: h5py makes them again at each access
        offset = self._offset_of(dataset, dtype.itemsize * size)
        table = np.frombuffer(self._map, dtype, size, offset)
        if fmt.checksum(table) != int(dataset.attrs[fmt.CHECKSUM_ATTRIBUTE]):
            raise CorpusDamaged(f"{self.path.name}: table {name} does not match its checksum")
        return table
