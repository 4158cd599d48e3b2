"""What `flowprep view` looks at: videos of a corpus, and files whose flow is computed on the way.

A file is decoded as extraction decodes it and gets the attributes of a corpus' `Video`, so that flowprep.viz
draws both alike. Only a few frames are in memory at a time, whatever a file's length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flowprep import viz
from flowprep.api import default_jobs
from flowprep.corpus.reader import Video, open_corpus
from flowprep.corpus.store import CorpusStore
from flowprep.engines import ENGINES, make_engine, resolve
from flowprep.errors import OutOfRange, UsageError, VideoDamaged, VideoError, VideoUnreadable, VideoUnsuitable
from flowprep.presets import PRESETS, Tvl1Settings, default_preset, tvl1_settings
from flowprep.settings import Settings
from flowprep.system.progress import Progress, no_progress
from flowprep.video.decode import decode_frames
from flowprep.video.frames import Frame, SourceFormat, fit_size, read_image, resize, to_grey
from flowprep.video.suffixes import IMAGE_SUFFIXES

_KEPT = 16  # frames of a file that stay in memory, beside those of a pair


class View(NamedTuple):
    """One video to look at.

    Attributes:
        video: with the attributes of a corpus' Video.
        other: the same with another flow, to compare; or None.
        names: what to call the two flows.
    """

    video: Any
    other: Any = None
    names: tuple[str, str] = ("", "")


class FileFrames:
    """Frames of a file, a folder of numbered frames or two images, at their stored size.

    Attributes:
        id, label, width, height, num_frames, frame_rate: as of a corpus' Video.
        times_seconds: (num_frames,), NaN where there is no clock.
        damage: why the file ends where it does, or "".
    """

    def __init__(
        self, name: str, decode: Callable[[], Iterator[tuple[SourceFormat, Frame]]], size: str, kept: int
    ):
        self.id, self.label, self.damage = name, "", ""
        self._decode = decode
        stream = decode()
        source, frame = next(stream)
        times = [frame.pts_seconds]
        try:
            for _, later in stream:
                times.append(later.pts_seconds)
        except VideoDamaged as exc:
            self.damage = str(exc)
        self.width, self.height = fit_size(source, size)
        self.frame_rate = source.frame_rate
        self.times_seconds = np.array(times)
        self.num_frames = len(times)
        self._stream = decode()
        self._next = 0
        self._window: deque[npt.NDArray[np.uint8]] = deque(maxlen=kept)

    def rgb(self, index: int) -> npt.NDArray[np.uint8]:
        """Frame `index`: (H, W, 3) uint8. Quick in rising order; a step back decodes from the beginning.

        Raises:
            OutOfRange: there is no such frame.
        """
        if not 0 <= index < self.num_frames:
            raise OutOfRange(f"frame {index} of {self.id}; it has frames 0 to {self.num_frames - 1}")
        if index < self._next - len(self._window):
            self._stream, self._next = self._decode(), 0
            self._window.clear()
        while self._next <= index:
            _, frame = next(self._stream)
            self._window.append(resize(frame.rgb, self.width, self.height))
            self._next += 1
        return self._window[index - self._next]


class Computed:
    """A video with flow that is computed when it is asked for.

    Args:
        frames: what has the frames: FileFrames, or a corpus' Video.
        engine, tvl1: what computes it.
        step: frames from the first to the second of a pair.

    Raises:
        VideoUnsuitable: too few frames for a pair.
    """

    def __init__(self, frames: Any, engine: str, tvl1: Tvl1Settings, step: int) -> None:
        for name in ("id", "label", "width", "height", "num_frames", "frame_rate", "times_seconds", "damage"):
            setattr(self, name, getattr(frames, name))
        self.rgb = frames.rgb
        self.step = step
        self.num_pairs: int = frames.num_frames - step
        if self.num_pairs < 1:
            raise VideoUnsuitable(
                f"{frames.id}: too few frames: {frames.num_frames}; one pair at step {step} needs {step + 1}"
            )
        self._engine = make_engine(engine, tvl1, default_jobs())

    def flow(self, start: int, count: int) -> npt.NDArray[np.float32]:
        """Flow of pairs start to start + count - 1: (count, 2, H, W) float32, pixels."""
        grey = np.stack([to_grey(self.rgb(i)) for i in range(start, start + count + self.step)])
        first = np.arange(count)
        return self._engine.solve(grey, first, first + self.step)


def open_views(
    sources: Sequence[str],
    compare: str | None = None,
    *,
    size: str | None = None,
    step: int | None = None,
    engine: str | None = None,
    preset: str | None = None,
    changes: tuple[str, ...] = (),
) -> list[View]:
    """What the arguments of `flowprep view` name.

    Args:
        sources: a corpus and ids of its videos; or videos (files or folders of frames); or two images.
        compare: another corpus with these videos, an engine, or a preset.
        size, step: of files, as in Settings.
        engine, preset, changes: what computes the flow of files: the engine, its preset, and
            "name=value" changes of that.

    Raises:
        UsageError: they name nothing that can be looked at; the message says what can.
        VideoError: a file cannot be read.
    """
    path = Path(sources[0])
    if _is_corpus(path):
        if changes or any(option is not None for option in (size, step, engine, preset)):
            raise UsageError(
                "a corpus is shown as it is stored; size, step, engine, preset and tvl1 are for video files"
                " (compare it with a preset by --compare)"
            )
        return _of_corpus(path, sources[1:], compare)
    for source in sources:
        if not Path(source).exists():
            raise UsageError(f"no such video or corpus: {source}")
    step, engine = 1 if step is None else step, resolve(engine or "auto")
    settings = Settings(
        size=size or Settings.size,
        step=step,
        engine=engine,
        tvl1=tvl1_settings(preset or default_preset(engine), changes),
    )
    name = _name(engine, preset or default_preset(engine), *changes)
    if len(sources) == 2 and all(Path(s).suffix.lower() in IMAGE_SUFFIXES for s in sources):
        files = [_two_images(Path(sources[0]), Path(sources[1]), settings)]
    else:
        files = [_file(Path(source), settings) for source in sources]
    views = []
    for frames in files:
        video = Computed(frames, engine, settings.tvl1, step)
        views.append(View(video, *_other(compare, frames, step, name, engine)))
    return views


def draw(
    views: Sequence[View],
    output: Path,
    *,
    columns: int = 6,
    width: int = 1200,
    first: int = 0,
    pairs: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write contact sheets, or comparisons, one under the other; or the film of one video.

    Args:
        views: what to draw.
        output: .png for sheets, .mp4 for a film.
        columns: of sheets.
        width: of the picture, pixels.
        first, pairs: of a film: the first pair, and how many at most (None: to the end).
        progress: of a film: called with the pairs done and to do.

    Returns:
        `output`, `width`, `height`; of a film also `encoder` and `frames`.

    Raises:
        UsageError: another kind of file, a film of several videos, or as flowprep.viz says.
    """
    suffix = output.suffix.lower()
    if suffix == ".png":
        sheets = [
            viz.comparison_sheet(one, other, names, columns, width)
            if other
            else viz.contact_sheet(one, columns, width)
            for one, other, names in views
        ]
        picture = np.concatenate(sheets)
        viz.save_png(picture, output)
        return {"output": str(output), "width": picture.shape[1], "height": picture.shape[0]}
    if suffix != ".mp4":
        raise UsageError(f"output is {output}; allowed: a name that ends in .png (a sheet) or .mp4 (a film)")
    if len(views) > 1:
        raise UsageError(f"a film is of one video, and these are {len(views)}; a .png shows them all")
    (one, other, names) = views[0]
    last = one.num_pairs if pairs is None else min(one.num_pairs, first + pairs)
    frames = viz.film_frames(one, other, names, width, first, pairs)
    return {"output": str(output), **viz.save_film(frames, output, progress, last - first)}


