"""Videos of a corpus by their names: the id, the label, the name of the file, or a pattern."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import islice

_COMPARED = 20_000  # ids in the search for the nearest ones
_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")


def find_videos(labels: Mapping[str, str], name: str) -> list[str]:
    """The ids that a name stands for, in the order of the corpus; empty if it stands for none.

    The first of these rules that gives an id is applied:
        - the name is an id;
        - the name is a label: all videos of the class;
        - the name is an id without its suffix, or the last part of an id, with or without the suffix;
        - the name is a pattern of ids with `*`, `?` and `[...]`.

    Args:
        labels: id -> label of all videos.
        name: the name.
    """
    if name in labels:
        return [name]
    if name and (found := [video for video, label in labels.items() if label == name]):
        return found
    if name and (found := [video for video in labels if name in video and name in _short_names(video)]):
        return found
    return [video for video in labels if fnmatchcase(video, name)]


def nearest_videos(ids: Iterable[str], name: str) -> list[str]:
    """Up to three ids that are spelt most like a name. Of a large corpus, the first 20,000 are compared."""
    without_folder, without_suffix = "/" not in name, "." not in name

    def spelling(video: str) -> str:
        """The part that the name has, too. Zeros before numbers, as in g01, are often left out."""
        part = video.rpartition("/")[2] if without_folder else video
        return _ZEROS.sub("", part.rpartition(".")[0] or part if without_suffix else part)

    spelt = {spelling(video): video for video in islice(ids, _COMPARED)}
    return [spelt[near] for near in difflib.get_close_matches(spelling(name), spelt, 3)]


def unknown_video(ids: Iterable[str], name: str, where: object, failures: Mapping[str, str] = {}) -> str:
    """The message about a name that stands for no video.

    Args:
        ids: the ids of the videos.
        name: the name.
        where: the corpus.
        failures: reason by id, of the videos that are not stored.
    """
    for video, reason in failures.items():
        if name == video or name in _short_names(video):
            return f"{video!r} could not be extracted: {reason}"
    near = nearest_videos(ids, name)
    return f"no video {name!r} in {where}" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _short_names(video: str) -> Container[str]:
    """The names of a video that leave out its suffix, its folder, or both."""
    last = video.rpartition("/")[2]
    suffix = len(last) - last.rfind(".") if last.rfind(".") > 0 else 0
    end = len(video) - suffix
    return video[:end], last, last[: len(last) - suffix]
