"""The file of a film."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from flowprep.errors import UsageError
from flowprep.system.atomic import atomic_path
from flowprep.system.progress import Progress, no_progress
from flowprep.viz.colours import Image

log = logging.getLogger(__name__)

# Options of the encoders, in the order of preference. Browsers play all but the last.
ENCODERS: Mapping[str, Mapping[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libopenh264": {"b": "6000000"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6"},
    "mpeg4": {"b": "6000000"},
}
# Ticks per second: a frame of the usual rates has a whole number of them, and MPEG-4 allows no more.
_CLOCK = 60_000


@dataclass(frozen=True)
class FilmFile:
    """A written film.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        frames: number of pictures.
        width, height: size of a picture, pixels.
    """

    encoder: str
    frames: int
    width: int
    height: int

    def to_dict(self) -> dict[str, Any]:
        """The film as JSON values."""
        return asdict(self)


def save_film(
    pictures: Iterable[tuple[float, Image]],
    path: str | Path,
    progress: Progress = no_progress,
    total: int = 0,
    encoders: Mapping[str, Mapping[str, str]] = ENCODERS,
) -> FilmFile:
    """Write pictures with their times as .mp4. The file appears when it is complete.

    The film is H.264 in yuv420p, which browsers play, if FFmpeg has an encoder for it.

    Args:
        pictures: seconds, rising from 0, and (H, W, 3) uint8 RGB images with even sides.
        path: the file.
        progress: called after each picture.
        total: number of pictures to expect, for `progress` only; 0 if not known.
        encoders: options of the encoders, in the order of preference. FFmpeg must have one of them.

    Raises:
        UsageError: the file cannot be written.
    """
    import av

    path = Path(path)
    encoder = next(name for name in encoders if _has_encoder(name))
    if encoder == "mpeg4":
        log.warning("%s is MPEG-4 part 2, which browsers do not play: FFmpeg has no other encoder here", path)
    frames = width = height = 0
    try:
        with (
            atomic_path(path) as temporary,
            av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
        ):
            stream: Any = container.add_stream(encoder, options=dict(encoders[encoder]))
            for seconds, picture in pictures:
                if not frames:
                    height, width = picture.shape[:2]
                    _set_format(stream, width, height)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
                frame.pts, frame.time_base = round(seconds * _CLOCK), Fraction(1, _CLOCK)
                container.mux(stream.encode(frame))
                frames += 1
                progress(frames, total)
            container.mux(stream.encode(None))
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return FilmFile(encoder, frames, width, height)


def _set_format(stream: Any, width: int, height: int) -> None:
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, _CLOCK)
    context.framerate = Fraction(25)
    # ITU-R BT.709, which the file states: a player that guesses would shift the colours.
    context.colorspace = context.color_primaries = context.color_trc = 1
    context.color_range = 1


def _has_encoder(name: str) -> bool:
    """Whether FFmpeg has this encoder."""
    import av

    try:
        av.Codec(name, "w")
    except ValueError:
        return False
    return True
