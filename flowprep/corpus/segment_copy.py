"""Copy a stored segment from one shard to another, each image byte by byte."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowprep.codec.quantise import EncodedField
from flowprep.corpus import format as fmt
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.shard_writer import ShardWriter

_TEXTS = ("id", "source", "label")
# The columns of the video table that do not depend on the place in the shard.
_COLUMNS = (
    "source_bytes",
    "source_width",
    "source_height",
    "width",
    "height",
    "frame_rate",
    "step",
    "segment",
    "segments",
    "first_frame",
    "partial",
)


def copy_segment(writer: ShardWriter, shard: Shard, row: Any) -> None:
    """Begin a segment and add all its frames and pairs. The caller ends or drops it.

    The images keep their order. So the new shard has the same bytes as one from a fresh extraction.

    Args:
        writer: of the new shard.
        shard: the shard that holds the segment.
        row: the segment's row in the video table of `shard`.

    Raises:
        CorpusDamaged: an image does not match its checksum.
    """
    writer.begin(
        **{name: row[name].decode() for name in _TEXTS}, **{name: row[name].item() for name in _COLUMNS}
    )
    times = shard.times[int(row["first_time"]) :][: int(row["num_frames"])].tolist()
    parts = [(_offset(shard, row, "rgb", i), "rgb", i) for i in range(len(times))]
    for stream in ("flow_u", "flow_back_u"):
        parts += [(_offset(shard, row, stream, i), stream, i) for i in range(int(row[f"{stream}_count"]))]
    for offset, stream, i in sorted(parts):
        if stream == "rgb":
            jpeg = shard.image(int(row["rgb_first"]) + i) if offset >= 0 else None
            writer.add_stored_frame(jpeg, times[i])
            continue
        backward = stream == "flow_back_u"
        table = shard.pairs_backward if backward else shard.pairs
        pair = table[int(row["first_pair"]) + i]
        u, v = (
            EncodedField(
                shard.image(int(row[f"{stream[:-1]}{channel}_first"]) + i),
                *(float(pair[f"{channel}_{column}"]) for column in fmt.PAIR_COLUMNS),
            )
            for channel in "uv"
        )
        camera = np.asarray(pair["camera"]) if "camera" in (table.dtype.names or ()) else None
        writer.add_pair(u, v, backward=backward, camera=camera)


def _offset(shard: Shard, row: Any, stream: str, index: int) -> int:
    """The place of an image among the images of its shard; -1 if the stream is not stored."""
    if not row[f"{stream}_count"]:
        return -1
    return int(shard.images["offset"][int(row[f"{stream}_first"]) + index])
