"""Checking a corpus: every checksum, every image, every count."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowprep.codec import images
from flowprep.corpus import format as fmt
from flowprep.corpus.index import load_index, read_record, recorded_tasks
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.task_log import note
from flowprep.errors import CorpusError, CorpusFormatError
from flowprep.system.atomic import file_digest


class Problem(NamedTuple):
    """Something that does not hold.

    Attributes:
        shard: name of the file.
        video: id, or "" where the trouble is not within one video.
        image: number of the image in the shard, or None.
        what: what was found.
    """

    shard: str
    video: str
    image: int | None
    what: str

    def __str__(self) -> str:
        image = "" if self.image is None else f"image {self.image}"
        return f"{', '.join(filter(None, [self.shard, self.video, image]))}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What was checked, and what does not hold."""

    shards: int
    videos: int
    images: int
    problems: tuple[Problem, ...]


def verify_corpus(corpus: Path, jobs: int = 1) -> Report:
    """Check every published shard against its record, its tables and its images.

    Args:
        corpus: the folder.
        jobs: shards checked at a time, each in a thread.

    Raises:
        CorpusFormatError: the folder holds neither records nor a plan.
    """
    if not (corpus / fmt.RECORDS).is_dir() and not (corpus / fmt.PLAN).exists():
        raise CorpusFormatError(f"{corpus} is not a corpus: it has neither records nor a plan")
    tasks = sorted(recorded_tasks(corpus))
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda task: _verify_task(corpus, task), tasks))
    return Report(
        shards=sum(r[0] for r in results),
        videos=sum(r[1] for r in results),
        images=sum(r[2] for r in results),
        problems=(*(problem for r in results for problem in r[3]), *_check_segments(corpus)),
    )


def set_aside(corpus: Path, report: Report) -> list[str]:
    """Move the shards that a report finds damaged, and their records, to the folder `damaged`.

    Their tasks are pending then. The record goes first: a task without one is not published.

    Returns:
        The names of the shards.
    """
    names = sorted({problem.shard for problem in report.problems if problem.shard})
    folder = corpus / fmt.DAMAGED
    if names:  # it still says what they held, and a task that is made again keeps its name
        (corpus / fmt.INDEX).unlink(missing_ok=True)
    for name in names:
        task = Path(name).stem
        folder.mkdir(exist_ok=True)
        for path in (fmt.record_path(corpus, task), fmt.shard_path(corpus, task)):
            with suppress(FileNotFoundError):
                path.replace(folder / path.name)
        note(corpus, task, f"damaged, set aside: {next(p.what for p in report.problems if p.shard == name)}")
    return names


def _check_segments(corpus: Path) -> Iterator[Problem]:
    """Segments of a sound video follow each other; only empty ones may lie behind its end."""
    try:
        index = load_index(corpus)
    except CorpusError:
        return  # a file that cannot be read is a problem already
    done: dict[bytes, int] = {}
    ends: dict[bytes, int] = {}
    for row in index.rows:
        begin, frames = int(row["first_frame"]), int(row["num_frames"])
        follows = row["segment"] == done.get(row["id"], -1) + 1  # else one between is pending or failed
        done[row["id"]] = int(row["segment"])
        if follows and frames and not row["partial"] and begin != ends.get(row["id"], 0):
            yield Problem(
                "", row["id"].decode(), None, f"segment {row['segment']} leaves frames out before it"
            )
        ends[row["id"]] = begin + frames


def _verify_task(corpus: Path, task: str) -> tuple[int, int, int, list[Problem]]:
    """Numbers of shards, videos and images checked, and the problems."""
    path = fmt.shard_path(corpus, task)
    problems: list[Problem] = []
    try:
        record = read_record(corpus, task)
        if record["shard"] is None:
            return 0, 0, 0, []
        if not path.exists():
            return 1, 0, 0, [Problem(path.name, "", None, "the file is missing")]
        problems += _check_file(path, record["shard"])
        shard = Shard(path)
        problems += _check_counts(shard, record)
        problems += _check_images(shard)
    except (CorpusError, OSError) as exc:
        what = str(exc).removeprefix(f"{path.name}: ")
        return 1, 0, 0, [*problems, Problem(path.name, "", None, what)]
    except (KeyError, TypeError, AttributeError) as exc:
        what = f"the record is not as records are: {exc!r}"
        return 1, 0, 0, [*problems, Problem(path.name, "", None, what)]
    videos = int((shard.videos["segment"] == 0).sum())  # a long one counts where it begins
    return 1, videos, len(shard.images), problems


def _check_file(path: Path, expected: dict[str, Any]) -> Iterator[Problem]:
    size = path.stat().st_size
    if size != expected["bytes"]:
        yield Problem(path.name, "", None, f"{size} bytes, {expected['bytes']} recorded")
    elif file_digest(path) != expected["sha256"]:
        yield Problem(path.name, "", None, "the file does not have its recorded SHA-256")


def _check_counts(shard: Shard, record: dict[str, Any]) -> Iterator[Problem]:
    name = shard.path.name
    taken = {(v["id"], v["segment"]): v for v in record["videos"] if v["status"] != "failed"}
    if len(taken) != len(shard.videos):
        yield Problem(name, "", None, f"{len(shard.videos)} videos, {len(taken)} recorded")
    settings = shard.settings
    for row in shard.videos:
        video = row["id"].decode()
        frames, pairs = int(row["num_frames"]), int(row["num_pairs"])
        entry = taken.get((video, int(row["segment"])))
        if entry is None or (entry["frames"], entry["pairs"]) != (frames, pairs):
            yield Problem(name, video, None, f"{frames} frames, {pairs} pairs: not as recorded")
        for stream in fmt.STREAMS:
            want = 0 if stream not in settings.streams else frames if stream == "rgb" else pairs
            first, count = int(row[f"{stream}_first"]), int(row[f"{stream}_count"])
            if count != want or first + count > len(shard.images):
                yield Problem(name, video, None, f"{count} images of {stream}, {want} expected")
        tables = [(shard.times, int(row["first_time"]), frames)]
        tables += [(shard.pairs, int(row["first_pair"]), pairs if settings.flow else 0)]
        tables += [(shard.pairs_backward, int(row["first_pair"]), pairs if settings.backward else 0)]
        if any(n and first + n > len(table) for table, first, n in tables):
            yield Problem(name, video, None, "a table ends before the rows of this video")
        times = shard.times[int(row["first_time"]) :][:frames]
        if (np.diff(times) <= 0).any():
            yield Problem(name, video, None, "its time stamps do not increase")


def _check_images(shard: Shard) -> Iterator[Problem]:
    for row in shard.videos:
        shape = int(row["height"]), int(row["width"])
        for stream in fmt.STREAMS:
            decode = images.decode_rgb if stream == "rgb" else images.decode_codes
            first = int(row[f"{stream}_first"])
            for image in range(first, min(first + int(row[f"{stream}_count"]), len(shard.images))):
                try:
                    decode(shard.image(image), shape)
                except CorpusError as exc:
                    what = str(exc).removeprefix(f"{shard.path.name}: ")
                    yield Problem(shard.path.name, row["id"].decode(), image, f"{stream}: {what}")
