"""Names of exported folders and lists: safe on every file system, and unique."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from flowprep.planning.video_lists import LIST_SUFFIXES

HEADER_FILE = "export.json"
CLASSES_FILE = "classInd.txt"
LONGEST_NAME = 150  # bytes of a folder's name; the limit of file systems is 255


def folder_names(ids: Mapping[str, str] | Sequence[str], *, flat: bool, dots: bool = True) -> dict[str, str]:
    """A safe and unique relative path for each video id.

    The path is the id without its suffix. Characters that are unsafe in a path or in a list are replaced.
    If two ids would then have one name, or names that differ by case only, a digest of the id is added.

    Args:
        ids: all ids of a corpus. The name of one video does not depend on which videos are exported.
        flat: use only the last part of each id.
        dots: allow dots.
    """
    unsafe = re.compile(r"[^\w.+=@,-]" if dots else r"[^\w+=@,-]")
    plain: dict[str, str] = {}
    for video_id in ids:
        *folders, name = video_id.split("/")
        parts = [*([] if flat else folders), PurePosixPath(name).stem]
        plain[video_id] = "/".join(_safe_part(unsafe.sub("_", part)) for part in parts)
    # The folder of a video must not lie in that of another one, nor differ from it by case only.
    uses = {HEADER_FILE: 1, CLASSES_FILE.casefold(): 1}
    for name in plain.values():
        for path in _path_and_parents(name.casefold()):
            uses[path] = uses.get(path, 0) + 1
    return {
        video_id: name if uses[name.casefold()] == 1 else f"{name}-{_digest(video_id)}"
        for video_id, name in plain.items()
    }


def list_name(selection: str) -> str:
    """The name of a selection in the names of its list files."""
    is_list = selection.endswith(LIST_SUFFIXES)
    return re.sub(r"[^\w.-]", "_", Path(selection).stem if is_list else selection)


def _safe_part(part: str) -> str:
    if not part.strip("."):
        return "_" * max(1, len(part))
    short = part.encode()[:LONGEST_NAME].decode("utf-8", "ignore")
    return part if short == part else f"{short}-{_digest(part)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _path_and_parents(path: str) -> Iterator[str]:
    yield path
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
