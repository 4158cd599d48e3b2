"""A corpus in the layouts of other tools: folders of JPEGs, tar shards, arrays.

Where the stored codes are those of the layout, the JPEG bytes are copied; `webdataset` copies them always
and adds what undoes their range; `npy` and `flo` hold pixels. Each video (for webdataset each tar) is
written under a temporary name and renamed when it is whole: what is there is done, if it is younger than the
shards that it was made from, and the same call again goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from flowprep.codec import quantise
from flowprep.codec.quantise import EncodedField
from flowprep.convert.layouts import CODES, LAYOUTS, Layout, step_mark
from flowprep.convert.select import select
from flowprep.corpus import format as fmt
from flowprep.corpus.reader import Corpus, Video
from flowprep.errors import CorpusDamaged, CorpusFormatError, UsageError
from flowprep.flo import write_flo
from flowprep.settings import Settings
from flowprep.system.atomic import atomic_path, remove_leftovers, temporary_path
from flowprep.system.progress import Progress, no_progress

log = logging.getLogger(__name__)

OTHERS = ("webdataset", "npy", "flo")
NAMES = (*LAYOUTS, *OTHERS)
# Says what an export was made with, so that a later call does not mix two kinds.
HEAD = "export.json"
CLASSES = "classInd.txt"
LONGEST_NAME = 150  # bytes of one folder's name; file systems take 255
# Pairs in one sample of webdataset: longer videos are cut, so that a tar stays within its bound.
SAMPLE_PAIRS = 512
# Pairs that are in memory at a time.
BATCH = 32
# Writes a video to the folder of that name below another, if it is not there since that time (ns).
Writer = Callable[[Video, Path, str, int], bool]
TAR: Literal[1] = tarfile.GNU_FORMAT  # a long name costs no extra member that readers must know


def export(
    corpus: Corpus,
    dest: Path,
    layout: str,
    *,
    wanted: Sequence[str] = (),
    convert: bool = False,
    range: float | None = None,
    quality: int = 95,
    shard_mb: float = 256,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write videos of a corpus in another layout.

    Args:
        corpus: what is exported.
        dest: a folder; one that holds an export of the same kind is gone on with.
        layout: one of NAMES.
        wanted: which videos, as `select` takes them; each gets list files of its own.
        convert: recode flow, through pixels, where the stored codes are not the layout's.
        range: R of the layout's codes, pixels; None for that of the corpus, or 20 where it has none.
        quality: JPEG quality of what is recoded.
        shard_mb: bound of a tar of webdataset, in 10^6 bytes.
        progress: called with the videos done and to do.

    Returns:
        `layout`, `dest`, `videos`, `written`, `copied` and `recoded` (flow images), `failed` (id -> reason)
        and `lists`.

    Raises:
        UsageError: the codes are others and `convert` is off, two of `wanted` would have one list, or `dest`
            holds something else.
    """
    if layout not in NAMES:
        raise UsageError(f"layout is {layout!r}; allowed: {', '.join(NAMES)}")
    chosen = select(corpus.labels, wanted, corpus.failures)
    ids = sorted({i for some in chosen.values() for i in some})
    target = _target_codes(corpus.settings, layout, convert, range, quality)
    head: dict[str, Any] = {"format": "flowprep-export", "layout": layout, "recoded": target is not None}
    head["settings"] = (target or corpus.settings).digest()
    head["corpus"] = _identity(corpus)
    lists = layout in LAYOUTS and LAYOUTS[layout].lists
    if lists and len({_list_name(what).casefold() for what in chosen}) < len(chosen):
        raise UsageError(
            f"two of {', '.join(chosen)} would give lists of one name: rename one, or export each to a folder"
        )
    flat = layout in LAYOUTS and LAYOUTS[layout].flat
    names = folder_names(corpus.labels, flat=flat, dots=layout != "webdataset")
    classes = {name: n for n, name in enumerate(sorted(set(corpus.labels.values()) - {""}))}
    tars = _plan_tars(corpus, ids, names, classes, int(shard_mb * 1e6)) if layout == "webdataset" else []
    if layout == "webdataset":  # which video is in which tar follows from all of them
        head["shard_mb"] = shard_mb
        head["videos"] = hashlib.sha256(json.dumps(tars).encode()).hexdigest()
    _claim(dest, head)
    remove_leftovers(dest)
    done: dict[str, Any] = {"written": 0, "copied": 0, "recoded": 0, "failed": {}, "lists": []}
    try:
        if layout == "webdataset":
            _write_tars(corpus, dest, tars, names, classes, done, progress)
        else:
            writer = _ARRAYS.get(layout) or _jpeg_writer(LAYOUTS[layout], target, done)
            for count, video_id in enumerate(ids, 1):
                try:
                    video = corpus[video_id]
                    done["written"] += writer(video, dest, names[video_id], _stored_at(corpus, video))
                except CorpusDamaged as exc:
                    done["failed"][video_id] = str(exc)
                progress(count, len(ids))
    finally:
        shutil.rmtree(temporary_path(dest / "export"), ignore_errors=True)
    if lists:
        kept = {name: [i for i in some if i not in done["failed"]] for name, some in chosen.items()}
        done["lists"] = _write_lists(corpus, dest, LAYOUTS[layout], kept, names, classes)
    return {"layout": layout, "dest": str(dest), "videos": len(ids), **done}


