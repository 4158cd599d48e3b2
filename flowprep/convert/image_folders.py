"""Find the images of videos in folders of a layout."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowprep.convert.layouts import Layout, step_mark
from flowprep.system.paths import printable
from flowprep.video.suffixes import is_system_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoImages:
    """The images of one video.

    Attributes:
        id: relative path of its folder.
        root: the folder that was searched.
        folder: the folder.
        label: name of the folder above.
        images: stream -> number -> file.
    """

    id: str
    root: Path
    folder: Path
    label: str
    images: dict[str, dict[int, Path]]


def find_video_images(root: Path, layout: Layout, step: int) -> Iterator[VideoImages]:
    """Search a folder for videos whose images have the names of a layout.

    Args:
        root: the folder to search. It may be the folder of one video.
        layout: gives the names.
        step: distance between the two frames of a pair, in frames.
    """
    root = Path(os.path.abspath(root))
    mark = step_mark(step)
    tops = {template: root / template.partition("{video}")[0] for template in (layout.rgb, layout.u)}
    folders: dict[Path, None] = {}
    for top in dict.fromkeys(tops.values()):
        for folder, subfolders, _ in os.walk(top, onerror=_warn):
            subfolders[:] = sorted(name for name in subfolders if not is_system_name(name))
            folders[Path(folder).relative_to(top)] = None
    for relative in folders:
        templates = {"rgb": layout.rgb, "flow_u": layout.u, "flow_v": layout.v}
        images = {stream: _numbered_images(root, t, relative, mark) for stream, t in templates.items()}
        for u, v in layout.others if not images["flow_u"] and not images["flow_v"] else ():
            for stream, template in (("flow_u", u), ("flow_v", v)):
                images[stream] = _numbered_images(root, template, relative, mark)
        if any(images.values()):
            video_id = printable(relative.as_posix() if relative.parts else root.name)
            yield VideoImages(video_id, root, root / relative, printable(relative.parent.name), images)


def _numbered_images(root: Path, template: str, video: Path, mark: str) -> dict[int, Path]:
    """Number -> file, for the files of a video's folder that match a template."""
    folder, _, name = template.rpartition("/")
    path = root / folder.format(video=video.as_posix())
    try:
        found = sorted(entry.name for entry in path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as exc:
        _warn(exc)
        return {}
    prefix, suffix = name.replace("{step}", mark).split("{number:")
    pattern = re.compile(re.escape(prefix) + r"(\d+)" + re.escape(suffix.partition("}")[2]))
    return {int(match[1]): path / match[0] for match in map(pattern.fullmatch, found) if match}


def _warn(exc: OSError) -> None:
    log.warning("%s is passed over: %s", printable(str(exc.filename)), exc.strerror)
