"""Files that are damaged in the ways that disks, copies and malice have, and small videos to damage.

python -m tests.support.mutations FOLDER FILE NUMBER   damage a file of a corpus or of a training run, again
                                                     and again, and read it

prints a JSON line for each: the mutation, what reading came to ("refused", "same" or "wrong") and whether
`verify` saw it (null where it was not asked). A process of its own, as a reader might crash.
"""

from __future__ import annotations

import hashlib
import json
import random
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

import flowprep
from flowprep.corpus.index import ARRAYS
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.errors import FlowprepError
from tests.support.videos import texture

# Suffix, encoder and pixel format of the videos: each container and each codec at least once.
KINDS = (
    ("mp4", "libx264", "yuv420p"),
    ("mp4", "mpeg4", "yuv420p"),
    ("mp4", "libx265", "yuv420p"),
    ("mov", "mjpeg", "yuvj420p"),
    ("mov", "prores", "yuv422p10le"),
    ("mkv", "libx264", "yuv420p"),
    ("mkv", "ffv1", "yuv420p"),
    ("webm", "libvpx", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("avi", "mpeg4", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("avi", "msmpeg4", "yuv420p"),
    ("mpg", "mpeg1video", "yuv420p"),
    ("ts", "mpeg2video", "yuv420p"),
    ("mxf", "mpeg2video", "yuv422p"),
    ("wmv", "wmv2", "yuv420p"),
    ("flv", "flv", "yuv420p"),
    ("gif", "gif", "rgb8"),
    ("y4m", "wrapped_avframe", "yuv420p"),
)
FRAMES, SIZE = 12, (64, 48)

MEMORY = 2 << 30  # bytes of address space that reading may take: what a file declares must not be allocated


def write_kind(folder: Path, suffix: str, codec: str, pixels: str) -> Path:
    """A small video of one of KINDS."""
    path = folder / f"{codec}.{suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        stream.codec_context.time_base = Fraction(1, 25)
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(texture(SIZE[1], SIZE[0], float(i)), "rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _flips(data: bytearray, rng: random.Random, first: int, last: int, most: int) -> bytes:
    for _ in range(rng.randint(1, most)):
        data[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return bytes(data)


def flip(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Some bits, anywhere."""
    return _flips(bytearray(data), rng, 0, len(data), 20)


def flip_head(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Some bits of the first kilobyte or, where some formats have their tables, of the last."""
    if rng.random() < 0.5:
        return _flips(bytearray(data), rng, 0, min(1024, len(data)), 4)
    return _flips(bytearray(data), rng, max(0, len(data) - 1024), len(data), 4)


def cut(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Nothing behind some byte."""
    return data[: rng.randrange(len(data))]


def hole(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Zeros where a block was never written."""
    start = rng.randrange(len(data))
    length = min(len(data) - start, rng.choice([16, 512, 4096]))
    return data[:start] + bytes(length) + data[start + length :]


def loss(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A run of bytes is gone, and what follows moves up."""
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 600) :]


def splice(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """The beginning of one file and the rest of another one."""
    at = rng.choice([32, 64, 256, rng.randrange(len(data))])
    return data[:at] + rng.choice(others)[at:]


def absurd(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """A number that is far too large, or none, where a size or an offset may be."""
    at = rng.randrange(min(len(data), 4096)) & ~1
    value = rng.choice(
        [b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\0\x40"]
    )
    return data[:at] + value + data[at + len(value) :]


Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
MUTATIONS: tuple[Mutation, ...] = (
    flip,
    flip_head,
    cut,
    hole,
    loss,
    splice,
    absurd,
)


def mutants(
    originals: Sequence[bytes], number: int, seed: int, mutations: Sequence[Mutation] = MUTATIONS
) -> Iterator[tuple[int, str, bytes]]:
    """Yield (which original, name of the mutation, its bytes), all different from the originals."""
    rng = random.Random(seed)
    while number:
        which, mutate = rng.randrange(len(originals)), rng.choice(mutations)
        data = mutate(originals[which], rng, originals)
        if data not in originals:
            yield which, mutate.__name__, data
            number -= 1


def contents(corpus: Path) -> str:
    """Everything that a reader can get from a corpus."""
    opened = flowprep.open_corpus(corpus)
    found: list[Any] = [opened.labels, opened.failures, opened.partial, opened.warnings, opened.info()]
    for video in opened.values():
        digest = hashlib.sha256()
        arrays = [video.times_seconds, video.mean_flow, video.mean_flow_backward, video.clipped]
        arrays += [video.rgb(i) for i in range(video.num_frames)]
        for backward in (False, True):
            arrays += [call(0, video.num_pairs, backward) for call in (video.flow, video.codes)]
            arrays += video.camera(0, video.num_pairs, backward)
        for array in arrays:
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        found.append([video.info(), video.origin, digest.hexdigest()])
    return json.dumps(found, sort_keys=True)


def indexed(corpus: Path) -> str:
    """Everything that the index says."""
    index = vars(CorpusStore(corpus).load_index())
    arrays = {n: np.asarray(index[n]) for n in ARRAYS}
    rest = {n: v for n, v in index.items() if n not in ARRAYS}
    return json.dumps([rest, {n: [a.shape, a.tobytes().hex()] for n, a in arrays.items()}], sort_keys=True)


def checkpoint(path: Path) -> str:
    """Everything that a checkpoint holds."""
    from trainer.training.checkpoint import load

    digest = hashlib.sha256()

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return [[str(k), plain(v)] for k, v in value.items()]
        if hasattr(value, "numpy"):
            array = value.numpy()
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
            return None
        return repr(value)

    return json.dumps([plain(vars(load(path))), digest.hexdigest()])


def main(corpus: Path, name: str, number: int) -> None:
    """Damage a file of a corpus or of a run and read it, `number` times; it is whole again behind that."""
    path = corpus / name
    reader = {
        "last.pt": lambda _: checkpoint(path),
        "best.pt": lambda _: checkpoint(path),
        "shards": contents,
        "records": lambda corpus: json.dumps(CorpusStore(corpus).read_record(path.stem).to_dict()),
        "plan.jsonl": lambda corpus: repr(CorpusStore(corpus).read_plan()),
        "index.npz": indexed,
    }[name.partition("/")[0]]
    whole = path.read_bytes()
    memory = MEMORY
    if name.endswith(".pt"):  # PyTorch takes most of that by itself
        reader(corpus)
        memory += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    expected = reader(corpus)
    for count, (_, mutation, data) in enumerate(mutants([whole], number, seed=1)):
        path.write_bytes(data)
        try:
            outcome = "same" if reader(corpus) == expected else "wrong"
        except FlowprepError:
            outcome = "refused"
        seen = None
        if name.startswith("shards") and count % 4 == 0:
            seen = bool(verify_corpus(CorpusStore(corpus)).problems)
        print(json.dumps([mutation, outcome, seen]), flush=True)
    path.write_bytes(whole)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
