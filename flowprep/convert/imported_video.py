"""Add the images of one imported video to a shard, up to its first fault."""

from __future__ import annotations

import io
import itertools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from flowprep.codec.images import decode_codes, decode_rgb
from flowprep.codec.quantise import EncodedField, encode_field
from flowprep.convert.image_folders import VideoImages
from flowprep.convert.layouts import Layout
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.errors import FileUnsuitable, VideoDamaged, VideoUnreadable, VideoUnsuitable
from flowprep.planning.sources import source_state
from flowprep.settings import Settings
from flowprep.system.files import is_machine_error, read_regular
from flowprep.video.frames import MAX_IMAGE_BYTES, check_pixels

_KINDS = {"L": "grey", "RGB": "colour"}  # by Pillow's mode


class Alignment(NamedTuple):
    """The images that make a video: frame i is image first_rgb + i, pair i is image first_flow + i.

    Attributes:
        frames: number of frames.
        first_rgb, first_flow: numbers of images.
        reason: why the video ends before its images do; "" if it does not.
    """

    frames: int
    first_rgb: int
    first_flow: int
    reason: str


class _ImageReader:
    """Reads the JPEGs of one video and checks that all have one size."""

    def __init__(self, video: VideoImages, writer: ShardWriter) -> None:
        self.video = video
        self.writer = writer
        self.size: tuple[int, int] | None = None

    def read(self, stream: str, number: int, frame: int) -> tuple[bytes, npt.NDArray[np.uint8]]:
        """The bytes and the pixels of an image.

        Args:
            stream: "rgb", "flow_u" or "flow_v".
            number: number of the image.
            frame: number of intact frames before the image.

        Raises:
            VideoDamaged: the image cannot be stored as it is.
        """
        path = self.video.images[stream][number]
        jpeg, pixels = _read_jpeg(path, self.video.root, "RGB" if stream == "rgb" else "L", frame)
        height, width = pixels.shape[:2]
        if self.size is None:
            self.size = width, height
            self.writer.describe(width=width, height=height)
        if self.size != (width, height):
            previous = f"{self.size[0]}x{self.size[1]}"
            raise VideoDamaged(f"{path.name} is {width}x{height} pixels, those before {previous}", frame)
        return jpeg, pixels


def write_imported_video(writer: ShardWriter, video: VideoImages, layout: Layout, settings: Settings) -> None:
    """Add a video to the writer of its shard.

    Raises:
        VideoUnreadable: a stream does not begin with its first number.
        VideoDamaged: the video has a fault. The frames before it were added.
    """
    alignment = align_images(video, layout, settings)
    files = [path for numbered in video.images.values() for path in numbered.values()]
    writer.describe(source_bytes=sum(source_state(path)[0] for path in files))
    reader = _ImageReader(video, writer)
    # All fields have one scale and one zero point: those of any field.
    template = encode_field(np.zeros((16, 16), np.float32), settings)
    for i in range(alignment.frames):
        jpeg = reader.read("rgb", alignment.first_rgb + i, i)[0] if settings.rgb else None
        writer.add_stored_frame(jpeg, math.nan)
        pair = i - settings.step
        if settings.flow and pair >= 0:
            number = alignment.first_flow + pair
            u = _as_field(*reader.read("flow_u", number, i), template)
            v = _as_field(*reader.read("flow_v", number, i), template)
            writer.add_pair(u, v)
    if alignment.reason:
        raise VideoDamaged(alignment.reason, alignment.frames)


