"""The search of a folder for video files and folders of numbered frames."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from flowprep.system.paths import printable
from flowprep.system.units import count_noun
from flowprep.video.frame_folder import series_fault
from flowprep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_system_name, suffix_of

_SHOWN = 5  # names in a remark


@dataclass
class FolderSearch:
    """The result of a search. All paths are relative to the folder.

    Attributes:
        videos: video files, and folders of numbered frames.
        others: the number of other files.
        links: links that were not followed: they lead out of the folder, nowhere, or in a circle.
        lost: folders without a video because of such links.
        passed_over: folders that were not read, or whose images were not read -> the reason.
    """

    videos: list[str] = field(default_factory=list)
    others: int = 0
    links: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)

    def remarks(self, root: Path) -> Iterator[str]:
        """What a user should know of the files that were not read, as sentences.

        Args:
            root: the folder that was searched.
        """
        for folder, reason in list(self.passed_over.items())[:_SHOWN]:
            yield f"{printable(str(root / folder))}: {reason}"
        if (more := len(self.passed_over) - _SHOWN) > 0:
            yield f"{printable(str(root))}: {count_noun(more, 'more folder')} passed over for such reasons"
        place = printable(str(root))
        if self.links:
            yield (
                f"{place}: {count_noun(len(self.links), 'link')} not followed, because they lead out of the"
                f" folder, nowhere, or in a circle: {_first(self.links)}. A list can name the targets"
            )
        if self.lost:
            yield f"{place}: no video is left, because of such links, of {_first(self.lost)}"


class _Folder(NamedTuple):
    """A folder to search: its path below the input, its real path, and whether a link led to it."""

    relative: str
    real: str
    linked: bool


@dataclass
class _Content:
    """What one folder holds: names, and the folders to search next."""

    videos: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    folders: list[_Folder] = field(default_factory=list)
    linked_images: list[str] = field(default_factory=list)  # not followed
    lost_media: int = 0  # links to videos and images that were not followed


def search_folder(root: Path) -> FolderSearch:
    """Search a folder and its subfolders for videos, in the order of their names.

    A symbolic link is followed if its target is inside the folder and no folder above it. Links in linked
    folders are followed to files only, as links of folders to each other might multiply. Files and folders
    that systems create are passed over: see `is_system_name`.

    Raises:
        OSError: the folder itself cannot be read.
    """
    search = FolderSearch()
    inside = os.path.realpath(root)
    waiting = [_Folder("", inside, False)]  # a list, because folders may be nested deeper than Python's stack
    while waiting:
        folder = waiting.pop()
        try:
            content = _read_folder(root, folder, inside, search)
        except OSError as exc:
            if not folder.relative:
                raise
            search.passed_over[folder.relative] = f"the folder cannot be read: {exc.strerror}"
            continue
        _store(folder, content, search)
        waiting.extend(reversed(content.folders))
    return search


def _read_folder(root: Path, folder: _Folder, inside: str, search: FolderSearch) -> _Content:
    content = _Content()
    with os.scandir(f"{root}{os.sep}{folder.relative}") as entries:
        names = sorted(entries, key=lambda entry: entry.name)
    for entry in names:
        if is_system_name(entry.name):
            continue
        relative = f"{folder.relative}/{entry.name}" if folder.relative else entry.name
        suffix = suffix_of(entry.name)
        link = entry.is_symlink()
        real = os.path.realpath(entry.path) if link else f"{folder.real}{os.sep}{entry.name}"
        mode = _mode(real) if link else entry.stat(follow_symlinks=False).st_mode
        is_folder = stat.S_ISDIR(mode)
        if link and not _is_followed(real, mode, folder, inside):
            if suffix in IMAGE_SUFFIXES:
                content.linked_images.append(entry.name)
            else:
                search.links.append(relative)
            content.lost_media += suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES
            if is_folder and not _is_below(real, inside):
                search.lost.append(relative)
        elif is_folder:
            content.folders.append(_Folder(relative, real, folder.linked or link))
        elif suffix in VIDEO_SUFFIXES and stat.S_ISREG(mode):
            content.videos.append(relative)
        else:
            content.files.append(entry.name)
    return content


def _is_followed(real: str, mode: int, folder: _Folder, inside: str) -> bool:
    """Whether a link in a folder is followed. `real` and `mode` are of its target."""
    if not mode or not _is_below(real, inside):
        return False
    return not stat.S_ISDIR(mode) or not (folder.linked or _is_below(folder.real, real))


def _mode(path: str) -> int:
    """The kind of a file, as `stat` gives it; 0 if there is no such file."""
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):
        return 0


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _store(folder: _Folder, content: _Content, search: FolderSearch) -> None:
    """Add the videos of a folder to the result: its video files, or the folder as a video."""
    images = [name for name in content.files if suffix_of(name) in IMAGE_SUFFIXES]
    beside = "videos" if content.videos else "folders" if content.folders else ""
    # A link among the frames of a video stays one of them: extraction gives the reason if it is not read.
    fault = series_fault([*images, *content.linked_images], gaps=False) if images else ""
    if images and not beside and not fault and folder.relative:
        search.videos.append(folder.relative)
        return
    prefix = f"{folder.relative}/" if folder.relative else ""
    search.links.extend(prefix + name for name in content.linked_images)
    search.videos.extend(content.videos)
    search.others += len(content.files)
    if images and (fault if not beside else not series_fault(images, gaps=True)):
        reason = fault or f"there are {beside} beside them"
        search.passed_over[folder.relative] = (
            f"{count_noun(len(images), 'image')} not read as frames of a video: {reason}"
        )
    if content.lost_media and not content.videos and not content.folders:
        search.lost.append(folder.relative or ".")


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(printable(name) for name in names[:_SHOWN]) + more
