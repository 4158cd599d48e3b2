"""A video of a corpus: its frames, its flow in pixels, and what is known of them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.codec.quantise import EncodedField
from flowprep.corpus import fields
from flowprep.corpus import format as fmt
from flowprep.corpus.frames import read_frame, read_frames
from flowprep.corpus.segments import Segments, ShardSource
from flowprep.corpus.selection import Geometry, Positions, Size, Window, lay_out, output, reduce, select
from flowprep.errors import CorpusDamaged, OutOfRange
from flowprep.settings import MAX_PIXELS

_OPTIONS = {"rgb": "frames (--no-rgb)", "flow_u": "flow (--no-flow)", "flow_v": "flow (--no-flow)"}


class QuantParams(NamedTuple):
    """The parameters of quantised flow: pixels = (code - zero_point) * scale.

    Each is (count, 2) float32: of u and of v for each pair.

    Attributes:
        scale: pixels per code.
        zero_point: the code of zero motion.
        mean: mean of the field before quantisation, pixels.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]

    @property
    def zero(self) -> npt.NDArray[np.float32]:
        """Deprecated: use `zero_point`."""
        deprecated("QuantParams.zero", "zero_point")
        return self.zero_point


class Clip(NamedTuple):
    """Consecutive frames of a video, and the flow among them.

    Attributes:
        rgb: (length, height, width, 3) uint8; None if the corpus has no frames.
        flow: (max(0, length - step), 2, height, width) float32, pixels per pair; None if the corpus has no
            flow. Flow i goes from frame i of the clip to its frame i + step.
        times_seconds: (length,), the time of each frame by the source's clock; NaN if there is none.
        start: the number in the video of the first frame.
        id, label: of the video.
    """

    rgb: npt.NDArray[np.uint8] | None
    flow: npt.NDArray[np.float32] | None
    times_seconds: npt.NDArray[np.float64]
    start: int
    id: str
    label: str


