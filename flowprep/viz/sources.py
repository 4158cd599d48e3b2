"""The videos that `flowprep view` shows: videos of a corpus, and files whose flow is computed.

A file is decoded as an extraction decodes it. It has the attributes of a corpus `Video`, so `flowprep.viz`
draws both in the same way. Memory holds a few frames only, whatever the length of a file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowprep import viz
from flowprep.corpus.names import is_corpus
from flowprep.corpus.reader import open_corpus
from flowprep.engines import ENGINES, resolve
from flowprep.errors import UsageError
from flowprep.planning.inputs import video_paths
from flowprep.presets import allowed_presets, default_preset, preset_names, solver_name, tvl1_settings
from flowprep.settings import Settings
from flowprep.system.progress import Progress, no_progress
from flowprep.video.suffixes import IMAGE_SUFFIXES
from flowprep.viz.computed import ComputedVideo, FileFrames, open_file, open_image_pair
from flowprep.viz.film_file import FilmFile
from flowprep.viz.shots import FlowVideo, FrameSource

log = logging.getLogger(__name__)

SHOWN_VIDEOS = 12  # of an input or a name that stands for many


class FlowSource(NamedTuple):
    """One video to show.

    Attributes:
        video: frames and flow.
        other: the same frames with another flow to compare, or None.
        names: names of the two flows.
    """

    video: FlowVideo
    other: FlowVideo | None = None
    names: tuple[str, str] = ("", "")


def open_sources(
    sources: Sequence[str],
    compare: str | None = None,
    *,
    size: str | None = None,
    step: int | None = None,
    engine: str | None = None,
    preset: str | None = None,
    changes: tuple[str, ...] = (),
    limit: int | None = None,
    single: bool = False,
) -> list[FlowSource]:
    """Open the videos that the arguments of `flowprep view` and `flowprep flow` name.

    Args:
        sources: a corpus and names of its videos, as for `Corpus.find`; or inputs of `flowprep extract`; or
            two images.
        compare: another corpus with the same videos, an engine or a preset.
        size, step: of files, as in `Settings`.
        engine, preset, changes: for the flow of files: the engine, its preset, and changes of the preset as
            "name=value".
        limit: the maximum number of videos, with a warning if there are more. By default it is 12, or the
            number of sources.
        single: whether only one video is allowed.

    Raises:
        UsageError: an argument names nothing that can be shown, or names several videos where one is allowed.
            The message says what can be shown.
        VideoError: a file cannot be read.
    """
    path = Path(sources[0])
    if is_corpus(path):
        if changes or any(option is not None for option in (size, step, engine, preset)):
            raise UsageError(
                f"{path} is a corpus, which is shown as it is stored; --size, --step, --engine, --preset and"
                " --tvl1 are for video files"
            )
        return _corpus_sources(path, sources[1:], compare, limit, single)
    paths = [Path(source) for source in sources]
    for source in paths:
        if not source.exists():
            raise UsageError(f"no such video, folder, list or corpus: {source}")
    step, engine = 1 if step is None else step, resolve(engine or "auto")
    tvl1 = tvl1_settings(preset or default_preset(engine), changes)
    settings = Settings(size=size or Settings.size, step=step, engine=engine, tvl1=tvl1)
    name = solver_name(engine, tvl1)
    opened = []
    for frames in _open_files(paths, settings, limit, single):
        video = ComputedVideo(frames, engine, tvl1, step)
        opened.append(FlowSource(video, *_compared(compare, frames, step, name, engine)))
    return opened


def _open_files(
    paths: Sequence[Path], settings: Settings, limit: int | None, single: bool
) -> Iterator[FileFrames]:
    """The frames of two images, or of each video in the inputs."""
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if len(images) == len(paths) == 2:
        yield open_image_pair(paths[0], paths[1], settings)
        return
    if images:
        raise UsageError(
            f"{images[0]} is an image; allowed: two images of one size, or videos, folders and lists"
        )
    for video in _first([str(video) for video in video_paths(paths)], limit, len(paths), single):
        yield open_file(Path(video), settings)


def _first(videos: Sequence[str], limit: int | None, named: int, single: bool) -> Sequence[str]:
    """The first videos, and a warning if there are more.

    Raises:
        UsageError: there are several, and `single` is set.
    """
    if single and len(videos) > 1:
        more = ", ..." if len(videos) > 3 else ""
        raise UsageError(
            f"{len(videos)} videos are named: {', '.join(videos[:3])}{more}; allowed: one. A contact sheet"
            " (`flowprep view -o FILE.png`) shows several"
        )
    limit = limit or max(SHOWN_VIDEOS, named)
    if len(videos) > limit:
        log.warning("the first %d of %d videos are shown; --videos N shows more", limit, len(videos))
    return videos[:limit]


@dataclass(frozen=True)
class Drawing:
    """A written picture or film.

    Attributes:
        output: the file.
        width, height: its size, pixels.
        film: the film; None for a picture.
    """

    output: str
    width: int
    height: int
    film: FilmFile | None = None

    def to_dict(self) -> dict[str, Any]:
        """The drawing as JSON values; a film adds `encoder` and `frames`."""
        size = {"width": self.width, "height": self.height}
        return {"output": self.output, **(self.film.to_dict() if self.film else size)}


def draw(
    sources: Sequence[FlowSource],
    output: Path,
    *,
    columns: int = 6,
    width: int = 1200,
    first: int = 0,
    pairs: int | None = None,
    progress: Progress = no_progress,
) -> Drawing:
    """Write contact sheets or comparisons below each other, or the film of one video.

    Args:
        sources: the videos.
        output: .png for sheets, .mp4 for a film.
        columns: number of frames on a sheet.
        width: width of the picture, pixels.
        first: the first pair of a film.
        pairs: number of pairs of a film, at most; None for all.
        progress: called for each picture of a film.

    Raises:
        UsageError: the file has another suffix or cannot be written, a film has several videos, or a number
            is out of range.
    """
    suffix = output.suffix.lower()
    if suffix == ".png":
        sheets = [
            viz.comparison_sheet(video, other, names, columns, width)
            if other
            else viz.contact_sheet(video, columns, width)
            for video, other, names in sources
        ]
        picture = np.concatenate(sheets)
        viz.save_png(picture, output)
        return Drawing(str(output), picture.shape[1], picture.shape[0])
    if suffix != ".mp4":
        raise UsageError(f"--out is {output}; allowed: a name that ends in .png (a sheet) or .mp4 (a film)")
    if len(sources) > 1:
        raise UsageError(f"a film shows one video, and these are {len(sources)}; a .png shows them all")
    ((video, other, names),) = sources
    last = video.num_pairs if pairs is None else min(video.num_pairs, first + pairs)
    frames = viz.film_frames(video, other, names, width, first, pairs)
    film = viz.save_film(frames, output, progress, last - first)
    return Drawing(str(output), film.width, film.height, film)


def _corpus_sources(
    path: Path, names: Sequence[str], compare: str | None, limit: int | None, single: bool
) -> list[FlowSource]:
    corpus = open_corpus(path)
    if not names:
        examples = ", ".join(list(corpus)[:3]) or "none yet"
        raise UsageError(
            f"name a video of {path} by its id, label, file name or a pattern: {examples} ..."
            f" (`flowprep info {path} --list` lists all)"
        )
    ids = list(dict.fromkeys(video_id for name in names for video_id in corpus.find(name)))
    sources = []
    for video in (corpus[video_id] for video_id in _first(ids, limit, len(names), single)):
        if compare and is_corpus(Path(compare)):
            titles = path.name, Path(compare).name
            if titles[0] == titles[1]:
                titles = str(path), compare
            sources.append(FlowSource(video, open_corpus(compare)[video.id], titles))
        else:
            title = f"as in {path.name}"
            sources.append(FlowSource(video, *_compared(compare, video, video.step, title, "auto")))
    return sources


def _compared(
    compare: str | None, frames: FrameSource, step: int, name: str, engine: str
) -> tuple[ComputedVideo | None, tuple[str, str]]:
    """The same frames with the flow of the engine or the preset that `compare` names, and both names."""
    if compare is None:
        return None, (name, "")
    if compare in ENGINES:
        engine, preset = compare, default_preset(compare)
    elif compare in preset_names():
        engine, preset = resolve(engine), compare
    else:
        raise UsageError(
            f"--compare is {compare!r}; allowed: a corpus with the same videos, an engine"
            f" ({', '.join(ENGINES)}) or a preset ({allowed_presets()})"
        )
    tvl1 = tvl1_settings(preset)
    return ComputedVideo(frames, engine, tvl1, step), (name, solver_name(engine, tvl1))
