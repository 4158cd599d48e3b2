"""The files of planned videos: their state, copies and moved files, and what happened to them since."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprep.corpus.plan import Plan, Segment, Task
from flowprep.corpus.store import CorpusStore
from flowprep.planning.video_lists import path_exists
from flowprep.system.files import open_regular
from flowprep.system.paths import printable
from flowprep.system.units import count_noun

if TYPE_CHECKING:
    from flowprep.planning.discover import SourceVideo

log = logging.getLogger(__name__)

_SAMPLE_BYTES = 1 << 14
_THREADS = 8  # looking at a file is mostly waiting
_SHOWN = 3


def source_state(path: Path) -> tuple[int, int]:
    """The size of a file, in bytes, and its modification time, in ns; of a folder, those of its files.

    Returns:
        (0, 0) if there is no such file. Extraction then gives the reason.
    """
    try:
        if path.is_dir():
            states = [child.stat() for child in path.iterdir() if child.is_file()]
            return sum(s.st_size for s in states), max((s.st_mtime_ns for s in states), default=0)
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    except (OSError, ValueError):
        return 0, 0


def source_digest(path: Path) -> str:
    """A digest of the beginning, the middle and the end of a file; of a folder, of its names and some images.

    Returns:
        "" if it cannot be read, or is empty.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            files = sorted(child for child in path.iterdir() if child.is_file())
            digest.update("\n".join(printable(child.name) for child in files).encode())
            files = [files[0], files[len(files) // 2], files[-1]] if files else []
        else:
            files = [path]
        sizes = [_add_samples(digest, file) for file in files]
    except (OSError, ValueError):
        return ""
    return digest.hexdigest()[:32] if any(sizes) else ""


def follow_sources(
    plan: Plan, videos: Sequence[SourceVideo], *, add_copies: bool = False
) -> tuple[Plan, list[SourceVideo]]:
    """Recognise the videos that are planned already, at another place.

    A video is that of a planned file if both have the same size and the same sampled digest. If the planned
    file is not there any more, it was moved: the plan gets the new path, and the video keeps its id and
    label. If it is still there, but in no input, the new file is a copy. A plan of an older version has no
    digests: then a file that is not there any more is recognised by its size and its path in the input.

    Args:
        plan: the plan.
        videos: the videos of the inputs.
        add_copies: keep copies.

    Returns:
        The plan with the new paths, and the videos without copies.
    """
    present = {video.path for video in videos}
    planned: dict[int, list[Segment]] = defaultdict(list)
    known: set[str] = set()
    for task in plan.tasks:
        for segment in task.segments:
            known.add(segment.path)
            if segment.segment == 0 and segment.path not in present and segment.source_bytes:
                planned[segment.source_bytes].append(segment)
    if not planned:
        return plan, list(videos)
    new = [video for video in videos if video.path not in known]
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = pool.map(_size, new)
        candidates = [(video, planned[n]) for video, n in zip(new, sizes, strict=True) if n in planned]
        digests = list(pool.map(lambda pair: source_digest(Path(pair[0].path)), candidates))
    exists = cache(lambda path: path_exists(Path(path)))
    moved: dict[str, SourceVideo] = {}  # by id
    copies: dict[str, Segment] = {}  # by path
    for (video, segments), digest in zip(candidates, digests, strict=True):
        same = [s for s in segments if _is_same(s, video, digest, exists(s.path))]
        gone = [s for s in same if not exists(s.path) and s.id not in moved]
        if gone:
            moved[min(gone, key=lambda s: s.source != video.source).id] = video
        elif same:
            copies[video.path] = same[0]
    _report(moved, copies, plan, add_copies=add_copies)
    if moved:
        plan = dataclasses.replace(plan, tasks=tuple(_with_paths(task, moved) for task in plan.tasks))
    return plan, [video for video in videos if add_copies or video.path not in copies]


@dataclass(frozen=True)
class SourceChanges:
    """What happened to the files of planned videos.

    Attributes:
        deleted: ids of the videos whose file does not exist any more.
        replaced: ids of the videos whose file has other content than the one that was planned or extracted.
    """

    deleted: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The changes in plain types."""
        return {"deleted": list(self.deleted), "replaced": list(self.replaced)}

    def remarks(self) -> list[str]:
        """The changes as sentences."""
        texts = []
        for ids, word in ((self.deleted, "deleted"), (self.replaced, "replaced")):
            if ids:
                were = "was" if len(ids) == 1 else "were"
                texts.append(
                    f"{count_noun(len(ids), 'source')} {were} {word} since: {_names(ids)}."
                    " What was extracted before stays"
                )
        return texts


def find_source_changes(store: CorpusStore, plan: Plan) -> SourceChanges:
    """Look at the file of each planned video.

    A file was replaced if its size differs from the plan, or its time and its sampled digest. It must also
    have been changed after the record of its task was written: a retry accepts a changed file.
    """
    whole = [
        (task.id, segment)
        for task in plan.tasks
        for segment in task.segments
        if segment.segment == 0 and segment.source_bytes
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda item: _change(store, *item), whole))
    changes: dict[str, list[str]] = {"deleted": [], "replaced": []}
    for (_, segment), change in zip(whole, found, strict=True):
        if change:
            changes[change].append(segment.id)
    return SourceChanges(tuple(changes["deleted"]), tuple(changes["replaced"]))


def _change(store: CorpusStore, task: str, segment: Segment) -> str:
    path = Path(segment.path)
    if not path_exists(path):
        return "deleted"
    size, modified = source_state(path)
    if size == segment.source_bytes:
        same_time = segment.modified_ns in (0, modified)
        if same_time or not segment.digest or source_digest(path) == segment.digest:
            return ""
    try:
        written = store.record_path(task).stat().st_mtime_ns
        changed = max(file.stat().st_ctime_ns for file in [path, *(path.iterdir() if path.is_dir() else ())])
    except FileNotFoundError:
        return "replaced"  # its task is not done
    except OSError:
        return ""
    return "replaced" if changed > written else ""


def _size(video: SourceVideo) -> int:
    return video.size if video.size >= 0 else source_state(Path(video.path))[0]


def _is_same(segment: Segment, video: SourceVideo, digest: str, exists: bool) -> bool:
    if segment.digest or exists:
        return bool(digest) and digest == (segment.digest or source_digest(Path(segment.path)))
    return segment.source == video.source


def _with_paths(task: Task, moved: dict[str, SourceVideo]) -> Task:
    def corrected(segment: Segment) -> Segment:
        if segment.id not in moved:
            return segment
        path = moved[segment.id].path
        return dataclasses.replace(segment, path=path, modified_ns=source_state(Path(path))[1])

    return Task(task.id, tuple(map(corrected, task.segments)))


def _report(
    moved: dict[str, SourceVideo], copies: dict[str, Segment], plan: Plan, *, add_copies: bool
) -> None:
    old = {s.id: s.source for task in plan.tasks for s in task.segments if s.id in moved}
    renamed = [f"{video.source} (was {old[i]})" for i, video in moved.items() if video.source != old[i]]
    if renamed:
        log.warning(
            "%s renamed since they were planned; they keep their ids and labels: %s",
            f"{count_noun(len(renamed), 'video')} {'was' if len(renamed) == 1 else 'were'}",
            _names(renamed),
        )
    if moved and (same := len(moved) - len(renamed)):
        log.warning("%s found at another place than before", count_noun(same, "planned video"))
    if copies:
        names = [f"{printable(path)} (of {segment.id})" for path, segment in copies.items()]
        log.warning(
            "%s %s of planned videos%s: %s",
            count_noun(len(copies), "file"),
            "is a copy" if len(copies) == 1 else "are copies",
            "" if add_copies else " and left out; --add-copies extracts them, too",
            _names(names),
        )


def _names(names: Sequence[str] | Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _add_samples(digest: Any, path: Path) -> int:
    """Add the size of a file and its samples to a digest; gives the size."""
    with open_regular(path) as file:
        size = file.seek(0, 2)
        digest.update(b"%d" % size)
        for start in (0, max(0, size // 2 - _SAMPLE_BYTES // 2), max(0, size - _SAMPLE_BYTES)):
            file.seek(start)
            digest.update(file.read(_SAMPLE_BYTES))
    return size
