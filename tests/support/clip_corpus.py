"""A corpus of a few short videos for the tests of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import flowprep
from tests.support.corpora import make_shards

# Video -> number of frames, by shard. c/2 is in two shards. The videos have frames of 24 x 40 pixels.
SHARDS = {
    "a" * 16: [("Jump/a1", 12, 1), ("Jump/a2", 9, 2)],
    "b" * 16: [("Run/b1", 15, 3), ("Run/b2", 5, 4), ("Run/b3", 11, 5)],
    "c" * 16: [("Sit/c1", 13, 6), ("Sit/c2", 6, 7, 0, 2, 0)],
    "d" * 16: [("Sit/c2", 8, 8, 1, 2, 6)],
}
IDS = ["Jump/a1", "Jump/a2", "Run/b1", "Run/b2", "Run/b3", "Sit/c1", "Sit/c2"]
PAIRS = [11, 8, 14, 4, 10, 12, 13]
LABELS = [0, 0, 1, 1, 1, 2, 2]


def make_corpus(root: Path) -> flowprep.Corpus:
    """Make the corpus of SHARDS in a folder."""
    shards = {}
    for task, segments in SHARDS.items():
        rows = [(*segment, *(0, 1, 0)[len(segment) - 3 :], True) for segment in segments]
        shards[task] = rows
    return flowprep.open_corpus(make_shards(root, shards, {"Run/broken": "no video"}))


def same(a: dict, b: dict) -> bool:
    """Whether two clips have the same entries."""
    return a.keys() == b.keys() and all(np.array_equal(np.asarray(a[k]), np.asarray(b[k])) for k in a)