def _is_corpus(path: Path) -> bool:
    return CorpusStore(path).exists()


def _of_corpus(path: Path, ids: Sequence[str], compare: str | None) -> list[View]:
    corpus = open_corpus(path)
    if not ids:
        some = ", ".join(list(corpus)[:3]) or "none yet"
        raise UsageError(f"name a video of {path}: {some} ... (`flowprep info {path} --list` has them all)")
    views = []
    for video in (corpus[i] for i in ids):
        if compare and _is_corpus(Path(compare)):
            names = (path.name, Path(compare).name)
            views.append(
                View(
                    video,
                    open_corpus(compare)[video.id],
                    names if len({*names}) > 1 else (str(path), compare),
                )
            )
        else:
            views.append(View(video, *_other(compare, video, video.step, f"as in {path.name}", "auto")))
    return views


def _other(
    compare: str | None, frames: FileFrames | Video, step: int, name: str, engine: str
) -> tuple[Computed | None, tuple[str, str]]:
    """The same frames with the flow of the engine or preset that `compare` names."""
    if compare is None:
        return None, (name, "")
    if compare in ENGINES:
        engine, preset = compare, default_preset(compare)
    elif compare in PRESETS:
        engine, preset = resolve(engine), compare
    else:
        raise UsageError(
            f"compare is {compare!r}; allowed: a corpus with the same videos, an engine"
            f" ({', '.join(ENGINES)}) or a preset ({', '.join(PRESETS)})"
        )
    other = Computed(frames, engine, PRESETS[preset], step)
    return other, (name, _name(engine, preset))


def _name(*parts: str) -> str:
    """What computes a flow, in words."""
    return " ".join(dict.fromkeys(parts))


def _file(path: Path, settings: Settings) -> FileFrames:
    try:
        return FileFrames(path.name, lambda: decode_frames(path), settings.size, _KEPT + settings.step)
    except VideoError as exc:
        raise VideoUnreadable(f"{path}: {exc}") from exc


def _two_images(first: Path, second: Path, settings: Settings) -> FileFrames:
    images = [read_image(path) for path in (first, second)]
    if images[0].shape != images[1].shape:
        sizes = (f"{image.shape[1]}x{image.shape[0]}" for image in images)
        raise VideoUnreadable(f"{first} and {second} are {' and '.join(sizes)} pixels; a pair has one size")
    source = SourceFormat(images[0].shape[1], images[0].shape[0], 0.0)
    frames = [(source, Frame(image, float("nan"))) for image in images]
    return FileFrames(f"{first.name} to {second.name}", lambda: iter(frames), settings.size, _KEPT)
