"""The table of the videos of a corpus: one row per video, stored or failed, as CSV or Parquet."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowprep.corpus.find import find_videos, unknown_video
from flowprep.corpus.reader import Corpus
from flowprep.corpus.video import Video
from flowprep.errors import UsageError, VideoMissing
from flowprep.reports.filters import Condition, matching
from flowprep.reports.quality import VideoQuality, find_duplicates, measure_all
from flowprep.reports.statistics import labels_and_status
from flowprep.system.atomic import atomic_path
from flowprep.system.progress import Progress, no_progress

Row = dict[str, Any]

# Columns that are read from tables, without an image.
STORED_COLUMNS: dict[str, type] = {
    "id": str,
    "label": str,
    "status": str,
    "reason": str,
    "warning": str,
    "frames": int,
    "pairs": int,
    "seconds": float,
    "frame_rate": float,
    "width": int,
    "height": int,
    "source_width": int,
    "source_height": int,
    "source_bytes": int,
    "frame_bytes": int,
    "flow_bytes": int,
    "clipped_share": float,
    "mean_u": float,
    "mean_v": float,
    "duplicate_of": str,
}
# Columns that need all images of a video.
QUALITY_COLUMNS: dict[str, type] = {
    "repeated_frames": int,
    "repeated_share": float,
    "still_pairs": int,
    "still_share": float,
    "cuts": int,
    "cut_pairs": str,
    "motion_px": float,
}
COLUMNS = STORED_COLUMNS | QUALITY_COLUMNS


def video_rows(
    corpus: Corpus,
    *,
    name: str | None = None,
    failed: bool = False,
    label: str | None = None,
    conditions: Sequence[Condition] = (),
    quality: bool = False,
    progress: Progress = no_progress,
) -> list[Row]:
    """The rows of the videos of a corpus, sorted by id. Images are read only of the videos that are left.

    Args:
        corpus: an open corpus.
        name: only the videos that a name stands for: an id, a label, the name of a file, or a pattern.
        failed: only the videos that failed or are partial.
        label: only the videos of this class.
        conditions: only the rows that satisfy all of them.
        quality: also the columns that need images. Conditions on them imply it.
        progress: called with the number of videos whose images are read, and of all.

    Raises:
        VideoMissing: the name stands for no video.
        UsageError: no video has the label.
        CorpusDamaged: a table or an image does not match its checksum.
    """
    rows = _stored_rows(corpus)
    if name is not None:
        found = set(find_videos({row["id"]: row["label"] for row in rows}, name))
        if not found:
            raise VideoMissing(unknown_video(corpus, name, corpus.path))
        rows = [row for row in rows if row["id"] in found]
    if label is not None:
        labels = {row["label"] for row in rows}
        if label not in labels:
            raise UsageError(
                f"no video has the label {label!r}; allowed: {', '.join(sorted(labels)) or 'none'}"
            )
        rows = [row for row in rows if row["label"] == label]
    if failed:
        rows = [row for row in rows if row["status"] != "ok"]
    in_images = [condition for condition in conditions if condition.column in QUALITY_COLUMNS]
    rows = [dict(row) for row in matching(rows, [c for c in conditions if c not in in_images])]
    if quality or in_images:
        stored = [row["id"] for row in rows if row["status"] != "failed"]
        qualities = measure_all(corpus, stored, progress)
        for row in rows:
            row |= _quality_values(row, qualities.get(row["id"]))
    return [dict(row) for row in matching(rows, in_images)]


def _stored_rows(corpus: Corpus) -> list[Row]:
    labels, status = labels_and_status(corpus, corpus.index)
    duplicates = find_duplicates(corpus)
    empty = dict.fromkeys(STORED_COLUMNS)
    rows = [
        {
            **empty,
            **_stored_values(video),
            "warning": corpus.warnings.get(video.id, ""),
            "duplicate_of": duplicates.get(video.id, ""),
        }
        for video in corpus.values()
    ]
    rows += [
        {**empty, "id": video, "label": labels.get(video, ""), "status": "failed", "reason": reason}
        for video, reason in status.failures.items()
    ]
    return sorted(rows, key=lambda row: row["id"])


def _seconds(video: Video) -> float | None:
    """The length of a video: by its time stamps if it has them, else by its declared frame rate.

    Some files declare a rate that counts repeated pictures, which are not stored.
    """
    times = video.times_seconds
    if len(times) > 1 and times[-1] > times[0]:  # False for NaN
        return round(float(times[-1] - times[0]) * len(times) / (len(times) - 1), 3)
    return round(video.num_frames / video.frame_rate, 3) if video.frame_rate else None


def _stored_values(video: Video) -> Row:
    values: Row = {
        "id": video.id,
        "label": video.label,
        "status": "partial" if video.partial else "ok",
        "reason": video.damage,
        "frames": video.num_frames,
        "pairs": video.num_pairs,
        "seconds": _seconds(video),
        "frame_rate": video.frame_rate or None,
        "width": video.width,
        "height": video.height,
        **{name: value for name, value in video.origin.items() if name != "source"},
    }
    if "rgb" in video.streams:
        values["frame_bytes"] = int(video.sizes("rgb").sum())
    if "flow_u" in video.streams:
        values["flow_bytes"] = int(sum(video.sizes(name).sum() for name in video.streams if name != "rgb"))
        if video.num_pairs:
            values["clipped_share"] = round(float(video.clipped.mean()), 6)
            values["mean_u"], values["mean_v"] = (round(float(m), 4) for m in video.mean_flow.mean(axis=0))
    return values


def _quality_values(row: Row, quality: VideoQuality | None) -> Row:
    if quality is None:
        return dict.fromkeys(QUALITY_COLUMNS)
    pairs = quality.cut_pairs
    return {
        "repeated_frames": quality.repeated_frames,
        "repeated_share": _share(quality.repeated_frames, row["frames"]),
        "still_pairs": quality.still_pairs,
        "still_share": _share(quality.still_pairs, row["pairs"]),
        "cuts": quality.cuts,
        "cut_pairs": None if pairs is None else " ".join(map(str, pairs)),
        "motion_px": None if quality.motion_px is None else round(quality.motion_px, 4),
    }


def _share(count: int | None, total: int) -> float | None:
    return None if count is None or not total else round(count / total, 4)


def check_table(path: Path) -> None:
    """Check that a table can be written, before the work for it begins.

    Raises:
        UsageError: the suffix is no known one, or its package is not installed.
    """
    if path.suffix.lower() == ".parquet":
        _pyarrow()
    elif path.suffix.lower() != ".csv":
        raise UsageError(f"--table is {path}; allowed: a name that ends in .csv or .parquet")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with all columns. A value that is not known is empty in CSV, and null in Parquet.

    Raises:
        UsageError: as `check_table`.
    """
    check_table(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(COLUMNS), extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)
        else:
            arrow, parquet = _pyarrow()
            types = {int: arrow.int64(), float: arrow.float64(), str: arrow.string()}
            columns = {
                name: arrow.array([row.get(name) for row in rows], types[kind])
                for name, kind in COLUMNS.items()
            }
            parquet.write_table(arrow.table(columns), temporary)


def _pyarrow() -> tuple[Any, Any]:
    """The modules that write Parquet; the package is optional."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as exc:
        raise UsageError(
            "a .parquet table needs the package pyarrow: pip install 'flowprep[table]' (or pip install"
            " pyarrow); a .csv table needs nothing"
        ) from exc
