"""Corpora of a few hand-made shards."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from flowprep import open_corpus
from flowprep.codec import quantise
from flowprep.codec.quantise import EncodedField
from flowprep.corpus.records import SegmentRecord, ShardRecord, TaskRecord
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.settings import Settings
from flowprep.system.atomic import file_digest

SETTINGS = Settings(backward=True)
SHAPE = (24, 40)


def random_flow(seed: int, pairs: int) -> np.ndarray:
    """Flow of the shape (pairs, 2, *SHAPE)."""
    return np.random.default_rng(seed).normal(size=(pairs, 2, *SHAPE)).astype(np.float32)


def add_segment(
    writer: ShardWriter,
    video: str,
    frames: int,
    seed: int,
    segment: int = 0,
    segments: int = 1,
    first: int = 0,
    textured: bool = False,
) -> SegmentRecord:
    """Write a segment whose content depends on its seed only. Frames have one grey level, or a texture.

    The frames are `first`, `first` + 1, ... of the video. Each frame but the last of the video begins a pair.
    """
    rng = np.random.default_rng(seed)
    writer.begin(
        id=video,
        source=video,
        label=video.split("/")[0],
        source_bytes=1,
        source_width=80,
        source_height=48,
        frame_rate=25.0,
        step=1,
        segment=segment,
        segments=segments,
        first_frame=first,
    )
    forward, backward = random_flow(seed, frames), random_flow(seed + 1000, frames)
    settings = writer.settings
    pairs = frames if segment < segments - 1 else frames - 1  # no pair begins at the last frame of a video
    for i in range(frames):
        rgb = np.full((*SHAPE, 3), rng.integers(255), np.uint8)
        if textured:
            rgb[:] = np.add.outer(np.arange(SHAPE[0]) * 5, np.arange(SHAPE[1]) * 3)[..., None] + [0, i, 9]
        writer.add_frame(rgb, seed + i / 25)
        if i < pairs:
            for flow, back in ((forward, False), (backward, True)):
                u, v = quantise.encode_pair(flow[i], settings)
                writer.add_pair(u, v, backward=back)
    stored = writer.end()
    return SegmentRecord(video, "ok", segment, segments, frames=stored.frames, pairs=stored.pairs)


def make_shards(root: Path, shards: dict[str, list], failed: dict[str, str] | None = None) -> Path:
    """Make a corpus in `root`.

    Args:
        root: its folder.
        shards: arguments of `add_segment` by task.
        failed: reason by id, for videos that every record calls failed.
    """
    store = CorpusStore(root)
    store.make_folders()
    for task, segments in shards.items():
        path = store.shard_path(task)
        with ShardWriter(path, SETTINGS, {"flowprep": "test"}) as writer:
            videos = [add_segment(writer, *s) for s in segments]
            size = writer.publish()
        shard = ShardRecord(path.name, size, file_digest(path))
        videos += [SegmentRecord(i, "failed", reason=reason) for i, reason in (failed or {}).items()]
        totals = {"pairs": sum(video.pairs for video in videos)}
        store.write_record(TaskRecord(task, shard, tuple(videos), totals))
    return root


def read_everything(corpus: Path) -> None:
    """Decode every image of a corpus."""
    for video in open_corpus(corpus).values():
        for backward in (False, True):
            video.flow(0, video.num_pairs, backward=backward)
        for i in range(video.num_frames):
            video.rgb(i)


def store_video(
    root: Path,
    frames: np.ndarray,
    flow: np.ndarray,
    settings: Settings,
    cuts: tuple[int, ...] = (),
    encode: Callable[[np.ndarray, Settings], tuple[EncodedField, EncodedField]] = quantise.encode_pair,
) -> Path:
    """Store a video with the id "a/video" as a corpus.

    Args:
        root: the folder of the corpus.
        frames: (N, H, W, 3) uint8.
        flow: (P, 2, H, W) float32, of the pairs; it is stored as backward flow, too, if the settings say so.
        settings: of the corpus; `step` is N - P.
        cuts: the first frame of each segment but the first. Each segment has a shard of its own.
        encode: encodes the flow of a pair.
    """
    store = CorpusStore(root)
    store.make_folders()
    begins = [0, *cuts, len(frames)]
    for segment, (first, end) in enumerate(pairwise(begins)):
        path = store.shard_path(f"{segment:04x}")
        with ShardWriter(path, settings, {"flowprep": "test"}) as writer:
            writer.begin(
                id="a/video",
                source="a/video",
                label="a",
                source_bytes=1,
                source_width=frames.shape[2],
                source_height=frames.shape[1],
                frame_rate=25.0,
                step=len(frames) - len(flow),
                segment=segment,
                segments=len(begins) - 1,
                first_frame=first,
            )
            for i in range(first, end):
                writer.add_frame(frames[i], i / 25)
                for backward in (False, True)[: 1 + settings.backward] if i < len(flow) else ():
                    writer.add_pair(*encode(flow[i], settings), backward=backward)
            stored = writer.end()
            shard = ShardRecord(path.name, writer.publish(), file_digest(path))
        record = SegmentRecord(
            "a/video", "ok", segment, len(begins) - 1, frames=stored.frames, pairs=stored.pairs
        )
        store.write_record(TaskRecord(path.stem, shard, (record,), {"pairs": stored.pairs}))
    return root
