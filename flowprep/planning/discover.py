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
from flowprep.planning.listed_files import ListedFiles, read_listed_files
from flowprep.planning.video_lists import LIST_SUFFIXES, is_list, path_exists
from flowprep.system.paths import check_no_address, printable
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
        missing: the names of listed videos that do not exist.
        remarks: what the user should know of the files that were not read, as sentences.
    """

    videos: list[SourceVideo] = field(default_factory=list)
    skipped: int = 0
    links: int = 0
    passed_over: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def discover_videos(
    inputs: Sequence[str | Path], root: Path | None = None, *, allow_missing: bool = False
) -> Discovery:
    """Find all videos of the inputs.

    An input is one of these:
        - a video file;
        - a folder of numbered frames;
        - another folder, which is searched for video files and for folders of numbered frames;
        - a list, as `video_lists` describes it.

    In a folder, a symbolic link is followed only if its target is inside the same input.

    Args:
        inputs: the inputs.
        root: the folder that relative paths in lists begin at; the folder of each list if None.
        allow_missing: leave out videos of a list that do not exist, with a warning.

    Raises:
        UsageError: an input does not exist or is of another kind, or no input contains a video.
        ListMismatch: of a list, no video exists, or less than half of the videos.
    """
    for name in inputs:
        check_no_address("", str(name))
        if not path_exists(Path(name)) and not is_list(name):
            raise UsageError(f"no such input: {name}")
    absolute = [Path(os.path.abspath(name)) for name in inputs]
    roots = [path if path.is_dir() else root or path.parent for path in absolute]
    discovery = Discovery()
    with many_objects():
        for path, prefix in zip(absolute, _shortest_names(roots), strict=True):
            if path.is_dir() and not is_frame_folder(path):
                _search(path, prefix, discovery)
            elif is_list(path):
                files = read_listed_files(path, root, allow_missing=allow_missing)
                discovery.videos += _listed_videos(files, prefix)
                discovery.missing += files.missing
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


def _listed_videos(files: ListedFiles, prefix: str) -> Iterator[SourceVideo]:
    folder = str(files.folder).rstrip(os.sep) + os.sep
    for row in files.rows:
        # A path outside the folder keeps all its parts but the first slash.
        relative = row.path.removeprefix(folder).lstrip(os.sep)
        yield SourceVideo(row.path, _as_id(relative), row.label, prefix, row.frames, row.size)


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
