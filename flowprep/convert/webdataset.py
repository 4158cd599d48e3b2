"""Export to tar files of samples, as webdataset reads them. JPEGs are copied with their codes as stored."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

from flowprep.convert.output import ExportFolder, WriteResult, stored_at
from flowprep.corpus.reader import Corpus
from flowprep.corpus.video import Video
from flowprep.errors import CorpusDamaged, UsageError
from flowprep.system.atomic import atomic_path
from flowprep.system.progress import Progress

# Longer videos are cut into samples of so many frames, so that no tar is larger than its bound.
SAMPLE_PAIRS = 512
# In this format, a long name needs no additional member that readers would have to know.
TAR_FORMAT: Literal[1] = tarfile.GNU_FORMAT

Member = tuple[tarfile.TarInfo, Callable[[], bytes]]


class Sample(NamedTuple):
    """Frames `first` to `end` - 1 of a video, and the pairs that begin at them."""

    video_id: str
    first: int
    end: int


class TarWriter:
    """Divides the videos of a corpus into samples and writes these to tar files.

    Args:
        corpus: the corpus.
        names: id -> relative path without dots.
        classes: label -> number from 0.
        sample_pairs: the maximum number of frames of a sample.
    """

    def __init__(
        self,
        corpus: Corpus,
        names: Mapping[str, str],
        classes: Mapping[str, int],
        sample_pairs: int = SAMPLE_PAIRS,
    ) -> None:
        self.corpus = corpus
        self.names = names
        self.classes = classes
        self.sample_pairs = sample_pairs

    def plan(self, ids: Sequence[str], max_bytes: int) -> list[list[Sample]]:
        """The samples of each tar, filled in the order of ids.

        Args:
            ids: the videos.
            max_bytes: the largest size of a tar.

        Raises:
            UsageError: one sample alone is larger.
        """
        tars: list[list[Sample]] = []
        filled = max_bytes
        for video_id in ids:
            num_frames = self.corpus[video_id].num_frames
            for first in range(0, num_frames, self.sample_pairs):
                sample = Sample(video_id, first, min(first + self.sample_pairs, num_frames))
                size = sum(_size_in_tar(member) for member, _ in self.members(sample))
                if size + tarfile.RECORDSIZE > max_bytes:
                    raise UsageError(
                        f"{video_id} has a sample of {size / 1e6:.1f} MB; --shard-mb is {max_bytes / 1e6:g}:"
                        " give a larger one"
                    )
                if filled + size > max_bytes:
                    tars.append([])
                    filled = tarfile.RECORDSIZE
                tars[-1].append(sample)
                filled += size
        return tars

    def write(self, out: ExportFolder, tars: Sequence[Sequence[Sample]], progress: Progress) -> WriteResult:
        """Write the tars that do not exist yet. A tar with a damaged video is left out."""
        written: set[str] = set()
        images: Counter[str] = Counter()
        failed: dict[str, str] = {}
        videos_done: set[str] = set()
        num_videos = len({sample.video_id for samples in tars for sample in samples})
        for number, samples in enumerate(tars):
            name = f"{number:06d}.tar"
            ids = dict.fromkeys(sample.video_id for sample in samples)
            if not out.is_done(name, max(stored_at(self.corpus, self.corpus[i]) for i in ids)):
                try:
                    images += self._write_tar(out, name, samples)
                    written |= ids.keys()
                except CorpusDamaged as exc:
                    failed |= dict.fromkeys(ids, f"{name} is left out: {exc}")
            videos_done |= ids.keys()
            progress(len(videos_done), num_videos)
        return WriteResult(len(written), images["img"], images["flow"], failed)

    def _write_tar(self, out: ExportFolder, name: str, samples: Sequence[Sample]) -> Counter[str]:
        """Write a tar. Returns the number of members by kind: img, flow, json, cls."""
        kinds: Counter[str] = Counter()
        with (
            atomic_path(out.path / name) as temporary,
            tarfile.open(temporary, "w", format=TAR_FORMAT) as file,
        ):
            for sample in samples:
                for member, read in self.members(sample):
                    file.addfile(member, io.BytesIO(read()))
                    kinds[member.name.partition(".")[2].partition("_")[0]] += 1
        return kinds

    def members(self, sample: Sample) -> Iterator[Member]:
        """The members of a sample, each with a function that reads its bytes.

        These are `json`, `cls`, `img_00000.jpg`, `flow_x_00000.jpg`, `flow_y_00000.jpg`, ..., numbered as in
        the video. The json holds `scale` and `zero`, [of u, of v] per pair: pixels = (code - zero) * scale.
        """
        video = self.corpus[sample.video_id]
        key = self.names[video.id]
        if video.num_frames > self.sample_pairs:
            key += f"-{sample.first:06d}"
        pairs = range(sample.first, min(sample.end, video.num_pairs))
        texts = {"json": json.dumps(_description(video, sample, pairs))}
        if video.label:
            texts["cls"] = str(self.classes[video.label])
        for suffix, text in texts.items():
            yield _member(f"{key}.{suffix}", len(text.encode())), text.encode
        frames = range(sample.first, sample.end)
        streams = {"img": ("rgb", frames), "flow_x": ("flow_u", pairs), "flow_y": ("flow_v", pairs)}
        for prefix, (stream, numbers) in streams.items():
            if stream in video.streams:
                sizes = video.sizes(stream)
                suffix = "jpg" if stream == "rgb" or video.codec == "jpeg" else video.codec
                for n in numbers:
                    member = _member(f"{key}.{prefix}_{n:05d}.{suffix}", int(sizes[n]))
                    yield member, partial(video.stored, stream, n)


def _description(video: Video, sample: Sample, pairs: range) -> dict[str, object]:
    """The json of a sample."""
    description = {
        **video.info(),
        "first_frame": sample.first,
        "frames": sample.end - sample.first,
        "pairs": len(pairs),
    }
    if "flow_u" in video.streams:
        columns = {"scale": video.scale, "zero": video.zero_point, "mean_flow": video.mean_flow}
        description |= {name: column[sample.first : pairs.stop].tolist() for name, column in columns.items()}
    return description


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _size_in_tar(member: tarfile.TarInfo) -> int:
    """Bytes of a member and its header, with padding."""
    header = len(member.tobuf(TAR_FORMAT))
    return header + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
