"""A corpus from folders of flow JPEGs that another tool made: the files are taken as they are.

What such a folder does not say stays unknown: time stamps and frame rate, how the flow was computed, its
mean and clipping before it was quantised (those of the codes stand for them).
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from flowprep import __version__
from flowprep.codec import images, quantise
from flowprep.codec.quantise import EncodedField
from flowprep.convert.copy import store_videos
from flowprep.convert.layouts import LAYOUTS, Layout, step_mark
from flowprep.corpus.plan import Plan, Segment
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.errors import CorpusDamaged, UsageError, VideoDamaged, VideoUnreadable
from flowprep.planning.tasks import plan_segments
from flowprep.settings import IMPORTED, Settings
from flowprep.system.paths import printable
from flowprep.system.progress import Progress, no_progress

UNKNOWN = "not known: imported"


def import_folders(
    root: Path,
    out: Path,
    layout: str,
    *,
    codes: str = "tsn",
    range: float,
    step: int = 1,
    rgb: bool = True,
    flow: bool = True,
    labels: Path | None = None,
    shard_pairs: int = 512,
    retry_failed: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Make a corpus of all video folders below a folder; the same call again resumes.

    A video with gaps, damaged images, other sizes or counts that do not fit is kept as far as it is sound,
    as `partial` with the reason, or fails if that is not even one pair.

    Args:
        root: searched for folders with images of the layout's names; or one such folder.
        out: the new corpus.
        layout: a key of LAYOUTS.
        codes, range: what the codes of the flow mean, as in Settings; the files do not say it.
        step: frames between the two of a pair.
        rgb, flow: which streams are taken.
        labels: a list of `folder count class` or `folder class`; without one, and for a video that it does
            not name, the class is the folder that the video's folder is in. A classInd.txt beside the list
            names classes that are numbers, which count from 0 in the list and from 1 there.
        shard_pairs: pairs per shard, about; a video is never cut.
        retry_failed: take again the videos that failed before, or are partial, and those of their shards.
        progress: called after each task, with pairs.

    Returns:
        The status of the corpus, as `CorpusStatus.to_dict` gives it.

    Raises:
        UsageError: there is no such folder, or `out` is another corpus.
        SettingsError: a setting has a value that is not allowed.
    """
    if codes == "adaptive":
        raise UsageError("codes is 'adaptive'; allowed: tsn or fixed, whose range is one for all images")
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
    found = dict(_find(root, LAYOUTS[layout], settings))
    streams = {s for files in found.values() for s in files.images if files.images[s]}
    for stream, option in (("rgb", "--no-rgb"), ("flow_u", "--no-flow")):
        if stream in settings.streams and stream not in streams:
            template = LAYOUTS[layout].rgb if stream == "rgb" else LAYOUTS[layout].u
            name = template.format(video="VIDEO", step=step_mark(step), number=LAYOUTS[layout].first)
            raise UsageError(f"{root} holds no {name}, as layout {layout} names them; {option} does without")
    ids = sorted(found)
    listed = _read_labels(labels) if labels else {}
    names = [listed.get(i) or listed.get(PurePosixPath(i).name) or found[i].label for i in ids]
    segments = [Segment(i, str(found[i].folder), i, n, 0) for i, n in zip(ids, names, strict=True)]
    counted = "flow_u" if flow else "rgb"
    plan = Plan(settings, plan_segments(segments, [len(found[i].images[counted]) for i in ids], settings, 1))
    store = CorpusStore(out)
    if store.has_plan() and _of_same_videos(before := store.read_plan(), plan):
        plan = before
    like = quantise.encode_field(np.zeros((16, 16), np.float32), settings)

    def feed(writer: ShardWriter, segment: Segment) -> None:
        _feed(writer, found[segment.id], LAYOUTS[layout], settings, like)

    software = {task.id: {"flowprep": __version__} for task in plan.tasks}
    return store_videos(store, plan, feed, software, progress, retry_failed)


def _of_same_videos(before: Plan, now: Plan) -> bool:
    """Whether two plans differ in nothing but how many images were there, and so how tasks are grouped."""
    videos = ({(s.id, s.label) for task in plan.tasks for s in task.segments} for plan in (before, now))
    return before.settings == now.settings and next(videos) == next(videos)


def _read_labels(path: Path) -> dict[str, str]:
    """Class of each folder of a list, by its path and by its last part."""
    index = path.parent / "classInd.txt"
    lines = index.read_text("utf-8").splitlines() if index.exists() else []
    classes = {str(int(number) - 1): name for number, name in (line.split(None, 1) for line in lines if line)}
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, path.read_text("utf-8-sig").splitlines())):
        folder, _, label = line.rpartition(" ")
        before, _, count = folder.rpartition(" ")
        where = PurePosixPath(before if before and count.isdecimal() else folder)
        if not where.parts:
            raise UsageError(f"{path}: the line {line!r} is not `folder count class` or `folder class`")
        found[str(where)] = found[where.name] = classes.get(label, label)
    return found


@dataclass(frozen=True)
class Files:
    """The images of one video: by stream, number -> path."""

    folder: Path
    label: str
    images: dict[str, dict[int, Path]]


def _find(root: Path, layout: Layout, settings: Settings) -> Iterator[tuple[str, Files]]:
    """Id and images of each video folder."""
    root = Path(os.path.abspath(root))
    mark = step_mark(settings.step)
    tops = {t: root / t.partition("{video}")[0] for t in (layout.rgb, layout.u)}
    folders: dict[Path, None] = {}
    for top in dict.fromkeys(tops.values()):
        for folder, below, _ in os.walk(top):
            below.sort()
            folders[Path(folder).relative_to(top)] = None
    for relative in folders:
        wanted = {"rgb": layout.rgb, "flow_u": layout.u, "flow_v": layout.v}
        images = {s: _numbered(root, t, relative, mark) for s, t in wanted.items()}
        for u, v in layout.others if not images["flow_u"] and not images["flow_v"] else ():
            images |= {s: _numbered(root, t, relative, mark) for s, t in (("flow_u", u), ("flow_v", v))}
        if any(images.values()):
            video_id = printable(relative.as_posix() if relative.parts else root.name)
            label = printable(relative.parent.name)
            yield video_id, Files(root / relative, label, images)


