"""What a clip shows of its video: where it begins, its frames, and the part of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep.clips.draws import Draws
from flowprep.validation import check

CROPS = (1, 5, 10)


class View(NamedTuple):
    """The part of each frame that a clip shows.

    Attributes:
        frame: (height, width) of the resized frame, pixels.
        size: (height, width) of a crop, pixels.
        places: (top, left) of each crop in the resized frame.
        mirrored: whether each crop is mirrored left to right.
    """

    frame: tuple[int, int]
    size: tuple[int, int]
    places: tuple[tuple[int, int], ...]
    mirrored: tuple[bool, ...]


@dataclass(frozen=True)
class ClipLayout:
    """The rule by which clips are taken from videos: the arguments of ClipSource that describe it.

    Raises:
        SettingsError: an argument has a value that is not allowed, or two exclude each other.
    """

    length: int = 10
    spacing: int = 1
    stride: int = 0
    segments: int = 0
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    crops: int = 1
    random: bool = False
    mirror: bool = False

    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("spacing", 1), ("stride", 0), ("segments", 0)):
            value = getattr(self, name)
            check(is_count(value, least), name, repr(value), f"a whole number from {least}")
        check(self.crops in CROPS, "crops", repr(self.crops), "1, 5 (corners and centre), 10 (and mirrored)")
        for name in ("resize", "crop"):
            value = getattr(self, name)
            ok = value is None or (len(value) == 2 and all(is_count(side, 1) for side in value))
            check(ok, name, repr(value), "a whole number of pixels, or two of them")
        for name in ("random", "mirror"):
            value = getattr(self, name)
            check(isinstance(value, bool), name, repr(value), "True or False")
        check(
            not (self.stride and self.segments),
            "stride",
            f"{self.stride} and segments is {self.segments}",
            "one of them: clips at regular distances, or clips of several segments",
        )
        check(self.crops == 1 or self.crop is not None, "crops", repr(self.crops), "1 without crop=")
        check(
            not self.mirror or self.random, "mirror", "True", "False without random=True; crops=10 shows both"
        )
        low, high = self.resize or (1, 1)
        check(low <= high, "resize", repr(self.resize), "(least, greatest) short side")
        check(low == high or self.random, "resize", repr(self.resize), "one number, unless random is True")
        check(low == high or self.crop is not None, "resize", repr(self.resize), "one number without crop=")

    @property
    def reach(self) -> int:
        """The number of frames or pairs from the first of a clip to its last."""
        return (self.length - 1) * self.spacing + 1

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes of a clip before those of a frame: crops and segments if there are several, length."""
        crops = (self.crops,) if self.crops > 1 else ()
        return (*crops, *((self.segments,) if self.segments else ()), self.length)

    def num_clips(self, available: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The number of clips of each video, of which `available` frames or pairs can be shown: (N,)."""
        if not self.stride:
            return np.ones_like(available)
        last = np.maximum(0, available - self.reach)
        return last // self.stride + 1

    def starts(self, available: int, number: int, draws: Draws | None) -> npt.NDArray[np.int64]:
        """Where clip `number` of a video begins: (1,), or (segments,).

        A video is divided into as many equal parts as there are segments. A segment begins at a random place
        of its part, or in the middle without `draws` (Wang et al. 2016, arXiv 1608.00859).
        """
        if self.stride:
            return np.array([number * self.stride])
        parts = self.segments or 1
        width = max(1, available - self.reach + 1) / parts
        places = [0.5 if draws is None else draws.uniform() for _ in range(parts)]
        return np.array([int((part + place) * width) for part, place in enumerate(places)])

    def positions(self, starts: npt.NDArray[np.int64], available: int) -> npt.NDArray[np.int64]:
        """The frames or pairs of a clip in its order: (len(starts) * length,). Past the end, the last one."""
        shown: npt.NDArray[np.int64] = starts[:, None] + self.spacing * np.arange(self.length)
        return np.minimum(shown, available - 1).ravel()

    def view(self, height: int, width: int, draws: Draws | None) -> View:
        """The part of a frame of height x width pixels that a clip shows."""
        frame = height, width
        if self.resize:
            low, high = self.resize
            side = low if draws is None else low + draws.below(high - low + 1)
            frame = resized(height, width, side)
        size = self.crop or frame
        bottom, right = frame[0] - size[0], frame[1] - size[1]
        centre = (bottom // 2, right // 2)
        if self.crops > 1:
            corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), centre)
            times = self.crops // 5
            return View(frame, size, corners * times, (False,) * 5 + (True,) * 5 * (times - 1))
        if draws is None:
            return View(frame, size, (centre,), (False,))
        place = (draws.below(bottom + 1), draws.below(right + 1))
        return View(frame, size, (place,), (self.mirror and draws.uniform() < 0.5,))

    def smallest(self, height: int, width: int) -> tuple[int, int]:
        """The smallest (height, width) that a resized frame may have."""
        return resized(height, width, self.resize[0]) if self.resize else (height, width)


def resized(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) after resizing to a short side. The long side is rounded, halves to the even number."""
    ratio = short_side / min(height, width)
    return (short_side, round(width * ratio)) if height <= width else (round(height * ratio), short_side)


def as_pair(value: Any) -> Any:
    """(value, value) for one number; two numbers and None stay."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    return value if value is None else (value, value)


def is_count(value: object, least: int) -> bool:
    """Whether a value is a whole number from `least` on, of Python or of NumPy."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least
