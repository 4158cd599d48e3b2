"""Discovery of videos: from the inputs of a command to the videos in them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from flowprep.corpus.plan import many_objects
from flowprep.errors import UsageError
from flowprep.planning.folder_search import search_folder
from flowprep.planning.video_lists import LIST_SUFFIXES, read_video_list
from flowprep.system.paths import printable
from flowprep.system.units import count_noun
from flowprep.video.frame_folder import is_frame_folder
from flowprep.video.suffixes import VIDEO_SUFFIXES

log = logging.getLogger(__name__)


class SourceVideo(NamedTuple):
    """A video in the inputs. A tuple, because there may be millions.

    Attributes:
        path: absolute. Links are not resolved: a link keeps its own place and name.
        source: the path relative to the input, with "/" between the parts.
        label: the video's class, or "".
        prefix: distinguishes the input from the others: two inputs may contain the same `source`.
        frames, size: the numbers of frames and bytes, if a list gives them; else -1.
    """

    path: str
    source: str
    label: str
    prefix: str
    frames: int = -1
    size: int = -1


@dataclass
class Discovery:
    """The result of a search.

    Attributes:
        videos: in the order of the inputs.
        skipped: the number of files that are not videos.
        links: the number of links that were not followed.
        passed_over: folder -> why it, or the images in it, was not read.
        remarks: what the user should know of the files that were not read, as sentences.
    """

    videos: list[SourceVideo] = field(default_factory=list)
    skipped: int = 0
    links: int = 0
    passed_over: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def discover_videos(inputs: Sequence[str | Path]) -> Discovery:
    """Find all videos of the inputs.

    An input is one of these:
        - a video file;
        - a folder of numbered frames;
        - another folder, which is searched for video files and for folders of numbered frames;
        - a list, as `video_lists` describes it. Its paths are relative to the folder of the list.

    In a folder, a symbolic link is followed only if its target is inside the same input.

    Raises:
        UsageError: an input does not exist or is of another kind, or no input contains a video.
    """
    paths = [Path(each) for each in inputs]
    for path in paths:
        if not path.exists():
            raise UsageError(f"no such input: {path}")
    absolute = [Path(os.path.abspath(path)) for path in paths]
    roots = [path if path.is_dir() else path.parent for path in absolute]
    discovery = Discovery()
    with many_objects():
        for path, root, prefix in zip(absolute, roots, _shortest_names(roots), strict=True):
            if path.is_dir() and not is_frame_folder(path):
                _search(path, prefix, discovery)
            elif path.suffix.lower() in LIST_SUFFIXES and not path.is_dir():
                discovery.videos += _listed_videos(path, root, prefix)
            elif path.is_dir() or (path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES):
                discovery.videos.append(SourceVideo(str(path), _as_id(path.name), "", prefix))
            else:
                known = " ".join([*LIST_SUFFIXES, *sorted(VIDEO_SUFFIXES)])
                raise UsageError(f"{path} is not a folder, a list or a video; known suffixes: {known}")
    for remark in discovery.remarks:
        log.warning("%s", remark)
    if not discovery.videos:
        raise UsageError(
            f"no video in {', '.join(map(str, inputs))} ({count_noun(discovery.skipped, 'other file')},"
            f" {count_noun(discovery.links, 'link')} not followed). Known suffixes:"
            f" {' '.join(sorted(VIDEO_SUFFIXES))}. Links that lead out of a folder are not followed: write"
            " their targets into a list"
        )
    return discovery


def _search(root: Path, prefix: str, discovery: Discovery) -> None:
    search = search_folder(root)
    for relative in search.videos:
        label = printable((root / relative).parent.name)
        discovery.videos.append(SourceVideo(f"{root}{os.sep}{relative}", _as_id(relative), label, prefix))
    discovery.skipped += search.others
    discovery.links += len(search.links)
    for relative, reason in search.passed_over.items():
        discovery.passed_over[printable(str(root / relative))] = reason
    discovery.remarks += search.remarks(root)


def _listed_videos(path: Path, root: Path, prefix: str) -> Iterator[SourceVideo]:
    folder = str(root).rstrip(os.sep) + os.sep
    for row in read_video_list(path):
        video = os.path.normpath(row.path if row.path.startswith(os.sep) else folder + row.path)
        # A path outside the folder keeps all its parts but the first slash.
        relative = video.removeprefix(folder) if video.startswith(folder) else video.lstrip(os.sep)
        yield SourceVideo(video, _as_id(relative), row.label, prefix, row.frames, row.size)


def _shortest_names(folders: Sequence[Path]) -> list[str]:
    """For each folder, as many of its last path components as distinguish it from the others."""
    for depth in range(1, max((len(folder.parts) for folder in folders), default=0)):
        names = {folder: _as_id(Path(*folder.parts[-depth:])) for folder in folders}
        if len(set(names.values())) == len(names):
            return [names[folder] for folder in folders]
    return [_as_id(folder) for folder in folders]


def _as_id(path: str | Path) -> str:
    """A path as a video id: "/" between the parts; bytes that are not UTF-8 are written as `\\xNN`."""
    return printable(os.fspath(path).replace(os.sep, "/"))
