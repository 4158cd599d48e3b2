"""Make a corpus from folders of flow JPEGs that another tool wrote. The files are stored as they are.

Such a folder does not contain time stamps, the frame rate, or how the flow was computed: these stay unknown.
It does not contain mean and clipping of the flow before quantisation: those of the codes are stored instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from flowprep import __version__
from flowprep.convert.image_folders import VideoImages, find_video_images
from flowprep.convert.imported_video import write_imported_video
from flowprep.convert.layouts import CODES, LAYOUTS, step_mark
from flowprep.convert.write_corpus import write_corpus
from flowprep.corpus.plan import Plan, Segment
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.errors import UsageError
from flowprep.planning.status import CorpusStatus
from flowprep.planning.tasks import plan_segments
from flowprep.planning.video_lists import read_list_rows
from flowprep.settings import IMPORTED, Settings
from flowprep.system.progress import Progress, no_progress

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
    labels: Path | None = None,
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
        labels: a list of `folder count class` or `folder class`. For videos that are not listed, and without
            a list, the class is the folder above. If there is a classInd.txt beside the list, it names
            classes that are numbers: from 0 in the list, from 1 in classInd.txt.
        shard_pairs: approximate pairs per shard. A video is never split.
        retry_failed: import again the videos that failed or are partial, and the others of their shards.
        progress: called after each task, with pairs.

    Returns:
        The status of the corpus.

    Raises:
        UsageError: the folder has no such images, or `out` is another corpus.
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
        codes=codes,
        range=range,
        keep_partial=True,
        shard_pairs=shard_pairs,
        grey=UNKNOWN,
        resize=UNKNOWN,
    )
    videos = {video.id: video for video in find_video_images(root, LAYOUTS[layout], step)}
    _check_streams(root, layout, settings, videos)
    plan = _plan(videos, settings, _read_labels(labels) if labels else {})
    store = CorpusStore(out)
    if store.has_plan() and _has_same_videos(previous := store.read_plan(), plan):
        plan = previous

    def write_segment(writer: ShardWriter, segment: Segment) -> None:
        write_imported_video(writer, videos[segment.id], LAYOUTS[layout], settings)

    software = {task.id: {"flowprep": __version__} for task in plan.tasks}
    return write_corpus(store, plan, write_segment, software, progress, retry_failed)


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
        label = labels.get(video_id) or labels.get(PurePosixPath(video_id).name) or video.label
        segments.append(Segment(video_id, str(video.folder), video_id, label, 0))
    counted = "flow_u" if settings.flow else "rgb"
    counts = [len(videos[segment.id].images[counted]) for segment in segments]
    return Plan(settings, plan_segments(segments, counts, settings, 1))


def _has_same_videos(previous: Plan, plan: Plan) -> bool:
    """Whether two plans differ only in the number of images, and so in the grouping of tasks."""

    def videos(plan: Plan) -> set[tuple[str, str]]:
        return {(segment.id, segment.label) for task in plan.tasks for segment in task.segments}

    return previous.settings == plan.settings and videos(previous) == videos(plan)


def _read_labels(path: Path) -> dict[str, str]:
    """Class of each folder in a list, by the path of the folder and by its last part."""
    index = path.parent / "classInd.txt"
    lines = index.read_text("utf-8").splitlines() if index.exists() else []
    classes = {str(int(number) - 1): name for number, name in (line.split(None, 1) for line in lines if line)}
    labels: dict[str, str] = {}
    for row in read_list_rows(path, is_name=lambda line: False):
        folder, _, count = row.path.rpartition(" ")
        video = PurePosixPath(folder if folder and count.isdecimal() else row.path)
        if not row.label or not video.parts:
            raise UsageError(
                f"{path}, line {row.line}: {row.path!r} is not `folder count class` or `folder class`"
            )
        labels[str(video)] = labels[video.name] = classes.get(row.label, row.label)
    return labels
