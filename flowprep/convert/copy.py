"""A corpus out of images that are encoded already: videos of other corpora, in other shards.

Merging, taking a part and changing the size of shards are one thing: the videos are planned anew, as
`extract` would plan them, and each task is then stored from JPEGs and table rows as they are. So whatever
holds for an extraction (records, resuming, retrying what failed) holds here, and nothing is recoded.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flowprep.convert.select import select
from flowprep.corpus.plan import Plan, Segment, Task
from flowprep.corpus.reader import Corpus
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.video import Video
from flowprep.errors import CorpusDamaged, SettingsConflict, UsageError, VideoDamaged, VideoUnreadable
from flowprep.extraction.task import store_task
from flowprep.planning.status import corpus_status
from flowprep.planning.tasks import plan_segments
from flowprep.system.progress import Progress, no_progress

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # to look again at tasks that another process has claimed


def copy_videos(
    sources: Sequence[Corpus],
    out: Path,
    *,
    wanted: Sequence[str] = (),
    shard_pairs: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Store videos of corpora in a new one, each image byte by byte; the same call again resumes.

    Videos that could not be taken come along with their reasons, and their inputs, to be tried again. Those
    that are planned and not done yet do not; a warning is logged.

    Args:
        sources: corpora of the same settings, but for `shard_pairs`.
        out: the new corpus.
        wanted: which videos, as `select` takes them.
        shard_pairs: pairs per shard, about; None for the first corpus's.
        progress: called after each task, with pairs.

    Returns:
        The status of the new corpus, as `CorpusStatus.to_dict` gives it.

    Raises:
        SettingsConflict: the settings of the corpora differ.
        UsageError: two of them hold one video, or `out` is another corpus.
    """
    first = sources[0]
    settings = dataclasses.replace(first.settings, shard_pairs=shard_pairs or first.settings.shard_pairs)
    for other in sources[1:]:
        same = dataclasses.replace(other.settings, shard_pairs=settings.shard_pairs)
        if differences := settings.differences(same):
            raise SettingsConflict(
                f"{first.path} and {other.path} were made with other settings: {'; '.join(differences)}."
                " One corpus has one kind; keep them apart"
            )
    if out.absolute() in [s.path for s in sources]:
        raise UsageError(f"{out} is one of the corpora to read; give another folder")
    holder = _holders(sources)
    failures = {i: r for s in sources for i, r in s.failures.items() if i not in holder}
    planned = {i: segment for s in sources for i, segment in _planned(s).items()}
    if pending := sorted(planned.keys() - holder.keys() - failures.keys()):
        log.warning(
            "%d planned videos are not done yet and are left out, such as %s", len(pending), pending[0]
        )
    labels = {i: corpus.labels[i] for i, corpus in holder.items()}
    labels |= {i: planned[i].label if i in planned else "" for i in failures}
    # A shard names the software that made it: what other software made goes to another one.
    groups: dict[str, list[Segment]] = {}
    for video_id in sorted({i for ids in select(labels, wanted).values() for i in ids}):
        segment, made_by = planned.get(video_id), ""
        if video_id in holder:
            video = holder[video_id][video_id]
            made_by = json.dumps(video.software, sort_keys=True)
            source = str(video.origin["source"])
            segment = segment or Segment(video_id, source, source, video.label, video.origin["source_bytes"])
            length = max(0, video.num_frames - video.step)  # with flow or without, as in a plan
            segment = dataclasses.replace(segment, estimate=length)
        groups.setdefault(made_by, []).append(segment or Segment(video_id, video_id, video_id, "", 0))
    tasks: dict[str, list[Task]] = {}
    for made_by, some in groups.items():
        tasks[made_by] = list(plan_segments(some, [s.estimate for s in some], settings))
    software = {task.id: json.loads(made_by or "{}") for made_by, some in tasks.items() for task in some}

    def feed(writer: ShardWriter, segment: Segment) -> str:
        corpus = holder.get(segment.id)
        reason = corpus.partial.get(segment.id, "") if corpus else failures[segment.id]
        _feed(writer, segment, corpus[segment.id] if corpus else None, reason)
        return corpus.warnings.get(segment.id, "") if corpus else ""

    plan = Plan(settings, tuple(task for some in tasks.values() for task in some))
    return store_videos(CorpusStore(out), plan, feed, software, progress)


