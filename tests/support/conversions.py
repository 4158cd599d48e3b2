"""Videos and checks for tests of export, import and copies."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from flowprep import Settings
from flowprep.presets import PRESETS
from tests.support.videos import write_video

SETTINGS = Settings(
    size="source", engine="opencv", tvl1=PRESETS["opencv"], codes="tsn", range=8.0, shard_pairs=10
)


def write_two_classes(root: Path) -> Path:
    """Two classes with a name in common, one video of several segments, and one that fails."""
    for label, speed in (("left", -1), ("to right", 1)):
        for n in (1, 2):
            write_video(root / label / f"v_{n} é.mp4", 6 + n, speed=speed, seed=n)
    write_video(root / "left" / "long.mp4", 26, speed=0.5, seed=3)
    (root / "left" / "bad.mp4").write_text("no video")
    return root


def assert_same_videos(ours, theirs) -> None:
    """Check that the second corpus holds all videos of the first, with the same data and stored bytes."""
    for video_id, a in ours.items():
        b = theirs[video_id]
        facts = [{k: v for k, v in x.info().items() if k != "shards"} for x in (a, b)]
        assert facts[0] == facts[1] and a.origin == b.origin and a.software == b.software
        assert np.array_equal(a.times_seconds, b.times_seconds, equal_nan=True)
        for backward in (False, True) if "flow_back_u" in a.streams else (False,):
            every = 0, a.num_pairs, backward
            assert list(a.fields(*every)) == list(b.fields(*every))
            if ours.settings.stabilise:
                assert np.array_equal(a.camera(*every), b.camera(*every), equal_nan=True)
        assert np.array_equal(a.flow(0, a.num_pairs), b.flow(0, b.num_pairs))
        for i in range(a.num_frames):
            assert a.stored("rgb", i) == b.stored("rgb", i)


def read_raw_frames(root: Path, list_file: str, template: str, first: int) -> dict[str, tuple[list, int]]:
    """Read images as TSN and mmaction2 do: lists of `folder count class`, then images by their numbers."""
    videos = {}
    for line in (root / list_file).read_text("utf-8").splitlines():
        folder, count, label = line.split(" ")
        names = [template.format(n) for n in range(first, first + int(count))]
        images = [np.asarray(Image.open(root / folder / name)) for name in names]
        assert not (root / folder / template.format(first + int(count))).exists()
        videos[folder] = images, int(label)
    return videos


def samples_of(tars: list[Path]) -> dict[str, dict[str, bytes]]:
    """Samples as webdataset groups them: consecutive members with the same name up to its first dot."""
    samples: dict[str, dict[str, bytes]] = {}
    last = ""
    for tar in tars:
        with tarfile.open(tar) as file:
            for member in file:
                folder, slash, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                key = folder + slash + key
                assert key == last or key not in samples, "the members of a sample stand together"
                last = key
                samples.setdefault(key, {})[suffix] = file.extractfile(member).read()
    return samples


def files_in(root: Path) -> dict[Path, bytes | bool]:
    """The bytes of each file below a folder, False for a folder, by relative path."""
    return {p.relative_to(root): p.is_file() and p.read_bytes() for p in root.rglob("*")}
