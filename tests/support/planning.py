"""Short forms for planning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowprep.corpus.plan import Plan
from flowprep.corpus.store import CorpusStore
from flowprep.planning.discover import discover_videos
from flowprep.planning.tasks import make_plan
from flowprep.settings import Settings

DEFAULTS = Settings()


def touch(path: Path) -> Path:
    """Write a file that is a video for planning. Only extraction decodes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def sources(*inputs: Path | str, **options: Any) -> list[tuple[str, str]]:
    """Source and label of every video of the inputs; `options` are those of `discover_videos`."""
    return [(video.source, video.label) for video in discover_videos(inputs, **options).videos]


def plan_inputs(corpus: Path, *inputs: Path, settings: Settings = DEFAULTS, **options: Any) -> Plan:
    """Plan the videos of the inputs into a corpus; `options` are those of `make_plan`."""
    return make_plan(CorpusStore(corpus), discover_videos(inputs).videos, settings, **options)


def video_ids(corpus: Path, *inputs: Path) -> set[str]:
    """Plan the inputs, and return the ids of all planned videos."""
    return plan_inputs(corpus, *inputs).video_ids()