def store_videos(
    store: CorpusStore,
    plan: Plan,
    feed: Callable[[ShardWriter, Segment], str | None],
    software: Mapping[str, Mapping[str, str]],
    progress: Progress,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Carry out a plan from images that are there, in this process; what has a record is left as it is.

    Several processes may do so at once: they share the tasks by leases, and each ends when all are done.

    Args:
        store: the corpus.
        plan: what it is to hold.
        feed: adds a segment's images to the writer of its shard; what it returns is recorded as a warning.
        software: by task, what made the images.
        progress: called after each task, with pairs.
        retry_failed: also the tasks with a video that failed before, or is partial.

    Raises:
        UsageError: the corpus is planned otherwise.
    """
    if store.has_plan():
        if {t.id for t in store.read_plan().tasks} != {t.id for t in plan.tasks}:
            raise UsageError(f"{store.path} is another corpus already; give another folder")
    elif store.path.is_dir() and any(store.path.iterdir()):
        raise UsageError(f"{store.path} is not empty and is no such corpus; give another folder")
    else:
        store.write_plan(plan)
    store.tidy()
    store.drop_stale_index()
    todo = store.pending_tasks(plan, store.load_index().not_whole if retry_failed else ())
    seen = {task.id: store.record_stamp(task.id) for task in todo}
    pairs_done, pairs_to_do = 0, sum(task.estimate for task in todo)
    while todo:
        held = []
        for task in todo:
            with store.lease(task.id, seen[task.id]) as deaths:
                if deaths is not None:
                    path = store.shard_path(task.id)
                    seconds: defaultdict[str, float] = defaultdict(float)
                    with ShardWriter(path, plan.settings, dict(software[task.id])) as writer:
                        record = store_task(store, task, writer, partial(feed, writer), seconds)
                    pairs_done += int(record.totals["pairs"])
                    progress(pairs_done, pairs_to_do)
                elif store.record_stamp(task.id) == seen[task.id]:
                    held.append(task)
        if todo := held:
            time.sleep(POLL_SECONDS)
    store.tidy()
    return corpus_status(plan, store.save_index()).to_dict()


def _holders(sources: Sequence[Corpus]) -> dict[str, Corpus]:
    """The corpus of each video."""
    holder: dict[str, Corpus] = {}
    for corpus in sources:
        if twice := [i for i in corpus if i in holder]:
            raise UsageError(
                f"{len(twice)} videos are in both {holder[twice[0]].path} and {corpus.path}, such as"
                f" {twice[0]!r}: leave them out of one with `flowprep subset`"
            )
        holder |= dict.fromkeys(corpus, corpus)
    return holder


def _planned(corpus: Corpus) -> dict[str, Segment]:
    """What the corpus's plan says of each video, if it has one."""
    if not corpus.store.has_plan():
        return {}
    found: dict[str, Segment] = {}
    for segment in (s for task in corpus.store.read_plan().tasks for s in task.segments):
        before = found.get(segment.id, segment)
        estimate = segment.estimate + (before.estimate if segment.id in found else 0)
        found[segment.id] = dataclasses.replace(
            before, segment=0, segments=1, first_frame=0, count=0, estimate=estimate
        )
    return found


def _feed(writer: ShardWriter, segment: Segment, video: Video | None, failure: str) -> None:
    """Add a segment of a stored video to the writer; `failure` is why there is none, or is no more of it."""
    if video is None:
        raise VideoUnreadable(failure)
    end = segment.first_frame + segment.count if segment.count else video.num_frames
    pairs = max(0, min(end, video.num_pairs) - segment.first_frame)
    writer.describe(**video.origin, width=video.width, height=video.height, frame_rate=video.frame_rate)
    try:
        times = video.times_seconds
        for i in range(segment.first_frame, end):
            jpeg = video.stored("rgb", i) if "rgb" in video.streams else None
            writer.add_stored_frame(jpeg, float(times[i]))
        for stream, backward in (("flow_u", False), ("flow_back_u", True)):
            if stream in video.streams:
                cameras = video.camera(segment.first_frame, pairs, backward)
                for (u, v), camera in zip(
                    video.fields(segment.first_frame, pairs, backward), cameras, strict=True
                ):
                    writer.add_pair(u, v, backward=backward, camera=camera)
    except CorpusDamaged as exc:
        raise VideoUnreadable(str(exc)) from exc
    if video.partial and segment.segment == segment.segments - 1:
        raise VideoDamaged(failure, video.num_frames)