def folder_names(ids: Mapping[str, str] | Sequence[str], *, flat: bool, dots: bool = True) -> dict[str, str]:
    """A safe and unique path for each id, below whatever folder.

    An id loses its suffix and what a path, a list of words or a file system that does not know cases could
    trip over; where two ids then have one name, a digest of the id is added.

    Args:
        ids: all ids of a corpus: the name of one does not depend on which of them are exported.
        flat: only the last part of the id.
        dots: dots may stay.
    """
    bad = re.compile(r"[^\w.+=@,-]" if dots else r"[^\w+=@,-]")
    plain: dict[str, str] = {}
    for video_id in ids:
        *folders, name = video_id.split("/")
        stem = PurePosixPath(name).stem
        parts = [] if flat else folders
        plain[video_id] = "/".join(_safe(bad.sub("_", part)) for part in [*parts, stem])
    # A folder of one video is in no other's, and is none that two ids share but for the case.
    taken = {HEAD: 1, CLASSES.casefold(): 1}
    for name in plain.values():
        for path in _ancestors(name.casefold()):
            taken[path] = taken.get(path, 0) + 1
    return {
        i: name if taken[name.casefold()] == 1 else f"{name}-{hashlib.sha256(i.encode()).hexdigest()[:8]}"
        for i, name in plain.items()
    }


def _safe(part: str) -> str:
    if not part.strip("."):
        return "_" * max(1, len(part))
    short = part.encode()[:LONGEST_NAME].decode("utf-8", "ignore")
    return part if short == part else f"{short}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"


def _ancestors(path: str) -> Iterator[str]:
    yield path
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _target_codes(
    stored: Settings, layout: str, convert: bool, range: float | None, quality: int
) -> Settings | None:
    """The settings to recode flow with; None where the stored JPEGs can be copied or codes do not matter."""
    if layout not in LAYOUTS or not stored.flow:
        return None
    own = stored.codes == CODES and stored.codec == "jpeg"
    wanted = range if range is not None else stored.range if stored.codes == CODES else 20.0
    if own and wanted == stored.range:
        return None
    if not convert:
        has = stored.codes if stored.codes == "adaptive" else f"{stored.codes} with range {stored.range:g}"
        has += f" as {stored.codec}" if stored.codec != "jpeg" else ""
        raise UsageError(
            f"the corpus stores codes {has}, and {layout} needs codes {CODES} with range {wanted:g}:"
            " --convert recodes the flow through pixels, with a second loss by JPEG; or extract with"
            f" --codes {CODES}"
        )
    return Settings(codes=CODES, range=wanted, quality=quality)


def _identity(corpus: Corpus) -> str:
    """What tells a corpus from others, wherever it lies and whatever is added to it: its first task."""
    try:
        return corpus.store.read_plan().tasks[0].id
    except (CorpusFormatError, IndexError):
        return str(corpus.path)


def _claim(dest: Path, head: dict[str, Any]) -> None:
    """Make `dest` the place of this export, or find that it is already."""
    path = dest / HEAD
    if path.exists():
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError as exc:
            raise UsageError(f"{path} cannot be read ({exc}): give another folder") from exc
        if different := [name for name in {**head, **found} if head.get(name) != found.get(name)]:
            raise UsageError(
                f"{dest} holds another export (it differs in {', '.join(different)}): give another folder"
            )
        return
    if dest.is_dir() and any(not p.name.endswith(".tmp") for p in dest.iterdir()):
        raise UsageError(f"{dest} is not empty and holds no export: give another folder")
    dest.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(head, indent=1) + "\n", "utf-8")


def _stored_at(corpus: Corpus, video: Video) -> int:
    """When the youngest of a video's shards was published, ns: a retry may have made it anew."""
    shards: list[str] = video.facts()["shards"]
    return max((corpus.path / fmt.SHARDS / name).stat().st_mtime_ns for name in shards)


def _is_done(path: Path, stored_at: int) -> bool:
    """Whether a file or folder of an export is there and made from what is stored now."""
    return path.exists() and path.stat().st_mtime_ns >= stored_at


