"""The videos that the inputs of a command stand for, where no corpus is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowprep.planning.discover import discover_videos
from flowprep.planning.video_lists import is_list
from flowprep.video.suffixes import VIDEO_SUFFIXES, suffix_of


def video_paths(inputs: Sequence[Path]) -> list[Path]:
    """The videos of inputs as `discover_videos` finds them: files, and folders of numbered frames.

    A file whose suffix is not known is one of them, too: its content decides.

    Raises:
        UsageError: an input does not exist, or no input contains a video.
    """
    videos: list[Path] = []
    for path in inputs:
        if path.is_file() and not is_list(path) and suffix_of(path.name) not in VIDEO_SUFFIXES:
            videos.append(path)
        else:
            videos += [Path(video.path) for video in discover_videos([path]).videos]
    return videos


def spread(videos: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of the videos, evenly spread over their order."""
    if len(videos) <= count:
        return list(videos)
    return [videos[number * len(videos) // count] for number in range(count)]
