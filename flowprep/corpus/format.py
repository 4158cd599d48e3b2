"""The format of a corpus on disk: all names and types in its folder and in its shards.

FORMAT.md describes the format for readers in other languages. A change of this file is a change of the
format. A new minor version may add columns and datasets. All other changes need a new major version.
"""

from __future__ import annotations

import struct
import zlib

import h5py
import numpy as np
import numpy.typing as npt

from flowprep.corpus.names import DAMAGED as DAMAGED
from flowprep.corpus.names import INDEX as INDEX
from flowprep.corpus.names import LEASES as LEASES
from flowprep.corpus.names import LOGS as LOGS
from flowprep.corpus.names import PLAN as PLAN
from flowprep.corpus.names import RECORDS as RECORDS
from flowprep.corpus.names import SHARDS as SHARDS

SHARD_FORMAT = "flowprep-shard"
VERSION = (1, 1)
PLAN_FORMAT = "flowprep-plan"
PLAN_VERSION = 3  # version 1 had no checksums, version 2 no digests of files
RECORD_FORMAT = "flowprep-record"
RECORD_VERSION = 1
INDEX_VERSION = 2

# Root attributes of a shard.
FORMAT_ATTRIBUTE = "format"
VERSION_ATTRIBUTE = "version"
SETTINGS_ATTRIBUTE = "settings"
SOFTWARE_ATTRIBUTE = "software"
# Attribute of each table: CRC-32 of its bytes in the file.
CHECKSUM_ATTRIBUTE = "crc32"

# Datasets of a shard: the image files, one directly after the other, and tables.
BYTES = "bytes"
IMAGES = "images"
PAIRS = "pairs"
PAIRS_BACKWARD = "pairs_back"
TIMES = "times"
VIDEOS = "videos"
TABLES = (IMAGES, PAIRS, PAIRS_BACKWARD, TIMES, VIDEOS)

STREAMS = ("rgb", "flow_u", "flow_v", "flow_back_u", "flow_back_v")

IMAGE_DTYPE = np.dtype([("offset", "<u8"), ("size", "<u4"), ("crc32", "<u4")])
PAIR_COLUMNS = ("scale", "zero", "mean", "clipped")  # of u and of v
PAIR_DTYPE = np.dtype([(f"{channel}_{column}", "<f4") for channel in "uv" for column in PAIR_COLUMNS])
# With `stabilise`: also the homography that was removed.
STABILISED_PAIR_DTYPE = np.dtype([*PAIR_DTYPE.descr, ("camera", "<f4", (3, 3))])
TIME_DTYPE = np.dtype("<f8")


# The last bytes of a shard, after the end that HDF5 knows: a mark, and the CRC-32 and the number of the bytes
# before the dataset `bytes`.
SEAL = struct.Struct("<4sIQ")
SEAL_MARK = b"\x89FPS"


def video_dtype(id_bytes: int = 1, source_bytes: int = 1, label_bytes: int = 1) -> np.dtype[np.void]:
    """The columns of the video table, which has one row per segment.

    Texts are UTF-8, padded with zero bytes.

    Args:
        id_bytes, source_bytes, label_bytes: the lengths of the longest texts.
    """
    return np.dtype(
        [
            ("id", h5py.string_dtype("utf-8", max(1, id_bytes))),
            ("source", h5py.string_dtype("utf-8", max(1, source_bytes))),
            ("label", h5py.string_dtype("utf-8", max(1, label_bytes))),
            ("source_bytes", "<u8"),
            ("source_width", "<u4"),
            ("source_height", "<u4"),
            ("width", "<u4"),
            ("height", "<u4"),
            ("frame_rate", "<f8"),
            ("step", "<u4"),
            ("segment", "<u4"),
            ("segments", "<u4"),
            ("first_frame", "<u8"),
            ("num_frames", "<u4"),
            ("num_pairs", "<u4"),
            ("partial", "<u4"),
            ("first_time", "<u8"),
            ("first_pair", "<u8"),
            *((f"{stream}_{column}", "<u8") for stream in STREAMS for column in ("first", "count")),
        ]
    )


def text_checksum(text: str) -> int:
    """CRC-32 of a text."""
    return zlib.crc32(text.encode())


def checksum(table: npt.NDArray[np.generic]) -> int:
    """CRC-32 of a table's bytes."""
    return zlib.crc32(np.ascontiguousarray(table).tobytes())
