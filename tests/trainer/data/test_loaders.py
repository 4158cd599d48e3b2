"""Loaders: the same batches from any number and kind of workers, in memory that is used again."""

import gc
import itertools
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from flowprep.errors import CorpusDamaged
from tests.support.fakes import FakeCorpus, FakeVideo, examples_of, small
from trainer.data import loaders, threads
from trainer.data.dataset import EvalClips, TrainingClips
from trainer.data.loaders import BatchLoader, load_items, pick_loader

KEYS = [[(step, i) for i in range(4)] for step in range(9)]
WORKERS = [(0, "auto"), (1, "threads"), (3, "threads"), (1, "processes"), (2, "processes")]


def training(stream="temporal", **changes):
    corpus = FakeCorpus(clips=1)
    return TrainingClips([[(corpus, examples_of(corpus))]], small(stream, input=changes))


def copies(batches):
    """The batches with planes of their own."""
    return [[part.clone() for part in (*clip, y, head)] for clip, y, head in batches]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("flowprep-")]


@pytest.mark.parametrize("changes", [{}, {"trajectories": True}], ids=["codes", "pixels"])
@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_batches_are_the_same_for_all_workers(workers, kind, changes):
    clips = training(**changes)
    want = copies(clips.batch(keys) for keys in KEYS)
    with closing(BatchLoader(clips, 4, workers, kind)) as loader:
        assert loader.kind == (kind if workers else "")
        got = copies(loader.batches(KEYS))
        again = copies(loader.batches(KEYS[4:]))
    for batches, expected in ((got, want), (again, want[4:])):
        for batch, plain in zip(batches, expected, strict=True):
            assert all(map(torch.equal, batch, plain))
    assert not loader_threads()


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_a_batch_stays_unchanged_until_the_next_is_asked_for(workers, kind):
    clips = training("spatial")
    with closing(BatchLoader(clips, 4, workers, kind)) as loader:
        for keys, (clip, _, _) in zip(KEYS, loader.batches(KEYS), strict=True):
            before = clip.planes.clone()
            time.sleep(0.02)  # the workers fill all other memory
            assert torch.equal(clip.planes, before) and torch.equal(before, clips.batch(keys)[0].planes)


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_memory_is_used_again(workers, kind):
    with closing(BatchLoader(training(), 4, workers, kind)) as loader:
        addresses = {clip.planes.data_ptr() for clip, _, _ in loader.batches(KEYS * 3)}
    slots = 2 * workers + 2 if kind == "processes" else workers + 2
    assert len(addresses) <= slots < len(KEYS) * 3


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_planes_keep_the_order_in_memory_that_networks_read_fastest(stream):
    clip, _, _ = training(stream).batch(KEYS[0])
    channels_last = clip.planes.is_contiguous(memory_format=torch.channels_last)
    assert (channels_last, clip.planes.is_contiguous()) == (stream == "spatial", stream == "temporal")


class Damaged(FakeVideo):
    def codes(self, *args, **options):
        raise CorpusDamaged(f"{self.id}: image 3 does not match its checksum")


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_an_error_names_its_video_in_its_place(workers, kind):
    corpus = FakeCorpus(clips=1)
    clips = TrainingClips([[(corpus, examples_of(corpus))]], small("temporal"))
    keys = [[key] for key in itertools.product([0], range(20))]
    first = clips._draw(*keys[6][0]).video
    number = next(n for n, [key] in enumerate(keys) if clips._draw(*key).video is first)
    first.__class__ = Damaged
    received = 0
    loader = BatchLoader(clips, 1, workers, kind)
    with closing(loader), pytest.raises(CorpusDamaged, match=re.escape(first.id)):
        for _ in loader.batches(keys):
            received += 1
    assert received == number and not loader_threads()


def test_a_loader_that_is_closed_or_left_has_no_threads():
    loader = BatchLoader(training(), 4, 2, "threads")
    batches = loader.batches(itertools.cycle(KEYS))
    next(batches)
    assert len(loader_threads()) == 2
    batches.close()
    assert not loader_threads()
    batches = loader.batches(itertools.cycle(KEYS))
    next(batches)
    del batches
    gc.collect()
    assert not loader_threads()
    with pytest.raises(KeyboardInterrupt):
        for _ in loader.batches(itertools.cycle(KEYS)):
            raise KeyboardInterrupt
    assert not loader_threads()


@pytest.mark.parametrize(
    "code",
    [
        "from trainer.data.processes import make_loader; it = iter(make_loader(range(99), 2)); next(it)",
        "from flowprep.system.threads import in_threads; it = in_threads(max, range(99), 2, 4); next(it)",
    ],
)
@pytest.mark.slow
def test_loaders_end_with_a_script_that_leaves_them_running(code):
    code += "; print('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.mark.parametrize(("speedup", "kind"), [(1.9, "threads"), (1.1, "processes")])
def test_a_measurement_decides_and_is_told(speedup, kind, monkeypatch, caplog):
    monkeypatch.setattr(loaders, "thread_speedup", lambda *_: speedup)
    monkeypatch.setattr(loaders, "usable_cores", lambda: 2)
    with caplog.at_level("INFO"):
        assert pick_loader("auto", 2, lambda i: None) == kind
    assert caplog.messages == [f"loading in 2 {kind}: 2 threads load {speedup} times as fast as one"]


@pytest.mark.parametrize(("kind", "told"), [("threads", "1 thread"), ("processes", "1 process")])
def test_one_worker_is_told_in_the_singular(kind, told, caplog):
    with caplog.at_level("INFO"):
        assert pick_loader(kind, 1, lambda i: None) == kind
    assert caplog.messages == [f"loading in {told}"]


def test_threads_that_hold_the_lock_of_python_are_no_faster():
    def python(_):
        sum(range(20_000))

    def asleep(_):
        time.sleep(0.002)

    assert threads.thread_speedup(asleep, 4) > 2 > threads.thread_speedup(python, 4)


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_clips_to_evaluate_may_differ_in_size(workers, kind):
    corpus = FakeCorpus(clips=1)
    next(iter(corpus.videos.values())).width = 34
    clips = EvalClips(corpus, tuple(corpus), small("temporal"), 3)
    want = [clips[i] for i in range(len(clips))]
    got = list(load_items(clips, workers, kind, 10**6))
    assert len({clip.planes.shape for _, clip in got}) == 2
    for (number, clip), (expected, plain) in zip(got, want, strict=True):
        assert number == expected and all(map(torch.equal, clip, plain))


def megabytes(others):
    """Memory of this process and of its loaders, without mapped files."""
    ids = [os.getpid(), *(process.pid for process in set(multiprocessing.active_children()) - others)]
    texts = [Path(f"/proc/{process}/status").read_text() for process in ids]
    return sum(int(n) for text in texts for n in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", text)) / 1024


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kind"), [(0, "auto"), (2, "threads"), (1, "processes")])
def test_memory_stays_flat_over_1000_batches(workers, kind):
    others = set(multiprocessing.active_children())  # of earlier tests
    keys = ([(step, 0), (step, 1)] for step in range(1000))
    sizes, tensors = {}, {}
    with closing(BatchLoader(training(), 2, workers, kind)) as loader:
        for number, _ in enumerate(loader.batches(keys)):
            if number in (300, 600, 900):  # it still runs
                gc.collect()
                sizes[number] = megabytes(others)
                tensors[number] = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
    # Threads may be at different places of their work. What leaks grows in both halves.
    assert min(sizes[600] - sizes[300], sizes[900] - sizes[600]) < 1.5
    assert tensors[900] < tensors[300] + 20
