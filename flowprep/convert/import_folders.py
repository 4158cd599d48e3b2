"""Make a corpus from folders of flow JPEGs that another tool wrote. The files are stored as they are.

Such a folder does not contain time stamps, the frame rate, or how the flow was computed: these stay unknown.
It does not contain mean and clipping of the flow before quantisation: those of the codes are stored instead.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from flowprep import __version__
from flowprep.convert.image_folders import VideoImages, find_video_images
from flowprep.convert.imported_video import write_imported_video
from flowprep.convert.layouts import CODES, LAYOUTS, Layout, step_mark
from flowprep.convert.write_corpus import write_corpus
from flowprep.corpus.plan import Plan, Segment
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.errors import UsageError
from flowprep.planning.class_index import CLASS_INDEX, name_classes, read_class_index
from flowprep.planning.list_names import NameMatcher, check_coverage, describe_missing
from flowprep.planning.status import CorpusStatus
from flowprep.planning.tasks import plan_segments
from flowprep.planning.video_lists import ListRow, hmdb_part, read_lists
from flowprep.presets import tvl1_settings
from flowprep.settings import IMPORTED, Settings
from flowprep.system.paths import shorten
from flowprep.system.progress import Progress, no_progress
from flowprep.system.units import count_noun

log = logging.getLogger(__name__)

UNKNOWN = "not known: imported"


def import_folders(
    root: Path,
    out: Path,
    layout: str,
    *,
    codes: str = CODES,
    range: float,
    step: int = 1,
    rgb: bool = True,
    flow: bool = True,
    labels: str | Path | None = None,
    allow_missing: bool = False,
    shard_pairs: int = 512,
    retry_failed: bool = False,
    progress: Progress = no_progress,
) -> CorpusStatus:
    """Make a corpus of all video folders in a folder. The same call again resumes.

    A video may have gaps, damaged images, images of different sizes, or numbers of images that do not fit. It
    is stored up to its first fault, as `partial` with the reason. If that is not even one pair, it fails.

    Args:
        root: the folder to search for images with the names of the layout. It may be the folder of one video.
        out: the new corpus.
        layout: a key of LAYOUTS.
        codes, range: meaning of the codes, as in Settings. The files do not tell it.
        step: distance between the two frames of a pair, in frames.
        rgb, flow: whether frames and flow are imported.
        labels: a list, as `flowprep.planning.video_lists` describes it. For videos that are not listed, and
            without a list, the class is the folder above. If there is a classInd.txt beside the list, it
            names classes that are numbers.
        allow_missing: the list may name any number of videos that are not imported.
        shard_pairs: approximate pairs per shard. A video is never split.
        retry_failed: import again the videos that failed or are partial, and the others of their shards.
        progress: called after each task, with pairs.

    Returns:
        The status of the corpus.

    Raises:
        UsageError: the folder has no such images, `out` is another corpus, or the list is wrong.
        ListMismatch: no video of the list is imported, or less than half of them.
        SettingsError: a setting has a value that is not allowed.
    """
    if codes == "adaptive":
        raise UsageError("codes is 'adaptive'; allowed: tsn or fixed, which have one range for all images")
    settings = Settings(
        size="source",
        step=step,
        rgb=rgb,
        flow=flow,
        engine=IMPORTED,
        tvl1=tvl1_settings("accurate@1"),  # it means nothing; but imports of all versions are to be equal
        codes=codes,
        range=range,
        keep_partial=True,
        shard_pairs=shard_pairs,
        grey=UNKNOWN,
        resize=UNKNOWN,
    )
    videos = {video.id: video for video in find_video_images(root, LAYOUTS[layout], step)}
    _check_layout(root, layout, settings, videos)
    _check_streams(root, layout, settings, videos)
    classes = _read_labels(labels, videos, allow_missing=allow_missing) if labels else {}
    plan = _plan(videos, settings, classes)
    store = CorpusStore(out)
    if store.has_plan() and _has_same_videos(previous := store.read_plan(), plan):
        plan = previous

    def write_segment(writer: ShardWriter, segment: Segment) -> None:
        write_imported_video(writer, videos[segment.id], LAYOUTS[layout], settings)

    software = {task.id: {"flowprep": __version__} for task in plan.tasks}
    return write_corpus(store, plan, write_segment, software, progress, retry_failed)


def _check_layout(root: Path, layout: str, settings: Settings, videos: Mapping[str, VideoImages]) -> None:
    """Refuse a layout that no video has, if another layout fits.

    Raises:
        UsageError: it names the layouts that fit.
    """
    if any(_fits(video, LAYOUTS[layout], settings) for video in videos.values()):
        return
    fitting = [
        name
        for name, other in LAYOUTS.items()
        if name != layout
        and any(_fits(video, other, settings) for video in find_video_images(root, other, settings.step))
    ]
    if fitting:
        raise UsageError(
            f"no video in {root} has the files of --layout {layout}; allowed for these files: --layout"
            f" {' or '.join(fitting)}. `flowprep export --help` has the names of each layout"
        )


def _fits(video: VideoImages, layout: Layout, settings: Settings) -> bool:
    """Whether the images of each wanted stream begin at the first number of a layout."""
    wanted = [stream for stream in ("rgb", "flow_u", "flow_v") if stream in settings.streams]
    return all(min(video.images[stream], default=-1) == layout.first for stream in wanted)


def _check_streams(root: Path, layout: str, settings: Settings, videos: Mapping[str, VideoImages]) -> None:
    """Refuse a folder without any image of a wanted stream.

    Raises:
        UsageError: it names an expected file, and the option that omits the stream.
    """
    streams = {stream for video in videos.values() for stream, images in video.images.items() if images}
    for stream, option in (("rgb", "--no-rgb"), ("flow_u", "--no-flow")):
        if stream in settings.streams and stream not in streams:
            template = LAYOUTS[layout].rgb if stream == "rgb" else LAYOUTS[layout].u
            mark = step_mark(settings.step)
            name = template.format(video="VIDEO", step=mark, number=LAYOUTS[layout].first)
            raise UsageError(f"{root} has no {name}, as layout {layout} names them; {option} leaves them out")


def _plan(videos: Mapping[str, VideoImages], settings: Settings, labels: Mapping[str, str]) -> Plan:
    """The plan of the corpus, with one segment per video."""
    segments: list[Segment] = []
    for video_id, video in sorted(videos.items()):
        label = labels.get(video_id) or video.label
        segments.append(Segment(video_id, str(video.folder), video_id, label, 0))
    counted = "flow_u" if settings.flow else "rgb"
    counts = [len(videos[segment.id].images[counted]) for segment in segments]
    return Plan(settings, plan_segments(segments, counts, settings, 1))


def _has_same_videos(previous: Plan, plan: Plan) -> bool:
    """Whether two plans differ only in the number of images, and so in the grouping of tasks."""

    def videos(plan: Plan) -> set[tuple[str, str]]:
        return {(segment.id, segment.label) for task in plan.tasks for segment in task.segments}

    return previous.settings == plan.settings and videos(previous) == videos(plan)


def _read_labels(
    source: str | Path, videos: Mapping[str, VideoImages], *, allow_missing: bool
) -> dict[str, str]:
    """The class of each video that a list names, by id."""
    matcher = NameMatcher(videos)
    rows = read_lists(source, matcher.__contains__)
    ids = [matcher.find(row.path) for row in rows]
    _check_listed(str(source), rows, ids, len(videos), allow_missing=allow_missing)
    found = [(row, video) for row, video in zip(rows, ids, strict=True) if video]
    folders = [PurePosixPath(row.path).parent.name or videos[video].label for row, video in found]
    labels = [row.label for row, _ in found]
    hmdb = hmdb_part(str(source))
    index = (hmdb[0] if hmdb else Path(source).parent) / CLASS_INDEX
    if index.exists():
        labels = name_classes(str(source), [row for row, _ in found], read_class_index(index), folders)
    by_id: dict[str, str] = {}
    for (row, video), label, folder in zip(found, labels, folders, strict=True):
        label = label or folder
        if by_id.setdefault(video, label) != label:
            raise UsageError(
                f"{source}, line {row.line}: {video} has the labels {by_id[video]!r} and {label!r}"
            )
    return by_id


def _check_listed(
    source: str, rows: Sequence[ListRow], ids: Sequence[str | None], videos: int, *, allow_missing: bool
) -> None:
    """Refuse rows without a class, and a list of other videos; warn if list and videos differ."""
    for row in rows:
        if not row.label and row.base == 1 and not PurePosixPath(row.path).parent.name:
            raise UsageError(
                f"{source}, line {row.line}: {shorten(row.path)!r} is not `folder count class` or"
                " `folder class`"
            )
    missing = [row.name for row, video in zip(rows, ids, strict=True) if video is None]
    place = "folders of the import"
    check_coverage(source, len(rows), missing, place, allowed=allow_missing)
    if missing and not allow_missing:
        log.warning("%s", describe_missing(source, len(rows), missing, place))
    if unlisted := videos - len({video for video in ids if video}):
        log.warning(
            "%s: lacks %s of %d; the class of such a video is the folder above",
            source,
            count_noun(unlisted, "video"),
            videos,
        )
