"""Verification of a corpus: every checksum, every image, every count."""

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
from flowprep.corpus.fields import not_decoded
from flowprep.corpus.records import ShardRecord, TaskRecord
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.store import CorpusStore
from flowprep.errors import CorpusError, FileUnsuitable
from flowprep.system.atomic import file_digest
from flowprep.system.files import is_machine_error


class Problem(NamedTuple):
    """A check that failed.

    Attributes:
        shard: name of the file, or "" if the problem is not within one shard.
        video: id, or "" if the problem is not within one video.
        image: number of the image in the shard, or None.
        what: what was found.
        unread: the machine could not read the file, such as for lack of locks or rights. This is no damage.
    """

    shard: str
    video: str
    image: int | None
    what: str
    unread: bool = False

    def __str__(self) -> str:
        image = "" if self.image is None else f"image {self.image}"
        return f"{', '.join(filter(None, [self.shard, self.video, image]))}: {self.what}"


@dataclass(frozen=True)
class Report:
    """The result of a verification.

    Attributes:
        shards, videos, images: the numbers that were checked.
        problems: the checks that failed.
    """

    shards: int = 0
    videos: int = 0
    images: int = 0
    problems: tuple[Problem, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report in plain types, as `--json` prints it."""
        problems = [problem._asdict() for problem in self.problems]
        return {**vars(self), "problems": problems}

    def __add__(self, other: Report) -> Report:
        return Report(
            self.shards + other.shards,
            self.videos + other.videos,
            self.images + other.images,
            self.problems + other.problems,
        )


def verify_corpus(store: CorpusStore, jobs: int = 1) -> Report:
    """Check every published shard against its record, its tables and its images.

    Args:
        store: the corpus.
        jobs: the number of shards that are checked at the same time, each in a thread.

    Raises:
        NotACorpus: the folder is not a corpus.
    """
    store.check_exists()
    with ThreadPoolExecutor(jobs) as pool:
        reports = pool.map(lambda task: _verify_task(store, task), sorted(store.recorded_tasks()))
        report = sum(reports, Report())
    return report + Report(problems=tuple(_check_segments(store)))


def set_aside(store: CorpusStore, report: Report) -> list[str]:
    """Move damaged shards and their records to the folder `damaged`. Their tasks are then pending.

    A file that the machine could not read is not moved: it may be sound.

    Args:
        store: the corpus.
        report: its verification.

    Returns:
        The names of the shards.

    Raises:
        CorpusFormatError: a folder of the corpus is a link.
    """
    store.check_folders()
    unread = {problem.shard for problem in report.problems if problem.unread}
    names = sorted({problem.shard for problem in report.problems if problem.shard} - unread)
    folder = store.path / fmt.DAMAGED
    if names:  # the index still contains them, and a task that is extracted again keeps its name
        store.drop_index()
    for name in names:
        task = Path(name).stem
        folder.mkdir(exist_ok=True)
        for path in (store.record_path(task), store.shard_path(task)):  # without a record it is not published
            with suppress(FileNotFoundError):
                path.replace(folder / path.name)
        first = next(problem.what for problem in report.problems if problem.shard == name)
        store.log(task, f"damaged, set aside: {first}")
    return names


def _check_segments(store: CorpusStore) -> Iterator[Problem]:
    """Segments of an intact video follow each other. Only empty ones may lie after its end."""
    try:
        index = store.load_index()
    except (CorpusError, OSError):
        return  # a file that cannot be read is already a problem of its task
    for video, shards in index.duplicates.items():
        what = f"stored twice, in {' and '.join(shards)}; it is not read: remove one of them, and its record"
        yield Problem("", video, None, what)
    last: dict[bytes, int] = {}  # the last segment of each video, and the frame after it
    ends: dict[bytes, int] = {}
    for row in index.rows:
        begin, frames = int(row["first_frame"]), int(row["num_frames"])
        follows = row["segment"] == last.get(row["id"], -1) + 1  # else one between is pending or failed
        last[row["id"]] = int(row["segment"])
        if follows and frames and not row["partial"] and begin != ends.get(row["id"], 0):
            yield Problem("", row["id"].decode(), None, f"frames before segment {row['segment']} are missing")
        ends[row["id"]] = begin + frames


def _verify_task(store: CorpusStore, task: str) -> Report:
    path = store.shard_path(task)
    problems: list[Problem] = []
    try:
        record = store.read_record(task)
        if record.shard is None:
            return Report()
        if not path.exists():
            return Report(shards=1, problems=(Problem(path.name, "", None, "the file is missing"),))
        problems += _check_file(path, record.shard)
        shard = Shard(path)
        problems += _check_counts(shard, record)
        problems += _check_images(shard)
    except (CorpusError, OSError, MemoryError, FileUnsuitable) as exc:
        unread = is_machine_error(exc)
        what = str(exc).removeprefix(f"{path.name}: ") or "not enough memory"
        what = f"could not be read, which is no damage of the file: {what}" if unread else what
        return Report(shards=1, problems=(*problems, Problem(path.name, "", None, what, unread)))
    videos = int((shard.videos["segment"] == 0).sum())  # a long video counts in the shard where it begins
    return Report(1, videos, len(shard.images), tuple(problems))


def _check_file(path: Path, expected: ShardRecord) -> Iterator[Problem]:
    size = path.stat().st_size
    if size != expected.bytes:
        yield Problem(path.name, "", None, f"{size} bytes, {expected.bytes} recorded")
    elif file_digest(path) != expected.sha256:
        yield Problem(path.name, "", None, "the file does not have its recorded SHA-256")


def _check_counts(shard: Shard, record: TaskRecord) -> Iterator[Problem]:
    name = shard.path.name
    recorded = {(video.id, video.segment): video for video in record.videos if not video.failed}
    if len(recorded) != len(shard.videos):
        yield Problem(name, "", None, f"{len(shard.videos)} videos, {len(recorded)} recorded")
    for row in shard.videos:
        video, frames, pairs = row["id"].decode(), int(row["num_frames"]), int(row["num_pairs"])
        entry = recorded.get((video, int(row["segment"])))
        if entry is None or (entry.frames, entry.pairs) != (frames, pairs):
            yield Problem(name, video, None, f"{frames} frames, {pairs} pairs: the record differs")
        for what in _check_row(shard, row, frames, pairs):
            yield Problem(name, video, None, what)


def _check_row(shard: Shard, row: Any, frames: int, pairs: int) -> Iterator[str]:
    """Check the number of images, pairs and times of a video against its row in the video table."""
    settings = shard.settings
    for stream in fmt.STREAMS:
        expected = 0 if stream not in settings.streams else frames if stream == "rgb" else pairs
        first, count = int(row[f"{stream}_first"]), int(row[f"{stream}_count"])
        if count != expected or first + count > len(shard.images):
            yield f"{count} images of {stream}, {expected} expected"
    tables = [(shard.times, int(row["first_time"]), frames)]
    tables += [(shard.pairs, int(row["first_pair"]), pairs if settings.flow else 0)]
    tables += [(shard.pairs_backward, int(row["first_pair"]), pairs if settings.backward else 0)]
    if any(count and first + count > len(table) for table, first, count in tables):
        yield "a table ends before the rows of this video"
    times = shard.times[int(row["first_time"]) :][:frames]
    if (np.diff(times) <= 0).any():
        yield "its time stamps do not increase"


def _check_images(shard: Shard) -> Iterator[Problem]:
    for row in shard.videos:
        shape = int(row["height"]), int(row["width"])
        for stream in fmt.STREAMS:
            first = int(row[f"{stream}_first"])
            numbers = np.arange(first, min(first + int(row[f"{stream}_count"]), len(shard.images)))
            decode = images.decode_rgb if stream == "rgb" else images.decode_codes
            for image in numbers.tolist() if stream == "rgb" else not_decoded(shard, numbers, shape):
                try:
                    decode(shard.image(image), shape)
                except CorpusError as exc:
                    what = str(exc).removeprefix(f"{shard.path.name}: ")
                    yield Problem(shard.path.name, row["id"].decode(), image, f"{stream}: {what}")
