#!/usr/bin/env python3
"""Measure how many scene cuts are found: real clips of a corpus are joined, and the joins are searched.

    python pipelines/bench/cuts.py CORPUS [--joins N] [--frames N]

A join has frames of two videos, up to a random place of the first, and from a random place of the second on.
It is found if a cut is found at its place. Every other cut is a false one, or one that a video has itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from flowprep import Video, open_corpus
from flowprep.reports.thumbnails import frame_changes


class Joined:
    """Frames of two videos of one size after each other, with the attributes that `frame_changes` reads."""

    def __init__(self, parts: list[tuple[Video, int, int]]) -> None:
        self.frames = [(video, i) for video, first, last in parts for i in range(first, last)]
        self.width, self.height = parts[0][0].width, parts[0][0].height
        self.num_frames = len(self.frames)

    def stored(self, stream: str, index: int) -> bytes:
        """The JPEG of a frame."""
        video, frame = self.frames[index]
        return video.stored(stream, frame)


def main() -> None:
    """Join, search, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--joins", type=int, default=600)
    parser.add_argument("--frames", type=int, default=20, help="frames on each side, at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    videos = [video for video in open_corpus(args.corpus).values() if video.num_frames >= 10]
    rng = np.random.default_rng(args.seed)
    found = others = 0
    missed = []
    for _ in range(args.joins):
        first = videos[rng.integers(len(videos))]
        fitting = [v for v in videos if (v.width, v.height) == (first.width, first.height) and v is not first]
        second = fitting[rng.integers(len(fitting))]
        end = int(rng.integers(5, first.num_frames))
        begin = int(rng.integers(0, second.num_frames - 5))
        parts = [
            (first, max(0, end - args.frames), end),
            (second, begin, min(second.num_frames, begin + args.frames)),
        ]
        cuts = np.flatnonzero(frame_changes(Joined(parts)).cuts).tolist()  # type: ignore[arg-type]
        place = end - parts[0][1] - 1
        found += place in cuts
        others += len(cuts) - (place in cuts)
        if place not in cuts:
            missed.append(f"{first.id} {end} | {second.id} {begin}")
    print(f"{args.joins} joins, {found} found: recall {found / args.joins:.3f}; {others} other cuts")
    print("\n".join(missed))


if __name__ == "__main__":
    main()