def align_images(video: VideoImages, layout: Layout, settings: Settings) -> Alignment:
    """Find how many frames and pairs of a video go together, and why not all images do.

    Raises:
        VideoUnreadable: a stream is missing, or does not begin with the layout's first number.
    """
    first, step = layout.first, settings.step
    lengths: dict[str, int] = {}
    reasons = []
    for stream in settings.streams:
        lengths[stream], gap = _run_length(video, stream, first)
        if gap:
            reasons.append(gap)
    if not settings.flow:
        return Alignment(lengths["rgb"], first, first, "; ".join(reasons))
    u, v = lengths["flow_u"], lengths["flow_v"]
    pairs = min(u, v)
    if not reasons and u != v:
        reasons.append(f"{u} images of u and {v} of v")
    if not settings.rgb:
        return Alignment(pairs + step, first, first, "; ".join(reasons))
    frames = lengths["rgb"]
    if layout.leads_to and frames <= pairs:
        # Image n is the frame that flow n leads to. The frame that the first flow starts from is not there.
        if frames < pairs and not reasons:
            reasons.append(f"{frames} frames and {pairs} pairs")
        return Alignment(frames, first, first + step, "; ".join(reasons))
    if frames != pairs + step and not reasons:
        reasons.append(f"{frames} frames and {pairs} pairs; {pairs} pairs go with {pairs + step} frames")
    return Alignment(min(frames, pairs + step), first, first, "; ".join(reasons))


def _run_length(video: VideoImages, stream: str, first: int) -> tuple[int, str]:
    """The number of images without a gap, from number `first` on, and text about the gap.

    Raises:
        VideoUnreadable: there is none.
    """
    images = video.images[stream]
    if not images:
        raise VideoUnreadable(f"no images of {stream}")
    length = next(n for n in itertools.count() if first + n not in images)
    if not length:
        name = next(iter(images.values())).name
        raise VideoUnreadable(f"begins with {name}, but the layout begins at {first}: another layout?")
    if length == len(images):
        return length, ""
    return length, f"number {first + length} of {stream} is missing, {len(images)} images in all"


def _read_jpeg(path: Path, inside: Path, mode: str, frame: int) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """The bytes and the pixels of a JPEG of Pillow's mode "L" or "RGB".

    Args:
        path: the file.
        inside: the folder of the import. A link that leads out of it is refused.
        mode: of Pillow.
        frame: number of intact frames before the image.

    Raises:
        VideoDamaged: the file is no whole JPEG, too large, not in `inside`, or of another mode.
        VideoUnreadable: the machine cannot read the file.
    """
    try:
        jpeg = read_regular(path, max_bytes=MAX_IMAGE_BYTES, inside=inside)
    except FileUnsuitable as exc:
        raise VideoDamaged(str(exc).replace(str(path), path.name, 1), frame) from exc
    except OSError as exc:
        fault = f"{path.name} could not be read: {exc.strerror or exc}"
        if is_machine_error(exc):  # nothing is known of the image, so nothing is stored before it
            raise VideoUnreadable(f"{fault}. --retry-failed tries again") from exc
        raise VideoDamaged(fault, frame) from exc
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            stored_mode, (width, height) = image.mode, image.size
        check_pixels(width, height)
        decode = decode_rgb if mode == "RGB" else decode_codes
        pixels = decode(jpeg, (height, width))
    except (VideoUnsuitable, Image.DecompressionBombError) as exc:
        raise VideoDamaged(f"{path.name} cannot be read: {exc}", frame) from exc
    except MemoryError:
        raise
    except Exception as exc:  # Pillow raises many kinds for a damaged header
        raise VideoDamaged(f"{path.name} is not a complete JPEG: {exc}", frame) from exc
    if stored_mode != mode:
        kind = _KINDS.get(stored_mode, stored_mode)
        raise VideoDamaged(f"{path.name} is {kind}, and {_KINDS[mode]} is needed", frame)
    return jpeg, pixels


def _as_field(jpeg: bytes, codes: npt.NDArray[np.uint8], template: EncodedField) -> EncodedField:
    """An imported image as a field. Mean and clipping are those of its codes."""
    mean = (float(codes.mean()) - template.zero_point) * template.scale
    clipped = float(np.count_nonzero((codes == 0) | (codes == 255))) / codes.size
    return template._replace(jpeg=jpeg, mean=mean, clipped=clipped)
