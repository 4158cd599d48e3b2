"""A folder of numbered images, read as a video."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from flowprep.errors import VideoDamaged, VideoError, VideoUnreadable
from flowprep.settings import MAX_PIXELS
from flowprep.system.paths import printable
from flowprep.video.frames import Frame, SourceFormat, decode_image, reason
from flowprep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES


def numbered_frames(folder: Path) -> list[Path]:
    """The images of a folder of numbered frames, in order.

    All images share one name pattern, `<prefix><number><suffix>`, and the numbers have no gap.

    Raises:
        VideoUnreadable: the folder has no such images or more than one pattern; or a number is missing or
            occurs twice.
    """
    series = _image_series(folder)
    if len(series) != 1:
        patterns = ", ".join(sorted(f"{prefix}<number>{suffix}" for prefix, suffix in series)) or "none"
        raise VideoUnreadable(
            f"a folder of frames needs one series of numbered images; found: {printable(patterns)}"
        )
    (numbered,) = series.values()
    numbered.sort()
    numbers = [number for number, _ in numbered]
    for previous, following in itertools.pairwise(numbers):
        if following != previous + 1:
            fault = f"{following} is there twice" if following == previous else f"{previous + 1} is missing"
            raise VideoUnreadable(f"frame {fault}: the images run from {numbers[0]} to {numbers[-1]}")
    return [path for _, path in numbered]


def is_frame_folder(folder: Path, nested: bool = False) -> bool:
    """Whether a folder counts as a video: it has one series of numbered images, and no video or folder.

    Args:
        folder: the folder to look at.
        nested: the folder was found by a search, and not named by the user. Then a series with gaps needs at
            least ten images: fewer are more likely somebody's figures than a video that lost frames.
    """
    if any(p.is_dir() or p.suffix.lower() in VIDEO_SUFFIXES for p in folder.iterdir()):
        return False
    series = list(_image_series(folder).values())
    if len(series) != 1 or len(series[0]) < 2:
        return False
    numbers = sorted(number for number, _ in series[0])
    return not nested or len(numbers) >= 10 or numbers[-1] - numbers[0] == len(numbers) - 1


def read_frame_folder(
    folder: Path, start: int = 0, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[SourceFormat, Frame]]:
    """Decode the images of a folder in order; see `flowprep.video.decode.decode_frames`."""
    source: SourceFormat | None = None
    for index, path in enumerate(numbered_frames(folder)):
        name = printable(path.name)
        try:
            rgb = decode_image(path.read_bytes(), max_pixels)
        except (OSError, VideoError) as exc:
            raise VideoDamaged(f"{name} cannot be read: {reason(exc)}", index) from exc
        height, width = rgb.shape[:2]
        source = source or SourceFormat(width, height, 0.0)
        check_same_size(source, width, height, index)
        if index >= start:
            yield source, Frame(rgb, float("nan"))


def check_same_size(source: SourceFormat, width: int, height: int, index: int) -> None:
    """Refuse frame `index` if its size differs from that of the first frame.

    Raises:
        VideoDamaged: the size differs.
    """
    if (width, height) != (source.width, source.height):
        raise VideoDamaged(
            f"frame {index} is {width}x{height}, the first is {source.width}x{source.height}", index
        )


def _image_series(folder: Path) -> dict[tuple[str, str], list[tuple[int, Path]]]:
    """The numbered images of a folder, by the text before the number and the suffix."""
    series: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        match = re.fullmatch(r"(.*?)(\d+)", path.stem)
        if match and path.suffix.lower() in IMAGE_SUFFIXES:
            series.setdefault((match[1], path.suffix), []).append((int(match[2]), path))
    return series
