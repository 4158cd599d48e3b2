"""Names in lists, found among the ids of videos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import PurePosixPath

from flowprep.errors import ListMismatch, UsageError
from flowprep.system.paths import printable, shorten
from flowprep.video.suffixes import VIDEO_SUFFIXES, suffix_of

_SHOWN = 3


class NameMatcher:
    """Finds the video that a name in a list stands for.

    A name is the id of the video, with or without the suffix of a video, and with more or fewer folders in
    front of it. An absolute path also fits by its last part alone: lists of TSN name flat folders so.

    Args:
        ids: the ids of all videos.
    """

    def __init__(self, ids: Collection[str]) -> None:
        self._ids = ids if isinstance(ids, (set, frozenset, dict)) else frozenset(ids)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def find(self, name: str) -> str | None:
        """The id of the video, or None if there is no such video.

        Raises:
            UsageError: several videos fit.
        """
        name = printable(name.removeprefix("./"))
        if name in self._ids:
            return name
        parts = _parts(name)
        candidates = self._by_last_part.get(parts[-1], ()) if parts else ()
        fitting = [video for video in candidates if _is_end(parts, _parts(video))]
        if not fitting and name.startswith("/"):
            fitting = list(candidates)
        if len(fitting) > 1:
            fitting = [video for video in fitting if suffix_of(video) == suffix_of(name)] or fitting
        if len(fitting) > 1:
            raise UsageError(
                f"{shorten(name)} may be {shorten(fitting[0])} or {shorten(fitting[1])}; write the whole id"
            )
        return fitting[0] if fitting else None

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        videos: dict[str, list[str]] = defaultdict(list)
        for video in self._ids:
            if parts := _parts(video):
                videos[parts[-1]].append(video)
        return dict(videos)


def check_coverage(source: str, total: int, missing: Sequence[str], place: str, *, allowed: bool) -> None:
    """Refuse a list of which no video, or less than half of the videos, exists.

    Args:
        source: the list.
        total: the number of its videos.
        missing: the names that do not exist.
        place: where they were looked up, for the message.
        allowed: less than half is enough. Nothing never is.

    Raises:
        ListMismatch: with the first missing names.
    """
    existing = total - len(missing)
    if existing * 2 >= total or (allowed and existing):
        return
    advice = "; --allow-missing leaves them out" if existing else ""
    raise ListMismatch(describe_missing(source, total, missing, place) + advice)


def describe_missing(source: str, total: int, missing: Sequence[str], place: str) -> str:
    """How many videos of a list are missing, and the first of them."""
    names = ", ".join(map(shorten, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
    return f"{source}: {len(missing)} of {total} videos are not {place}: {names}"


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path, without the suffix of a video."""
    path = PurePosixPath(name)
    parts = path.parts[1:] if path.is_absolute() else path.parts
    if parts and path.suffix.lower() in VIDEO_SUFFIXES:
        return (*parts[:-1], path.stem)
    return parts


def _is_end(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether one of two paths is the end of the other."""
    length = min(len(first), len(second))
    return length > 0 and first[-length:] == second[-length:]