@contextmanager
def _whole_folder(dest: Path, name: str) -> Iterator[Path]:
    """A folder to write into, which becomes `dest / name` when it is whole."""
    temporary = temporary_path(dest / "export") / name
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    if (dest / name).exists():  # made from what was stored before
        shutil.rmtree(dest / name)
    (dest / name).parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(dest / name)


def _jpeg_writer(layout: Layout, target: Settings | None, done: dict[str, Any]) -> Writer:
    """What writes the folders of one video; it returns whether any of them was left to write."""

    def write(video: Video, dest: Path, name: str, stored_at: int) -> bool:
        parts = {"rgb": layout.rgb, "flow_u": layout.u, "flow_v": layout.v}
        templates = [template for stream, template in parts.items() if stream in video.streams]
        folders = {t: t.rpartition("/")[0].format(video=name) for t in templates}
        left = {folder for folder in folders.values() if not _is_done(dest / folder, stored_at)}
        with ExitStack() as stack:
            out = {folder: stack.enter_context(_whole_folder(dest, folder)) for folder in left}

            def put(template: str, number: int, image: bytes) -> None:
                if folder := out.get(folders[template]):
                    file = template.rpartition("/")[2].format(step=step_mark(video.step), number=number)
                    (folder / file).write_bytes(image)

            if folders.get(layout.rgb) in left:
                for number, frame in enumerate(_frames(layout, video), layout.first):
                    put(layout.rgb, number, video.stored("rgb", frame))
            flow = sum(folders.get(template) in left for template in (layout.u, layout.v))
            if flow:
                for number, (u, v) in enumerate(_fields(video, target), layout.first):
                    put(layout.u, number, u.jpeg)
                    put(layout.v, number, v.jpeg)
                done["recoded" if target else "copied"] += flow * video.num_pairs
        return bool(left)

    return write


def _frames(layout: Layout, video: Video) -> range:
    """The frames that a layout has images of."""
    return range(layout.first_frame(video.step) if video.num_pairs else 0, video.num_frames)


def _fields(video: Video, target: Settings | None) -> Iterator[tuple[EncodedField, EncodedField]]:
    """Encoded u and v of all pairs: as stored, or recoded."""
    if target is None:
        yield from video.fields(0, video.num_pairs)
        return
    for flow in _flows(video):
        yield quantise.encode_pair(flow, target)


def _flows(video: Video) -> Iterator[npt.NDArray[np.float32]]:
    """The flow of each pair: (2, H, W) float32."""
    for start in range(0, video.num_pairs, BATCH):
        yield from video.flow(start, min(BATCH, video.num_pairs - start))


def _write_lists(
    corpus: Corpus,
    dest: Path,
    layout: Layout,
    chosen: Mapping[str, list[str]],
    names: Mapping[str, str],
    classes: Mapping[str, int],
) -> list[str]:
    """Lists of `folder count class`, one for images and one for flow, and classInd.txt; their names."""
    texts = {CLASSES: "".join(f"{n + 1} {name}\n" for name, n in classes.items())}
    for wanted, ids in chosen.items():
        stem = _list_name(wanted)
        counts: dict[str, Callable[[Video], int]] = {}
        if corpus.settings.rgb:
            counts["rgb"] = lambda video: len(_frames(layout, video))
        if corpus.settings.flow:
            counts["flow"] = lambda video: video.num_pairs
        for stream, count in counts.items():
            texts[f"{stream}_{stem}.txt"] = "".join(
                f"{names[i]} {count(corpus[i])} {classes.get(corpus.labels[i], -1)}\n" for i in ids
            )
    for name, text in texts.items():
        with atomic_path(dest / name) as temporary:
            temporary.write_text(text, "utf-8")
    return sorted(texts)


def _list_name(wanted: str) -> str:
    """What the lists of a selection are called."""
    return re.sub(r"[^\w.-]", "_", Path(wanted).stem if wanted.endswith((".txt", ".csv")) else wanted)


def _write_npy(video: Video, dest: Path, name: str, stored_at: int) -> bool:
    """`flow.npy`, (pairs, 2, H, W) float32 pixels, and `rgb.npy`, (frames, H, W, 3) uint8."""
    if _is_done(dest / name, stored_at):
        return False
    with _whole_folder(dest, name) as out:
        for file, shape, dtype, items in (
            ("flow.npy", (video.num_pairs, 2, video.height, video.width), "<f4", lambda: _flows(video)),
            ("rgb.npy", (video.num_frames, video.height, video.width, 3), "u1", lambda: _rgb(video)),
        ):
            if ("flow_u" if file == "flow.npy" else "rgb") in video.streams:
                array = np.lib.format.open_memmap(out / file, "w+", dtype, shape)
                for i, item in enumerate(items()):
                    array[i] = item
                array.flush()
    return True


def _rgb(video: Video) -> Iterator[npt.NDArray[np.uint8]]:
    return map(video.rgb, range(video.num_frames))


