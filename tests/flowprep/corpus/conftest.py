"""A small corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.corpora import make_shards


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two short videos in one shard, and a long one in two segments, each in its own shard."""
    return make_shards(
        tmp_path / "corpus",
        {
            "aaaa": [("b/two.mp4", 4, 1), ("a/öne.mp4", 6, 2)],
            "bbbb": [("c/long.mp4", 5, 3, 0, 2)],
            "cccc": [("c/long.mp4", 3, 4, 1, 2, 5)],
        },
        {"d/bad.mp4": "cut short"},
    )