def _numbered(root: Path, template: str, video: Path, mark: str) -> dict[int, Path]:
    """Files of a folder by their numbers."""
    folder, _, name = template.rpartition("/")
    path = root / folder.format(video=video.as_posix())
    before, after = name.replace("{step}", mark).split("{number:")
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after.partition("}")[2]))
    if not path.is_dir():
        return {}
    return {
        int(m[1]): path / m[0] for m in map(pattern.fullmatch, sorted(p.name for p in path.iterdir())) if m
    }


def _feed(writer: ShardWriter, files: Files, layout: Layout, settings: Settings, like: EncodedField) -> None:
    """Add a video to the writer as far as it is sound.

    Raises:
        VideoDamaged: it is not sound to its end; what was added before counts.
    """
    plan = _align(files, layout, settings)
    writer.describe(
        source_bytes=sum(p.stat().st_size for some in files.images.values() for p in some.values())
    )
    size: tuple[int, int] | None = None

    def read(path: Path, frame: int, mode: str) -> tuple[bytes, npt.NDArray[np.uint8]]:
        nonlocal size
        jpeg, codes, found = _read(path, frame, mode)
        if size is None:
            size = found
            writer.describe(width=size[0], height=size[1])
        if size != found:
            raise VideoDamaged(f"{path.name} is {_by(found)} pixels, those before {_by(size)}", frame)
        return jpeg, codes

    for i in range(plan.frames):
        if settings.rgb:
            jpeg, _ = read(files.images["rgb"][plan.first_rgb + i], i, "RGB")
        writer.add_stored_frame(jpeg if settings.rgb else None, math.nan)
        pair = i - settings.step
        if settings.flow and pair >= 0:
            u, v = (
                _field(*read(files.images[s][plan.first_flow + pair], i, "L"), like)
                for s in ("flow_u", "flow_v")
            )
            writer.add_pair(u, v)
    if plan.reason:
        raise VideoDamaged(plan.reason, plan.frames)


class _Aligned(NamedTuple):
    """Which images make a video: frame i is image first_rgb + i, pair i is image first_flow + i."""

    frames: int
    first_rgb: int
    first_flow: int
    reason: str


def _align(files: Files, layout: Layout, settings: Settings) -> _Aligned:
    """Find out how far the images of a video go together, and why not to the end.

    Raises:
        VideoUnreadable: a stream is not there from its first number on.
    """
    first, step = layout.first, settings.step
    runs: dict[str, int] = {}
    reasons = []
    for stream in settings.streams:
        images = files.images[stream]
        run = next(n for n in itertools.count() if first + n not in images)
        name = next(iter(images.values())).name if images else ""
        if not images:
            raise VideoUnreadable(f"no images of {stream}")
        if not run:
            raise VideoUnreadable(
                f"begins with {name}, and the layout numbers from {first}: is it another one?"
            )
        if run < len(images):
            reasons.append(f"number {first + run} of {stream} is missing, {len(images)} images in all")
        runs[stream] = run
    if not settings.flow:
        return _Aligned(runs["rgb"], first, first, "; ".join(reasons))
    pairs = min(runs["flow_u"], runs["flow_v"])
    if not reasons and runs["flow_u"] != runs["flow_v"]:
        reasons.append(f"{runs['flow_u']} images of u and {runs['flow_v']} of v")
    if not settings.rgb:
        return _Aligned(pairs + step, first, first, "; ".join(reasons))
    frames = runs["rgb"]
    if layout.leads_to and frames <= pairs:
        # Image n is where flow n leads to: the frame that the first flow starts from was never written.
        if frames < pairs and not reasons:
            reasons.append(f"{frames} frames and {pairs} pairs")
        return _Aligned(frames, first, first + step, "; ".join(reasons))
    if frames != pairs + step and not reasons:
        reasons.append(f"{frames} frames and {pairs} pairs; {pairs} pairs go with {pairs + step} frames")
    return _Aligned(min(frames, pairs + step), first, first, "; ".join(reasons))


def _read(path: Path, frame: int, mode: str) -> tuple[bytes, npt.NDArray[np.uint8], tuple[int, int]]:
    """An image file: its bytes, its pixels, its (width, height)."""
    try:
        jpeg = path.read_bytes()
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            found, size = image.mode, image.size
        decode = images.decode_rgb if mode == "RGB" else images.decode_codes
        pixels = decode(jpeg, size[::-1])
    except (OSError, UnidentifiedImageError, CorpusDamaged) as exc:
        raise VideoDamaged(f"{path.name} is no whole JPEG: {exc}", frame) from exc
    if found != mode:
        kinds = {"L": "grey", "RGB": "colour"}
        raise VideoDamaged(f"{path.name} is {kinds.get(found, found)}, and {kinds[mode]} is needed", frame)
    return jpeg, pixels, size


def _field(jpeg: bytes, codes: npt.NDArray[np.uint8], like: EncodedField) -> EncodedField:
    """A stored field as its codes tell it."""
    mean = (float(codes.mean()) - like.zero_point) * like.scale
    clipped = float(np.count_nonzero((codes == 0) | (codes == 255))) / codes.size
    return like._replace(jpeg=jpeg, mean=mean, clipped=clipped)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
