"""Planning: from videos to tasks.

The id of a task is a digest of the settings and of its segments. It does not depend
on the number of workers. So two machines that plan the same inputs plan the same tasks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from flowprep.corpus import format as fmt
from flowprep.corpus.plan import Plan, Segment, Task, many_objects
from flowprep.corpus.store import CorpusStore
from flowprep.errors import SettingsConflict, UsageError
from flowprep.planning.discover import SourceVideo
from flowprep.planning.sources import follow_sources, source_digest, source_state
from flowprep.presets import preset_options
from flowprep.settings import MAX_SEGMENTS, Settings
from flowprep.system.progress import Progress, no_progress
from flowprep.video.container import estimate_frames

INSPECTED_TOGETHER = 1000  # videos; progress is reported after each such batch


def make_plan(
    store: CorpusStore,
    videos: Sequence[SourceVideo],
    settings: Settings,
    progress: Progress = no_progress,
    max_segments: int = MAX_SEGMENTS,
    estimate: Callable[[Path], int] = estimate_frames,
    *,
    add_copies: bool = False,
) -> Plan:
    """Plan the videos that are not in the plan yet, as further tasks, and store the plan.

    Args:
        store: the corpus; its plan is extended if there is one.
        videos: from `discover_videos`.
        settings: must be those of the existing plan.
        progress: called with the number of new videos that were inspected, and of all new videos.
        max_segments: a long video becomes at most this many segments, each a task.
        estimate: the expected number of frames of a file.
        add_copies: also plan files that are copies of planned videos: see `follow_sources`.

    Raises:
        SettingsConflict: the corpus was planned with other settings.
        UsageError: two videos would have one id, or the corpus has lost its plan.
    """
    planned = store.has_plan()
    if not planned and store.recorded_tasks():
        raise UsageError(
            f"{store.path} has records but no {fmt.PLAN}: it can be read but not extended; use another --out"
        )
    stored = store.read_plan() if planned else Plan(settings)
    if differences := settings.differences(stored.settings):
        is_other_preset = settings.tvl1 != stored.settings.tvl1 and settings.engine == stored.settings.engine
        preset = f" (`{preset_options(stored.settings.tvl1)}`)" if is_other_preset else ""
        raise SettingsConflict(
            f"{store.path} has other settings (requested, stored): {'; '.join(differences)}. Use the stored"
            f" ones{preset}, or another --out"
        )
    with many_objects():
        plan, videos = follow_sources(stored, videos, add_copies=add_copies)
        new_videos = _inspect(_new_videos(plan, videos), settings, progress, max_segments, estimate)
        if new := tuple(_group(new_videos, settings)):
            plan = dataclasses.replace(plan, tasks=(*plan.tasks, *new))
    if plan is not stored or not planned:
        store.write_plan(plan)
    return plan


def plan_segments(
    videos: Sequence[Segment], pairs: Sequence[int], settings: Settings, max_segments: int = MAX_SEGMENTS
) -> tuple[Task, ...]:
    """The tasks of whole videos.

    Args:
        videos: one segment for each whole video.
        pairs: the number of pairs of each video.
        settings: of the corpus.
        max_segments: a long video becomes at most this many segments.
    """
    split = [
        _split(video, count, settings.shard_pairs, max_segments)
        for video, count in zip(videos, pairs, strict=True)
    ]
    return tuple(_group(split, settings))


def _new_videos(plan: Plan, videos: Sequence[SourceVideo]) -> dict[str, SourceVideo]:
    """The videos that are not planned, by their new ids."""
    planned = {segment.path: segment.id for task in plan.tasks for segment in task.segments}
    used_ids = set(planned.values())
    new: dict[str, SourceVideo] = {}  # by path: the same video in two inputs is one video
    for video in videos:
        if video.path not in planned:
            new.setdefault(video.path, video)
    sources = Counter(video.source for video in new.values())
    by_id: dict[str, SourceVideo] = {}
    for video in new.values():
        unique = sources[video.source] == 1 and video.source not in used_ids
        video_id = video.source if unique else f"{video.prefix}/{video.source}"
        if video_id in by_id or video_id in used_ids:
            raise UsageError(
                f"two videos would both have the id {video_id!r}; use inputs with different names"
            )
        by_id[video_id] = video
    return by_id


def _inspect(
    videos: dict[str, SourceVideo],
    settings: Settings,
    progress: Progress,
    max_segments: int,
    estimate: Callable[[Path], int],
) -> Iterator[list[Segment]]:
    """Determine the length of each video, in the order of ids, and split it into segments."""
    measure = partial(_measure, estimate=estimate)
    order = sorted(videos)
    with ThreadPoolExecutor(8) as pool:  # opening a file is mostly waiting
        for start in range(0, len(order), INSPECTED_TOGETHER):
            ids = order[start : start + INSPECTED_TOGETHER]
            batch = [videos[video_id] for video_id in ids]
            listed = all(video.frames >= 0 and video.size >= 0 for video in batch)
            states = (map if listed else pool.map)(measure, batch)
            for video_id, video, (frames, size, modified, digest) in zip(ids, batch, states, strict=True):
                pairs = max(0, frames - settings.step)
                whole = Segment(
                    video_id,
                    video.path,
                    video.source,
                    video.label,
                    size,
                    modified,
                    estimate=pairs,
                    digest=digest,
                )
                yield _split(whole, pairs, settings.shard_pairs, max_segments)
            progress(start + len(batch), len(order))


def _measure(video: SourceVideo, estimate: Callable[[Path], int]) -> tuple[int, int, int, str]:
    """Frames, bytes, modification time and digest of a video.

    Its file is opened if its list lacks the numbers. Without that, there is no digest.
    """
    if video.frames >= 0 and video.size >= 0:
        return video.frames, video.size, 0, ""
    path = Path(video.path)
    frames = estimate(path) if video.frames < 0 else video.frames
    if video.size >= 0:
        return frames, video.size, 0, ""
    return frames, *source_state(path), source_digest(path)


def _split(whole: Segment, pairs: int, shard_pairs: int, max_segments: int) -> list[Segment]:
    """Split a video into segments of `shard_pairs` pairs. The last one runs to the real end of the video.

    Each segment is decoded from the beginning of the video. So there are at most `max_segments`.
    """
    shard_pairs = max(shard_pairs, -(-pairs // max_segments))
    count = max(1, -(-pairs // shard_pairs))
    if count == 1 and whole.estimate == pairs:
        return [whole]
    return [
        dataclasses.replace(
            whole,
            segment=k,
            segments=count,
            first_frame=k * shard_pairs,
            count=shard_pairs if k < count - 1 else 0,
            estimate=min(shard_pairs, pairs - k * shard_pairs),
        )
        for k in range(count)
    ]


def _group(videos: Iterable[list[Segment]], settings: Settings) -> Iterator[Task]:
    """Group videos into tasks of about `shard_pairs` pairs. Each segment of a long video is its own task."""
    digest = settings.digest()
    group: list[Segment] = []
    pairs = 0
    for segments in videos:
        if len(segments) > 1:
            yield from (_task([segment], digest) for segment in segments)
            continue
        more = max(1, segments[0].estimate)  # a readable video has pairs, even if it does not declare them
        if group and pairs + more > settings.shard_pairs:
            yield _task(group, digest)
            group, pairs = [], 0
        group += segments
        pairs += more
    if group:
        yield _task(group, digest)


def _task(segments: list[Segment], digest: str) -> Task:
    lines = [digest]
    for s in segments:
        lines.append(
            json.dumps([s.id, s.source, s.label, s.source_bytes, s.first_frame, s.count, s.segments])
        )
    return Task(hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16], tuple(segments))