class Video:
    """One video of a corpus, as `corpus[id]` returns it.

    Attributes:
        id: the path relative to the input, with "/" between the parts.
        label: its class, or "".
        num_frames: the number of frames, whether they are stored as RGB or not.
        num_pairs: the number of pairs with flow. Pair i goes from frame i to frame i + step.
        step: the distance between the two frames of a pair.
        width, height: the stored size, pixels.
        frame_rate: frames per second as the source declares it; 0 if unknown.
        streams: the stored streams: "rgb", "flow_u", "flow_v", "flow_back_u", "flow_back_v".
        codec: the image format of the flow.
        partial: whether only the frames before the damage are stored.
        damage: the reason for that, or "".
    """

    def __init__(self, corpus: ShardSource, parts: list[tuple[str, Any]]) -> None:
        """Create a video; `parts` are the task and the row in the video table of each segment."""
        self._corpus = corpus
        first = parts[0][1]
        self.id: str = as_text(first["id"])
        self.label: str = as_text(first["label"])
        self.width, self.height = int(first["width"]), int(first["height"])
        if self.width * self.height > MAX_PIXELS:
            raise CorpusDamaged(f"{self.id}: {self.width}x{self.height} pixels are more than flowprep stores")
        self.frame_rate = float(first["frame_rate"])
        self.step = int(first["step"])
        self._segments = Segments(corpus, self.id, parts)
        self.num_frames, self.num_pairs = self._segments.num_frames, self._segments.num_pairs
        self.partial = any(row["partial"] for _, row in parts)
        self.streams: tuple[str, ...] = corpus.settings.streams
        self.codec: str = corpus.settings.codec
        self.damage = corpus.partial.get(self.id, "unknown") if self.partial else ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Video) and (self.id, self._corpus) == (other.id, other._corpus)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        counts = f"{self.num_frames} frames, {self.num_pairs} pairs"
        return f"<Video {self.id!r}: {counts}, {self.width}x{self.height}>"

    def info(self) -> dict[str, Any]:
        """A description of the video in plain types."""
        names = ("id", "label", "num_frames", "num_pairs", "step", "width", "height", "frame_rate", "partial")
        times = self.times_seconds
        span = None if np.isnan(times).any() else [float(times[0]), float(times[-1])]
        info = {name: getattr(self, name) for name in names} | {"first_and_last_seconds": span}
        if self._corpus.settings.flow:
            info["mean_flow_px"] = [round(float(m), 4) for m in self.mean_flow.mean(axis=0)]
            info["clipped_share"] = round(float(self.clipped.mean()), 6)
        if self._corpus.settings.stabilise:
            stabilised = ~np.isnan(self._segments.pair_rows(backward=False)["camera"]).any(axis=(1, 2))
            info["stabilised_share"] = round(float(stabilised.mean()), 6)
        info["shards"] = [f"{task}.h5" for task, _ in self._segments.parts]
        return info

    def flow(
        self,
        start: Positions,
        count: int | None = None,
        backward: bool = False,
        window: Window | None = None,
        *,
        size: Size | None = None,
        antialias: bool = True,
        mirror: bool = False,
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Flow of pairs, in pixels per pair.

        Args:
            start: the first pair, with `count`; or a sequence of pairs, in any order and with repeats.
            count: the number of pairs.
            backward: return backward flow: flow i goes from frame i + step to frame i.
            window: only this part of the image: (top, left, height, width), pixels. It takes less time. With
                `size` it may have fractions: a part of a resized frame, say.
            size: the (height, width) to which the window is resized. Displacements become pixels of the
                result.
            antialias: a smaller result is the mean over areas; false: it is interpolated, as a larger one is.
            mirror: exchange left and right; u changes its sign.
            out: a C-contiguous array that is filled and returned: a reused one saves time.

        Returns:
            (count, 2, height, width) float32. Channel 0 is u (to the right), channel 1 is v (down).

        Raises:
            OutOfRange: the video does not have all of the pairs, or the window is not in the picture.
            UsageError: `count`, `size` or `out` is not allowed.
            CorpusDamaged: an image does not match its checksum.
        """
        pairs = self._pairs(start, count, backward)
        geometry = self._lay_out(window, size, antialias, mirror)
        out = output(out, (len(pairs), 2, *geometry.size), np.float32)
        scale, zero_point, _ = self._quant_params(pairs, backward)
        scale *= geometry.displacement_factors
        fields.read_flow(self._segments, _streams(backward), pairs, geometry, (scale, zero_point), out)
        return out

    def codes(
        self,
        start: Positions,
        count: int | None = None,
        backward: bool = False,
        window: Window | None = None,
        *,
        size: Size | None = None,
        antialias: bool = True,
        mirror: bool = False,
        out: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The stored codes of pairs. `quant_params` gives their meaning.

        Args:
            start: as of `flow`.
            count: as of `flow`.
            backward: as of `flow`.
            window: as of `flow`.
            antialias: as of `flow`.
            out: as of `flow`.
            size: as of `flow`. The codes are rounded. They keep their scale, so that displacements are pixels
                of the stored picture: multiply those of u by size[1] / width of the window, and those of v by
                size[0] / its height.
            mirror: exchange left and right. The codes of u keep their meaning: the displacements to the left
                are negative in the stored picture and positive in the mirrored one.

        Returns:
            (count, 2, height, width) uint8.

        Raises:
            OutOfRange, UsageError, CorpusDamaged: as `flow`.
        """
        pairs = self._pairs(start, count, backward)
        geometry = self._lay_out(window, size, antialias, mirror)
        out = output(out, (len(pairs), 2, *geometry.size), np.uint8)
        fields.read_codes(self._segments, _streams(backward), pairs, geometry, out)
        return out

    def quant_params(self, start: Positions, count: int | None = None, backward: bool = False) -> QuantParams:
        """The parameters of the codes of pairs.

        Args:
            start: as of `flow`.
            count: as of `flow`.
            backward: as of `flow`.

        Raises:
            OutOfRange, UsageError: as `flow`.
        """
        return self._quant_params(self._pairs(start, count, backward), backward)

    def rgb(
        self,
        start: Positions,
        count: int | None = None,
        window: Window | None = None,
        *,
        size: Size | None = None,
        antialias: bool = True,
        mirror: bool = False,
        draft: bool = False,
        out: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """One frame, or several.

        Args:
            start: a frame; the first frame, with `count`; or a sequence of frames, in any order and with
                repeats.
            count: the number of frames; None for one frame, or with a sequence.
            window: as of `flow`.
            size: as of `flow`.
            antialias: as of `flow`.
            mirror: as of `flow`.
            out: as of `flow`.
            draft: decode a smaller picture where the result is at most a half, a quarter or an eighth of the
                window. This is faster. On frames of UCF-101, the mean error is 0.3 to 1.7 grey levels at a
                half, and 0.4 to 2.4 at a quarter.

        Returns:
            (height, width, 3) uint8 of one frame; else (count, height, width, 3).

        Raises:
            OutOfRange: there is no such frame, the corpus has no frames, or the window is not in the picture.
            UsageError: `count`, `size` or `out` is not allowed.
            CorpusDamaged: an image does not match its checksum.
        """
        self._check_stream("rgb")
        single = count is None and np.ndim(start) == 0
        frames = select(np.atleast_1d(start) if single else start, count, self.num_frames, "frame", self.id)
        geometry = self._lay_out(window, size, antialias, mirror)
        picture = reduce(geometry, antialias) if draft else (1, geometry)
        if single and out is None:
            return read_frame(self._segments, frames, *picture)
        out = output(out, (*(() if single else frames.shape), *geometry.size, 3), np.uint8)
        read_frames(self._segments, frames, *picture, out[None] if single else out)
        return out

    def clip(
        self,
        start: int,
        length: int,
        window: Window | None = None,
        *,
        size: Size | None = None,
        antialias: bool = True,
        mirror: bool = False,
        draft: bool = False,
    ) -> Clip:
        """Consecutive frames, and the flow of all pairs among them.

        `length` frames have `length` - `step` pairs, or none. Flow i begins at frame i of the clip.

        Args:
            start: the first frame.
            length: the number of frames.
            window: as of `flow`, for frames and flow alike.
            size: as of `flow`, for frames and flow alike.
            antialias: as of `flow`, for frames and flow alike.
            mirror: as of `flow`, for frames and flow alike.
            draft: as of `rgb`.

        Raises:
            OutOfRange: the video does not have all of the frames, or the window is not in the picture.
            UsageError: `length` or `size` is not allowed.
            CorpusDamaged: an image does not match its checksum.
        """
        frames = select(start, length, self.num_frames, "frame", self.id)
        pairs = frames[: max(0, len(frames) - self.step)]
        part: dict[str, Any] = {"size": size, "antialias": antialias, "mirror": mirror}
        return Clip(
            self.rgb(frames, None, window, draft=draft, **part) if "rgb" in self.streams else None,
            self.flow(pairs, None, False, window, **part) if "flow_u" in self.streams else None,
            self.times_seconds[frames],
            int(start),
            self.id,
            self.label,
        )

    def stored(self, stream: str, index: int) -> bytes:
        """The stored image file of a frame, or of a component of a pair's flow.

        Args:
            stream: one of `streams`.
            index: the frame or pair.

        Raises:
            OutOfRange: there is no such image, or the corpus does not have the stream.
            CorpusDamaged: the image does not match its checksum.
        """
        self._check_stream(stream)
        count, kind = (self.num_frames, "frame") if stream == "rgb" else (self.num_pairs, f"{stream} image")
        if not 0 <= index < count:
            raise OutOfRange(f"{kind} {index} of {self.id}; it has {kind}s 0 to {count - 1}")
        ((_, shard, rows),) = self._segments.image_runs([stream], np.array([index]))
        return self._segments.image(shard, int(rows[0, 0]))

    def sizes(self, stream: str) -> npt.NDArray[np.uint32]:
        """The size of each image of a stream, bytes: (num_frames,) or (num_pairs,)."""
        return self._segments.image_rows(stream)["size"]

    def fingerprint(self) -> str:
        """A digest of the sizes and checksums of all images of the first stream, hexadecimal.

        Videos with the same pictures have the same fingerprint. No image is read.
        """
        rows = self._segments.image_rows(self.streams[0])
        digest = hashlib.sha256(f"{self.width}x{self.height}".encode())
        for column in ("size", "crc32"):
            digest.update(np.ascontiguousarray(rows[column]).tobytes())
        return digest.hexdigest()

    def fields(
        self, start: int, count: int, backward: bool = False
    ) -> Iterator[tuple[EncodedField, EncodedField]]:
        """The encoded u and v of `count` pairs, as they are stored.

        Args:
            start: the first pair.
            count: the number of pairs.
            backward: read backward flow.

        Raises:
            OutOfRange, CorpusDamaged: as `flow`.
        """
        pairs = self._pairs(start, count, backward)
        table = self._segments.pair_rows(backward, pairs)
        for place, shard, rows in self._segments.image_runs(_streams(backward), pairs):
            for params, images in zip(table[place], rows.tolist(), strict=True):
                u, v = (
                    EncodedField(
                        self._segments.image(shard, image),
                        *(float(params[f"{channel}_{column}"]) for column in fmt.PAIR_COLUMNS),
                    )
                    for channel, image in zip("uv", images, strict=True)
                )
                yield u, v

    def camera(
        self, start: int, count: int, backward: bool = False
    ) -> Sequence[npt.NDArray[np.float32] | None]:
        """The camera motion that was removed from the flow of `count` pairs.

        Args:
            start: the first pair.
            count: the number of pairs.
            backward: read backward flow.

        Returns:
            For each pair a homography (3, 3). It is NaN if none could be estimated: the flow is unchanged.
            It is None in a corpus without `stabilise`.

        Raises:
            OutOfRange: as `flow`.
        """
        pairs = self._pairs(start, count, backward)
        if not self._corpus.settings.stabilise:
            return [None] * count
        return list(self._segments.pair_rows(backward, pairs)["camera"])

    @property
    def software(self) -> dict[str, str]:
        """The versions of the software that made the video's first shard."""
        return self._corpus.shard(self._segments.parts[0][0]).software

    @property
    def origin(self) -> dict[str, Any]:
        """The source file: source, source_bytes, source_width, source_height."""
        row = self._segments.parts[0][1]
        sizes = {name: int(row[name]) for name in ("source_bytes", "source_width", "source_height")}
        return {"source": as_text(row["source"]), **sizes}

    @property
    def times_seconds(self) -> npt.NDArray[np.float64]:
        """The time stamp of each frame, by the source's clock: (num_frames,); NaN if there is none."""
        return self._segments.times()

    @property
    def mean_flow(self) -> npt.NDArray[np.float32]:
        """Mean u and v of each pair before quantisation: (num_pairs, 2), pixels."""
        return self._columns("mean", backward=False)

    @property
    def mean_flow_backward(self) -> npt.NDArray[np.float32]:
        """Mean u and v of the backward flow of each pair before quantisation: (num_pairs, 2), pixels."""
        self._check_backward()
        return self._columns("mean", backward=True)

    @property
    def clipped(self) -> npt.NDArray[np.float32]:
        """The share of clipped values of u and of v of each pair: (num_pairs, 2), 0 to 1."""
        return self._columns("clipped", backward=False)

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """Pixels per code, of u and of v of each pair: (num_pairs, 2)."""
        return self._columns("scale", backward=False)

    @property
    def zero_point(self) -> npt.NDArray[np.float32]:
        """The code of zero motion, of u and of v of each pair: (num_pairs, 2)."""
        return self._columns("zero", backward=False)

    def facts(self) -> dict[str, Any]:
        """Deprecated: use `info`."""
        deprecated("Video.facts", "info")
        return self.info()

    def coding(self, start: int, count: int, backward: bool = False) -> QuantParams:
        """Deprecated: use `quant_params`."""
        deprecated("Video.coding", "quant_params")
        return self.quant_params(start, count, backward)

    @property
    def zero(self) -> npt.NDArray[np.float32]:
        """Deprecated: use `zero_point`."""
        deprecated("Video.zero", "zero_point")
        return self.zero_point

    def _columns(self, column: str, backward: bool) -> npt.NDArray[np.float32]:
        return _of_both(self._segments.pair_rows(backward), column)

    def _quant_params(self, pairs: npt.NDArray[np.int64], backward: bool) -> QuantParams:
        rows = self._segments.pair_rows(backward, pairs)
        return QuantParams(*(_of_both(rows, column) for column in fmt.PAIR_COLUMNS[:3]))

    def _pairs(self, start: Positions, count: int | None, backward: bool) -> npt.NDArray[np.int64]:
        """The pairs to read, after a check."""
        if not self._corpus.settings.flow:
            raise OutOfRange(f"{self._corpus.path} was made without flow (--no-flow)")
        if backward:
            self._check_backward()
        return select(start, count, self.num_pairs, "pair", self.id)

    def _lay_out(self, window: Window | None, size: Size | None, antialias: bool, mirror: bool) -> Geometry:
        return lay_out(window, size, antialias, mirror, (self.height, self.width), self.id)

    def _check_stream(self, stream: str) -> None:
        if stream not in self.streams:
            missing = _OPTIONS.get(stream, f"{stream}: it has {', '.join(self.streams)}")
            raise OutOfRange(f"{self._corpus.path} was made without {missing}")

    def _check_backward(self) -> None:
        if not self._corpus.settings.backward:
            raise OutOfRange(f"{self._corpus.path} was made without backward flow; it needs --backward")


def _of_both(rows: npt.NDArray[Any], column: str) -> npt.NDArray[np.float32]:
    """A column of the table of pairs, of u and of v: (rows, 2)."""
    values = np.empty((len(rows), 2), np.float32)
    values[:, 0], values[:, 1] = rows[f"u_{column}"], rows[f"v_{column}"]
    return values


def _streams(backward: bool) -> tuple[str, str]:
    """The streams of u and of v."""
    return ("flow_back_u", "flow_back_v") if backward else ("flow_u", "flow_v")


def as_text(value: bytes) -> str:
    """A text of a table. Bytes that are not UTF-8, which flowprep never writes, become U+FFFD."""
    return value.decode("utf-8", "replace")


def deprecated(old: str, new: str) -> None:
    """Warn that the caller's caller uses an old name. It works one version longer."""
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=3)
