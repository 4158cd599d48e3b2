"""Export a corpus to the layouts of other tools: folders of JPEGs, tar files, arrays.

If the stored codes are those of the layout, JPEGs are copied byte by byte. `webdataset` always copies them
and adds the numbers that decode them. `npy` and `flo` hold pixels.

An export can be stopped and resumed. Each video (for webdataset, each tar) is written under a temporary name
and renamed when it is whole. A video is done if it is there and not older than its shards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flowprep.convert.arrays import write_flo_folder, write_npy_folder
from flowprep.convert.folders import write_image_folders, write_lists
from flowprep.convert.layouts import CODES, LAYOUTS
from flowprep.convert.names import folder_names, list_name
from flowprep.convert.output import ExportFolder, FolderResult, WriteResult, stored_at
from flowprep.convert.select import select
from flowprep.convert.webdataset import SAMPLE_PAIRS, Sample, TarWriter
from flowprep.corpus.reader import Corpus
from flowprep.corpus.video import Video
from flowprep.errors import CorpusDamaged, CorpusFormatError, UsageError
from flowprep.presets import tvl1_settings
from flowprep.settings import Settings
from flowprep.system.progress import Progress, no_progress
from flowprep.system.units import count_noun

NAMES = (*LAYOUTS, "webdataset", "npy", "flo")
# Writes the folders of a video: its arguments are the video, the export, the folder's name, and `stored_at`.
VideoWriter = Callable[[Video, ExportFolder, str, int], FolderResult]
_ARRAY_WRITERS: dict[str, VideoWriter] = {"npy": write_npy_folder, "flo": write_flo_folder}


@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Attributes:
        layout: name of the layout.
        dest: the folder.
        videos: number of videos selected.
        written: number of videos that this call wrote; the others were there.
        copied, recoded: number of flow images that this call wrote.
        failed: id -> reason, for videos that are damaged in the corpus.
        lists: names of the list files.
        frames: number of frames that this call wrote.
        flow_fields: number of pairs whose flow this call wrote in pixels, with layouts npy and flo.
    """

    layout: str
    dest: str
    videos: int
    written: int
    copied: int = 0
    recoded: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    frames: int = 0
    flow_fields: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The result in plain types."""
        return asdict(self)


def export(
    corpus: Corpus,
    dest: Path,
    layout: str,
    *,
    wanted: Sequence[str] = (),
    allow_missing: bool = False,
    convert: bool = False,
    range: float | None = None,
    quality: int = 95,
    shard_mb: float = 256,
    sample_pairs: int = SAMPLE_PAIRS,
    progress: Progress = no_progress,
) -> ExportResult:
    """Write videos of a corpus in another layout. The same call again resumes.

    Args:
        corpus: the corpus.
        dest: a new or empty folder, or one with an export of the same kind.
        layout: one of NAMES.
        wanted, allow_missing: selections of videos, as for `select`. Each has list files of its own.
        convert: recode flow, through pixels, if the stored codes are not those of the layout.
        range: R of the layout's codes, pixels. None for that of the corpus, or 20 if it has none.
        quality: JPEG quality of recoded flow.
        shard_mb: the largest size of a tar of webdataset, 10^6 bytes.
        sample_pairs: the maximum number of frames of a sample of webdataset.
        progress: called with the number of videos done and of all videos.

    Raises:
        UsageError: the corpus has nothing for the layout; the codes differ and `convert` is off; two
            selections would have one list; or `dest` holds something else.
    """
    if layout not in NAMES:
        raise UsageError(f"layout is {layout!r}; allowed: {', '.join(NAMES)}")
    _check_content(corpus, layout)
    selections = select(corpus.labels, wanted, corpus.failures, allow_missing=allow_missing)
    ids = sorted({video_id for selected in selections.values() for video_id in selected})
    folders = LAYOUTS.get(layout)
    target = _recoding(corpus.settings, layout, convert, range, quality)
    has_lists = folders is not None and folders.lists
    if has_lists:
        _check_list_names(selections)
    flat = folders is not None and folders.flat
    names = folder_names(corpus.labels, flat=flat, dots=layout != "webdataset")
    classes = {label: number for number, label in enumerate(sorted(set(corpus.labels.values()) - {""}))}
    header = _header(corpus, layout, target)
    out = ExportFolder(dest)
    try:
        if layout == "webdataset":
            tar_writer = TarWriter(corpus, names, classes, sample_pairs)
            tars = tar_writer.plan(ids, int(shard_mb * 1e6))
            out.claim(header | _tar_header(tars, shard_mb))
            result = tar_writer.write(out, tars, progress)
        else:
            out.claim(header)
            if folders:
                writer: VideoWriter = partial(write_image_folders, layout=folders, target=target)
            else:
                writer = _ARRAY_WRITERS[layout]
            result = _write_videos(corpus, ids, out, names, writer, progress)
    finally:
        out.remove_temporary()
    lists: list[str] = []
    if folders is not None and has_lists:
        whole = {
            name: [i for i in selected if i not in result.failed] for name, selected in selections.items()
        }
        lists = write_lists(out, corpus, folders, whole, names, classes)
    flow = {
        "flow_fields" if layout in _ARRAY_WRITERS else "recoded" if target else "copied": result.flow_images
    }
    return ExportResult(
        layout,
        str(dest),
        len(ids),
        result.written,
        failed=result.failed,
        lists=lists,
        frames=result.frames,
        **flow,
    )


def _check_content(corpus: Corpus, layout: str) -> None:
    """Refuse an export that would write nothing, before anything is written.

    Raises:
        UsageError: the corpus has no video, or no flow for a layout of flow only.
    """
    if not len(corpus):
        failed = count_noun(len(corpus.failures), "failed video")
        raise UsageError(f"{corpus.path} has no video that can be exported, and {failed}")
    if layout == "flo" and not corpus.settings.flow:
        raise UsageError(
            f"--layout flo holds flow, and {corpus.path} was made without (--no-flow): npy and the layouts of"
            " JPEGs hold its frames"
        )


def _write_videos(
    corpus: Corpus,
    ids: Sequence[str],
    out: ExportFolder,
    names: Mapping[str, str],
    writer: VideoWriter,
    progress: Progress,
) -> WriteResult:
    """Write a folder per video."""
    written = frames = flow_images = 0
    failed: dict[str, str] = {}
    for count, video_id in enumerate(ids, 1):
        try:
            video = corpus[video_id]
            result = writer(video, out, names[video_id], stored_at(corpus, video))
            written += result.written
            frames += result.frames
            flow_images += result.flow_images
        except CorpusDamaged as exc:
            failed[video_id] = str(exc)
        progress(count, len(ids))
    return WriteResult(written, frames, flow_images, failed)


def _check_list_names(selections: Mapping[str, Sequence[str]]) -> None:
    if len({list_name(selection).casefold() for selection in selections}) < len(selections):
        raise UsageError(
            f"two of {', '.join(selections)} would give lists of one name: rename one, or export each to a"
            " folder of its own"
        )


def _recoding(
    stored: Settings, layout: str, convert: bool, range: float | None, quality: int
) -> Settings | None:
    """The settings to recode flow with; None if stored JPEGs can be copied, or pixels are written.

    Raises:
        UsageError: recoding is needed and `convert` is off.
    """
    if layout not in LAYOUTS or not stored.flow:
        return None
    needed_range = range if range is not None else stored.range if stored.codes == CODES else 20.0
    if stored.codes == CODES and stored.codec == "jpeg" and needed_range == stored.range:
        return None
    if not convert:
        codes = f"--quantiser {stored.codes}"
        codes += "" if stored.codes == "adaptive" else f" --range {stored.range:g}"
        codes += f" --image-format {stored.codec}" if stored.codec != "jpeg" else ""
        raise UsageError(
            f"the corpus was extracted with {codes}, and {layout} needs --quantiser {CODES} --range"
            f" {needed_range:g}; allowed: --convert, which recodes the flow through pixels, with a second"
            " loss by JPEG. Or extract again"
        )
    # Their digest marks an unfinished export. So they are the same in all versions of flowprep.
    return Settings(codes=CODES, range=needed_range, quality=quality, tvl1=tvl1_settings("accurate@1"))


def _header(corpus: Corpus, layout: str, target: Settings | None) -> dict[str, object]:
    """The description of an export that its folder stores."""
    return {
        "format": "flowprep-export",
        "layout": layout,
        "recoded": target is not None,
        "settings": (target or corpus.settings).digest(),
        "corpus": _identity(corpus),
    }


def _tar_header(tars: Sequence[Sequence[Sample]], shard_mb: float) -> dict[str, object]:
    """Further parts for tars: the videos of each tar depend on all selected videos."""
    return {"shard_mb": shard_mb, "videos": hashlib.sha256(json.dumps(tars).encode()).hexdigest()}


def _identity(corpus: Corpus) -> str:
    """The id of a corpus's first task. It stays the same if the corpus moves or grows."""
    try:
        return corpus.store.read_plan().tasks[0].id
    except (CorpusFormatError, IndexError):
        return str(corpus.path)
