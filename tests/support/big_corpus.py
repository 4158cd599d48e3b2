"""A corpus of many shards and videos, and the cost of opening it.

python -m tests.support.big_corpus make FOLDER [SHARDS VIDEOS]   create it: real shards, tiny pictures
python -m tests.support.big_corpus open FOLDER                   time and peak memory of opening it
python -m tests.support.big_corpus plan FOLDER [VIDEOS]          of planning a list, and of `status`
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from flowprep.codec import quantise
from flowprep.corpus import format as fmt
from flowprep.corpus.reader import open_corpus
from flowprep.corpus.records import SegmentRecord, ShardRecord, TaskRecord
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.planning.discover import discover_videos
from flowprep.planning.status import corpus_status
from flowprep.planning.tasks import make_plan
from flowprep.settings import Settings


def make_big(root: Path, shards: int, videos: int) -> None:
    """A corpus of `videos` videos of one pair each, in so many shards, named so that they interleave."""
    settings = Settings(size="16x16", rgb=False)
    rng = np.random.default_rng(0)
    u, v = (quantise.encode_field(f, settings) for f in rng.normal(size=(2, 16, 16)).astype(np.float32))
    store = CorpusStore(root)
    store.make_folders()
    for k in range(shards):
        path = store.shard_path(f"{k:016x}")
        ids = [f"class {n % 400:03d}/v_some_longer_name_g{n:07d}_c01.avi" for n in range(k, videos, shards)]
        with ShardWriter(path, settings, {"flowprep": "test"}) as writer:
            for video_id in ids:
                label = video_id.partition("/")[0]
                row = {"source_bytes": 1, "step": 1, "segment": 0, "segments": 1, "first_frame": 0}
                writer.begin(id=video_id, source=video_id, label=label, width=16, height=16, **row)
                for time_seconds in (0.0, 0.04):
                    writer.add_stored_frame(None, time_seconds)
                writer.add_pair(u, v)
                writer.end()
            size = writer.publish()
        entries = tuple(SegmentRecord(i, "ok", frames=2, pairs=1) for i in ids)
        shard = ShardRecord(path.name, size, "")
        store.write_record(TaskRecord(path.stem, shard, entries, {"pairs": len(ids)}))


def plan_list(root: Path, videos: int) -> dict[str, float]:
    """Seconds and peak MB of planning a list that says how many frames and bytes each video has."""
    root.mkdir(parents=True)
    store = CorpusStore(root / "c")
    with (root / "list.csv").open("w") as file:
        file.write("path,label,frames,bytes\n")
        for n in range(videos):
            name = f"class {n % 400:03d}/v_some_longer_name_g{n:07d}_c01.avi"
            file.write(f"{name},class {n % 400:03d},{250 + n % 50},500000\n")
    figures: dict[str, float] = {"videos": videos}
    steps = {
        "planned": lambda: make_plan(store, discover_videos([root / "list.csv"]).videos, Settings()),
        "status": lambda: corpus_status(store.read_plan(), store.load_index()),
    }
    for name, step in steps.items():
        began = time.perf_counter(), time.process_time()
        step()
        figures[f"{name}_seconds"] = round(time.perf_counter() - began[0], 1)
        figures[f"{name}_cpu_seconds"] = round(time.process_time() - began[1], 1)
        figures[f"{name}_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return figures


def measure(root: Path) -> dict[str, float]:
    """Seconds and peak MB of this process: imported, opened, one video read, all labels read."""
    figures = {}

    def note(what: str, began: float) -> None:
        figures[f"{what}_seconds"] = round(time.perf_counter() - began, 3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        figures[f"{what}_peak_mb"] = round(peak)

    note("imported", time.perf_counter())
    began = time.perf_counter()
    corpus = open_corpus(root)
    count = len(corpus)
    note("opened", began)
    began = time.perf_counter()
    for n in (0, count // 2, count - 1):
        corpus[f"class {n % 400:03d}/v_some_longer_name_g{n:07d}_c01.avi"].flow(0, 1)
    note("read", began)
    began = time.perf_counter()
    assert len(corpus.labels) == count
    note("labels", began)
    return {"videos": count, **figures}


if __name__ == "__main__":
    command, folder, *counts = sys.argv[1:]
    if command == "make":
        make_big(Path(folder), *map(int, counts or ("10000", "1000000")))
        began = time.perf_counter()
        CorpusStore(Path(folder)).save_index()
        size = (Path(folder) / fmt.INDEX).stat().st_size
        print(json.dumps({"index_seconds": round(time.perf_counter() - began, 1), "index_mb": size >> 20}))
    elif command == "plan":
        print(json.dumps(plan_list(Path(folder), int(counts[0]) if counts else 1_000_000), indent=1))
    else:
        print(json.dumps(measure(Path(folder)), indent=1))