def _write_flo(video: Video, dest: Path, name: str, stored_at: int) -> bool:
    """`frame_0001.flo`, from `frame_0001.jpg` to the next, as MPI-Sintel numbers them."""
    if _is_done(dest / name, stored_at):
        return False
    with _whole_folder(dest, name) as out:
        if "rgb" in video.streams:
            for number in range(video.num_frames):
                (out / f"frame_{number + 1:04d}.jpg").write_bytes(video.stored("rgb", number))
        for number, flow in enumerate(_flows(video), 1):
            write_flo(flow, out / f"frame_{number:04d}.flo")
    return True


_ARRAYS: dict[str, Writer] = {"npy": _write_npy, "flo": _write_flo}


# Id, first frame and end of a sample of webdataset.
Sample = tuple[str, int, int]


def _plan_tars(
    corpus: Corpus, ids: Sequence[str], names: Mapping[str, str], classes: Mapping[str, int], bound: int
) -> list[list[Sample]]:
    """The samples of each tar, filled in the order of ids to at most `bound` bytes."""
    tars: list[list[Sample]] = []
    filled = bound
    for video_id in ids:
        video = corpus[video_id]
        for first in range(0, video.num_frames, SAMPLE_PAIRS):
            sample = video_id, first, min(first + SAMPLE_PAIRS, video.num_frames)
            size = sum(_size_in_tar(m) for m, _ in _sample(video, names[video_id], *sample[1:], classes))
            if size + tarfile.RECORDSIZE > bound:
                raise UsageError(
                    f"{video_id} has a sample of {size / 1e6:.1f} MB; --shard-mb is {bound / 1e6:g}:"
                    " give a larger one"
                )
            if filled + size > bound:
                tars.append([])
                filled = tarfile.RECORDSIZE
            tars[-1].append(sample)
            filled += size
    return tars


def _write_tars(
    corpus: Corpus,
    dest: Path,
    tars: Sequence[Sequence[Sample]],
    names: Mapping[str, str],
    classes: Mapping[str, int],
    done: dict[str, Any],
    progress: Progress,
) -> None:
    """Write the tars that are not there. One with a damaged video is left out, and its videos have failed."""
    videos_done: set[str] = set()
    videos_to_do = len({video_id for samples in tars for video_id, *_ in samples})
    for number, samples in enumerate(tars):
        path = dest / f"{number:06d}.tar"
        ids = dict.fromkeys(video_id for video_id, *_ in samples)
        if not _is_done(path, max(_stored_at(corpus, corpus[i]) for i in ids)):
            try:
                with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=TAR) as file:
                    for video_id, first, end in samples:
                        for member, data in _sample(corpus[video_id], names[video_id], first, end, classes):
                            file.addfile(member, io.BytesIO(data()))
                done["written"] += len(ids)
            except CorpusDamaged as exc:
                done["failed"] |= dict.fromkeys(ids, f"{path.name} is left out: {exc}")
        videos_done |= ids.keys()
        progress(len(videos_done), videos_to_do)


def _sample(
    video: Video, name: str, first: int, end: int, classes: Mapping[str, int]
) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Members of a sample, and what reads each: `json`, `cls`, `img_00000.jpg`, `flow_x_00000.jpg`, ...

    Frames first to end - 1 and the pairs that begin at them, numbered in the video. With `scale` and `zero`
    of the json, [of u, of v] per pair, pixels = (code - zero) * scale.
    """
    key = f"{name}-{first:06d}" if video.num_frames > SAMPLE_PAIRS else name
    pairs = range(first, min(end, video.num_pairs))
    about = {**video.facts(), "first_frame": first, "frames": end - first, "pairs": len(pairs)}
    if "flow_u" in video.streams:
        about |= {n: getattr(video, n)[first : pairs.stop].tolist() for n in ("scale", "zero", "mean_flow")}
    texts = {"json": json.dumps(about)}
    if video.label:
        texts["cls"] = str(classes[video.label])
    for suffix, text in texts.items():
        yield _member(f"{key}.{suffix}", len(text.encode())), text.encode
    streams = {"img": ("rgb", range(first, end)), "flow_x": ("flow_u", pairs), "flow_y": ("flow_v", pairs)}
    for prefix, (stream, numbers) in streams.items():
        if stream in video.streams:
            sizes = video.sizes(stream)
            suffix = "jpg" if stream == "rgb" or video.codec == "jpeg" else video.codec
            for n in numbers:
                member = _member(f"{key}.{prefix}_{n:05d}.{suffix}", int(sizes[n]))
                yield member, partial(video.stored, stream, n)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _size_in_tar(member: tarfile.TarInfo) -> int:
    header = len(member.tobuf(TAR))
    return header + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
