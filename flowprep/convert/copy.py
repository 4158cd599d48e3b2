"""Copy videos of corpora to a new corpus, in other shards. No image is recoded.

Merging corpora, making a subset and changing the size of shards are one operation: the videos are planned as
`extract` would plan them. Then each task is stored from existing JPEGs and table rows. So all properties of
an extraction (records, resuming, retries of failures) hold here, too.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowprep.convert.select import select
from flowprep.convert.write_corpus import write_corpus
from flowprep.corpus.plan import Plan, Segment, Task
from flowprep.corpus.reader import Corpus
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.video import Video
from flowprep.errors import CorpusDamaged, SettingsConflict, UsageError, VideoDamaged, VideoUnreadable
from flowprep.planning.status import CorpusStatus
from flowprep.planning.tasks import plan_segments
from flowprep.settings import Settings
from flowprep.system.progress import Progress, no_progress
from flowprep.system.units import count_noun

log = logging.getLogger(__name__)


def copy_videos(
    sources: Sequence[Corpus],
    out: Path,
    *,
    wanted: Sequence[str] = (),
    allow_missing: bool = False,
    shard_pairs: int | None = None,
    progress: Progress = no_progress,
) -> CorpusStatus:
    """Copy videos of corpora to a new corpus, each image byte by byte. The same call again resumes.

    Videos that failed are copied with their reasons and their inputs, so that they can be tried again. Videos
    that are planned and not done are left out, with a warning.

    Args:
        sources: corpora with the same settings. Only `shard_pairs` may differ.
        out: the new corpus.
        wanted, allow_missing: selections of videos, as for `select`.
        shard_pairs: approximate pairs per shard; None for that of the first corpus.
        progress: called after each task, with pairs.

    Returns:
        The status of the new corpus.

    Raises:
        SettingsConflict: the settings of the corpora differ.
        UsageError: two of them hold the same video, or `out` is another corpus.
    """
    settings = _common_settings(sources, shard_pairs)
    if out.absolute() in [source.path for source in sources]:
        raise UsageError(f"{out} is one of the corpora to read: give another folder")
    copier = _Copier(sources)
    if pending := sorted(copier.planned.keys() - copier.corpora.keys() - copier.failures.keys()):
        count = count_noun(len(pending), "planned video")
        log.warning("left out %s not done yet, such as %s", count, pending[0])
    selections = select(copier.labels(), wanted, allow_missing=allow_missing)
    ids = sorted({video_id for selected in selections.values() for video_id in selected})
    plan, software = copier.plan(ids, settings)
    return write_corpus(CorpusStore(out), plan, copier.write_segment, software, progress)


def _common_settings(sources: Sequence[Corpus], shard_pairs: int | None) -> Settings:
    """The settings of the new corpus.

    Raises:
        SettingsConflict: the sources differ in more than `shard_pairs`.
    """
    first = sources[0]
    settings = dataclasses.replace(first.settings, shard_pairs=shard_pairs or first.settings.shard_pairs)
    for other in sources[1:]:
        others = dataclasses.replace(other.settings, shard_pairs=settings.shard_pairs)
        if differences := settings.differences(others):
            raise SettingsConflict(
                f"{first.path} and {other.path} have different settings: {'; '.join(differences)}."
                " A corpus has one set of settings"
            )
    return settings


class _Copier:
    """Plans and writes the videos of several corpora.

    Attributes:
        corpora: id -> corpus, for stored videos.
        failures: id -> reason, for failed videos.
        planned: id -> the whole video as one segment, for videos of the corpora's plans.
    """

    def __init__(self, sources: Sequence[Corpus]) -> None:
        self.corpora = _corpus_of_each_video(sources)
        self.failures = {
            video_id: reason
            for source in sources
            for video_id, reason in source.failures.items()
            if video_id not in self.corpora
        }
        self.planned = {video_id: s for source in sources for video_id, s in _planned_videos(source).items()}

    def labels(self) -> dict[str, str]:
        """Id -> label of all stored and failed videos."""
        labels = {video_id: corpus.labels[video_id] for video_id, corpus in self.corpora.items()}
        for video_id in self.failures:
            labels[video_id] = self.planned[video_id].label if video_id in self.planned else ""
        return labels

    def plan(self, ids: Sequence[str], settings: Settings) -> tuple[Plan, Mapping[str, Mapping[str, str]]]:
        """The plan of the new corpus, and the software of each task.

        A shard stores the software that made it. Videos made by different software have different shards.
        """
        groups: dict[str, list[Segment]] = {}
        for video_id in ids:
            software = ""
            if video_id in self.corpora:
                software = json.dumps(self.corpora[video_id][video_id].software, sort_keys=True)
            groups.setdefault(software, []).append(self._segment(video_id))
        tasks: list[Task] = []
        software_of_task: dict[str, Mapping[str, str]] = {}
        for software, segments in groups.items():
            planned = list(plan_segments(segments, [s.estimate for s in segments], settings))
            tasks += planned
            software_of_task |= {task.id: json.loads(software or "{}") for task in planned}
        return Plan(settings, tuple(tasks)), software_of_task

    def _segment(self, video_id: str) -> Segment:
        """A whole video as one segment."""
        segment = self.planned.get(video_id)
        if video_id not in self.corpora:
            return segment or Segment(video_id, video_id, video_id, "", 0)
        video = self.corpora[video_id][video_id]
        if segment is None:
            source = str(video.origin["source"])
            segment = Segment(video_id, source, source, video.label, video.origin["source_bytes"])
        # As in a plan, also if no flow is stored.
        return dataclasses.replace(segment, estimate=max(0, video.num_frames - video.step))

    def write_segment(self, writer: ShardWriter, segment: Segment) -> str:
        """Add a segment to the writer of its shard. Returns the video's warning.

        Raises:
            VideoUnreadable: the video failed in its corpus, or is damaged there.
            VideoDamaged: it is partial, and this is its last segment.
        """
        corpus = self.corpora.get(segment.id)
        if corpus is None:
            raise VideoUnreadable(self.failures[segment.id])
        video = corpus[segment.id]
        _copy_segment(writer, segment, video)
        if video.partial and segment.segment == segment.segments - 1:
            raise VideoDamaged(corpus.partial.get(segment.id, ""), video.num_frames)
        return corpus.warnings.get(segment.id, "")


def _corpus_of_each_video(sources: Sequence[Corpus]) -> dict[str, Corpus]:
    """Id -> corpus.

    Raises:
        UsageError: a video is in two corpora.
    """
    corpora: dict[str, Corpus] = {}
    for corpus in sources:
        if common := [video_id for video_id in corpus if video_id in corpora]:
            raise UsageError(
                f"{count_noun(len(common), 'video')} in both {corpora[common[0]].path} and {corpus.path},"
                f" such as {common[0]!r}: leave them out of one with `flowprep subset`"
            )
        corpora |= dict.fromkeys(corpus, corpus)
    return corpora


def _planned_videos(corpus: Corpus) -> dict[str, Segment]:
    """Id -> the whole video as one segment, for all videos of a corpus's plan; {} without a plan."""
    if not corpus.store.has_plan():
        return {}
    videos: dict[str, Segment] = {}
    for task in corpus.store.read_plan().tasks:
        for segment in task.segments:
            previous = videos.get(segment.id)
            estimate = segment.estimate + (previous.estimate if previous else 0)
            videos[segment.id] = dataclasses.replace(
                previous or segment, segment=0, segments=1, first_frame=0, count=0, estimate=estimate
            )
    return videos


def _copy_segment(writer: ShardWriter, segment: Segment, video: Video) -> None:
    """Add the frames and pairs of a segment to the writer.

    Raises:
        VideoUnreadable: the stored video is damaged.
    """
    first = segment.first_frame
    end = first + segment.count if segment.count else video.num_frames
    pairs = max(0, min(end, video.num_pairs) - first)
    writer.describe(**video.origin, width=video.width, height=video.height, frame_rate=video.frame_rate)
    try:
        times = video.times_seconds
        for i in range(first, end):
            jpeg = video.stored("rgb", i) if "rgb" in video.streams else None
            writer.add_stored_frame(jpeg, float(times[i]))
        for stream, backward in (("flow_u", False), ("flow_back_u", True)):
            if stream in video.streams:
                fields = video.fields(first, pairs, backward)
                cameras = video.camera(first, pairs, backward)
                for (u, v), camera in zip(fields, cameras, strict=True):
                    writer.add_pair(u, v, backward=backward, camera=camera)
    except CorpusDamaged as exc:
        raise VideoUnreadable(str(exc)) from exc
