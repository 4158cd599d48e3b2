"""A folder of numbered images, read as a video."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowprep.errors import FileUnsuitable, VideoDamaged, VideoError, VideoUnreadable
from flowprep.settings import MAX_PIXELS
from flowprep.system.files import read_regular
from flowprep.system.paths import printable
from flowprep.video.frames import MAX_IMAGE_BYTES, Frame, SourceFormat, decode_image, reason
from flowprep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_system_name, suffix_of

_SHOWN_PATTERNS = 3


def numbered_frames(folder: Path) -> list[Path]:
    """The images of a folder of numbered frames, in order.

    All images share one name pattern, `<prefix><number><suffix>`, and the numbers have no gap.

    Raises:
        VideoUnreadable: the folder has no such images or more than one pattern; or a number is missing or
            occurs twice.
    """
    series = _image_series(path.name for path in folder.iterdir())
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
    return [folder / name for _, name in numbered]


def is_frame_folder(folder: Path) -> bool:
    """Whether a folder counts as a video: it has one series of numbered images, and no video or folder.

    Files and folders that systems create (`._img_00001.jpg`, `@eaDir`) do not count.
    """
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system_name(entry.name):
                continue
            if suffix_of(entry.name) in VIDEO_SUFFIXES or Path(entry.path).is_dir():
                return False
            names.append(entry.name)
    return not series_fault(names, gaps=True)


def series_fault(names: Iterable[str], *, gaps: bool) -> str:
    """Why the images of a folder are not the frames of a video; "" if they are.

    Args:
        names: the names of the files in the folder.
        gaps: a series may have gaps. Without it, a series with gaps needs at least ten images: fewer are
            more likely somebody's figures than a video that lost frames.
    """
    series = _image_series(names)
    if not series:
        return "their names have no numbers"
    if len(series) > 1:
        patterns = sorted(f"{prefix}<number>{suffix}" for prefix, suffix in series)
        more = ", ..." if len(patterns) > _SHOWN_PATTERNS else ""
        return f"{len(series)} series of numbers: {printable(', '.join(patterns[:_SHOWN_PATTERNS]))}{more}"
    (numbered,) = series.values()
    if len(numbered) < 2:
        return "only one of them has a number"
    numbers = sorted(number for number, _ in numbered)
    if not gaps and len(numbers) < 10 and numbers[-1] - numbers[0] != len(numbers) - 1:
        return (
            f"the numbers from {numbers[0]} to {numbers[-1]} have gaps, and there are fewer than ten images"
        )
    return ""


def read_frame_folder(
    folder: Path, start: int = 0, max_pixels: int = MAX_PIXELS, inside: Path | None = None
) -> Iterator[tuple[SourceFormat, Frame]]:
    """Decode the images of a folder in order; see `flowprep.video.decode.decode_frames`."""
    source: SourceFormat | None = None
    try:
        images = numbered_frames(folder)
    except OSError as exc:
        raise VideoUnreadable(reason(exc)) from exc
    for index, path in enumerate(images):
        name = printable(path.name)
        try:
            data = read_regular(path, max_bytes=MAX_IMAGE_BYTES, inside=inside)
            rgb = decode_image(data, max_pixels)
        except FileUnsuitable as exc:
            fault = printable(str(exc).removeprefix(f"{path} "))
            raise VideoDamaged(f"{name} cannot be read: it {fault}", index) from exc
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


def _image_series(names: Iterable[str]) -> dict[tuple[str, str], list[tuple[int, str]]]:
    """The numbers and names of numbered images, by the text before the number and the suffix."""
    series: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in names:
        suffix = suffix_of(name)
        match = re.fullmatch(r"(.*?)(\d+)", name[: len(name) - len(suffix)], re.DOTALL)
        if match and suffix in IMAGE_SUFFIXES and not is_system_name(name):
            series.setdefault((match[1], suffix), []).append((int(match[2]), name))
    return series
