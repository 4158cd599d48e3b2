"""Reading a corpus."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.codec import quantise
from flowprep.corpus import reader
from flowprep.corpus.reader import Corpus
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.corpus.video import QuantParams
from flowprep.errors import CorpusFormatError, NotACorpus, OutOfRange, VideoMissing
from tests.support.corpora import SETTINGS, SHAPE, make_shards, random_flow


def test_corpus_is_a_mapping_of_ids(corpus):
    opened = open_corpus(corpus)
    assert list(opened) == ["a/öne.mp4", "b/two.mp4", "c/long.mp4"]
    assert len(opened) == 3 and "a/öne.mp4" in opened and "d/bad.mp4" not in opened
    assert opened.labels == {"a/öne.mp4": "a", "b/two.mp4": "b", "c/long.mp4": "c"}
    assert opened.failures == {"d/bad.mp4": "cut short"}
    assert opened.settings == SETTINGS
    with pytest.raises(VideoMissing, match=r"'d/bad\.mp4' could not be extracted: cut short"):
        opened["d/bad.mp4"]
    with pytest.raises(KeyError, match=r"no video 'e\.mp4'"):
        opened["e.mp4"]


def test_data_are_read_as_they_were_written(corpus):
    video = open_corpus(corpus)["a/öne.mp4"]
    assert (video.num_frames, video.num_pairs, video.step) == (6, 5, 1)
    assert (video.width, video.height, video.label, video.frame_rate) == (40, 24, "a", 25)
    assert video.times_seconds == pytest.approx([2 + i / 25 for i in range(6)])
    for backward, seed in ((False, 2), (True, 1002)):
        truth = random_flow(seed, 6)[:5]
        expected = quantise.decode(quantise.encode(truth))
        assert np.array_equal(video.flow(0, 5, backward=backward), expected)
        assert np.array_equal(video.flow(3, 2, backward=backward), expected[3:])
        mean = video.mean_flow_backward if backward else video.mean_flow
        assert np.allclose(mean, truth.mean(axis=(2, 3)), atol=1e-7)
    codes = video.codes(1, 3)
    assert codes.dtype == np.uint8 and codes.shape == (3, 2, *SHAPE)
    rng = np.random.default_rng(2)
    for i in range(6):
        assert np.abs(video.rgb(i).astype(int) - rng.integers(255)).max() <= 2


def test_window_is_a_part_of_the_whole_flow(corpus):
    video = open_corpus(corpus)["c/long.mp4"]
    for top, left, height, width in ((0, 0, *SHAPE), (3, 1, 20, 33), (23, 39, 1, 1)):
        whole = video.flow(3, 4)[:, :, top : top + height, left : left + width]
        assert np.array_equal(video.flow(3, 4, window=(top, left, height, width)), whole)
        codes = video.codes(3, 4, window=(top, left, height, width))
        scale, zero, _ = (part[..., None, None] for part in video.quant_params(3, 4))
        assert np.array_equal((codes - zero) * scale, whole)
    for window in ((-1, 0, 4, 4), (0, 0, 25, 4), (0, 37, 4, 4), (4, 4, -2, 4)):
        with pytest.raises(OutOfRange, match="24 pixels high and 40 wide"):
            video.flow(0, 1, window=window)
    with pytest.raises(OutOfRange, match=r"window is \(0, 0\); allowed: \(top, left, height, width\)"):
        video.flow(0, 1, window=(0, 0))


def test_segments_form_one_video(corpus):
    video = open_corpus(corpus)["c/long.mp4"]
    assert (video.num_frames, video.num_pairs) == (8, 7)
    truth = np.concatenate([random_flow(3, 5), random_flow(4, 3)[:2]])
    expected = quantise.decode(quantise.encode(truth))
    assert np.array_equal(video.flow(0, 7), expected)
    assert np.array_equal(video.flow(4, 2), expected[4:6])  # across the border
    assert np.array_equal(video.flow(5, 1), expected[5:6])
    assert video.mean_flow.shape == (7, 2)
    assert np.array_equal(video.quant_params(4, 2).mean, video.mean_flow[4:6])
    assert video.times_seconds[5:] == pytest.approx([4, 4.04, 4.08])
    assert video.rgb(7).shape == (*SHAPE, 3)


def test_video_with_a_missing_segment_is_hidden(corpus):
    CorpusStore(corpus).record_path("cccc").unlink()
    assert list(open_corpus(corpus)) == ["a/öne.mp4", "b/two.mp4"]


def test_video_with_a_failed_segment_is_hidden(tmp_path):
    root = make_shards(tmp_path / "c", {"aaaa": [("x", 3, 1, 0, 2)], "bbbb": [("y", 3, 1)]}, {"x": "damaged"})
    assert list(open_corpus(root)) == ["y"]


@pytest.mark.parametrize("request_", [(-1, 1), (0, 6), (5, 1), (2, -1)])
def test_pairs_out_of_range_are_refused(corpus, request_):
    with pytest.raises(OutOfRange, match="it has 5 pairs"):
        open_corpus(corpus)["a/öne.mp4"].flow(*request_)


def test_frames_out_of_range_are_refused(corpus):
    video = open_corpus(corpus)["a/öne.mp4"]
    for index in (-1, 6):
        with pytest.raises(IndexError, match="frames 0 to 5"):
            video.rgb(index)


def test_video_ends_at_a_gap_between_segments(tmp_path):
    """The estimated length was too high, or only the frames before a damage were kept."""
    root = make_shards(
        tmp_path / "c", {"aaaa": [("x", 5, 1, 0, 3), ("x", 3, 2, 1, 3, 5), ("x", 4, 3, 2, 3, 10)]}
    )
    video = open_corpus(root)["x"]
    assert (video.num_frames, video.num_pairs) == (8, 8)
    (problem,) = verify_corpus(CorpusStore(root)).problems  # the video is not marked as partial
    assert str(problem) == "x: frames before segment 2 are missing"


def test_corpora_are_equal_if_their_folders_are(corpus, tmp_path):
    opened = open_corpus(corpus)
    assert opened == open_corpus(corpus) and len({opened, open_corpus(corpus)}) == 1
    assert opened["b/two.mp4"] == opened["b/two.mp4"] != opened["a/öne.mp4"]
    shutil.copytree(corpus, tmp_path / "copy")
    assert opened != open_corpus(tmp_path / "copy")


def test_corpus_stays_open_when_the_working_folder_changes(corpus, monkeypatch):
    monkeypatch.chdir(corpus.parent)
    opened = open_corpus(corpus.name)
    monkeypatch.chdir("/")
    assert opened["b/two.mp4"].rgb(0).shape == (*SHAPE, 3)


@pytest.mark.slow
def test_more_shards_are_read_than_files_can_be_open(tmp_path):
    root = make_shards(tmp_path / "c", {f"{k:04x}": [(f"v{k}", 2, k)] for k in range(80)})
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "import flowprep; c = flowprep.open_corpus(sys.argv[1]);"
        "print(sum(v.flow(0, 1).shape[0] for _ in range(2) for v in c.values()))"
    )
    run = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True)
    assert run.stdout == "160\n"


def sum_of_flow(corpus) -> float:
    return float(corpus["a/öne.mp4"].flow(0, 5).sum())


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_corpus_can_be_sent_to_other_processes(corpus, start):
    opened = open_corpus(corpus)
    here = sum_of_flow(opened)
    assert sum_of_flow(pickle.loads(pickle.dumps(opened))) == here
    with ProcessPoolExecutor(1, get_context(start)) as pool:
        assert pool.submit(sum_of_flow, opened).result() == here


def test_only_the_last_shards_stay_open(corpus):
    opened = Corpus(corpus, max_open_shards=1)
    first = opened.shard("aaaa")
    assert opened.shard("aaaa") is first
    assert [video.flow(0, 1).shape[0] for video in opened.values()] == [1, 1, 1]
    assert opened.shard("aaaa") is not first


@pytest.mark.parametrize("max_open_shards", [1, 2, 100])
def test_threads_read_one_corpus(corpus, max_open_shards):
    whole = {name: video.codes(0, video.num_pairs) for name, video in open_corpus(corpus).items()}
    opened = Corpus(corpus, max_open_shards)

    def read(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            name = rng.choice(list(whole))
            pairs = rng.integers(len(whole[name]), size=3)
            if not np.array_equal(opened[name].codes(pairs), whole[name][pairs]):
                return False
        return True

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the threads take turns often
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(4)))
    finally:
        sys.setswitchinterval(interval)


def test_other_folders_are_refused(tmp_path, corpus):
    with pytest.raises(NotACorpus, match="is not a corpus: it has neither records nor a plan"):
        open_corpus(tmp_path)
    with pytest.raises(NotACorpus, match="is not a corpus: there is no such folder"):
        open_corpus(tmp_path / "none")
    with h5py.File(corpus / "shards" / "aaaa.h5", "w"):
        pass
    with pytest.raises(CorpusFormatError, match="not a shard"):
        open_corpus(corpus)


def test_old_names_work_with_a_warning(corpus):
    opened = open_corpus(corpus)
    video = opened["a/öne.mp4"]
    with pytest.deprecated_call(match="use info"):
        assert opened.facts() == opened.info()
    with pytest.deprecated_call(match="use info"):
        assert video.facts() == video.info()
    with pytest.deprecated_call(match="use quant_params"):
        params = video.coding(0, 2)
    with pytest.deprecated_call(match="use zero_point"):
        assert np.array_equal(params.zero, params.zero_point)
    with pytest.deprecated_call(match="use zero_point"):
        assert np.array_equal(video.zero, video.zero_point)
    with pytest.deprecated_call(match=r"use flowprep\.corpus\.video\.QuantParams"):
        assert reader.Coding is QuantParams


def test_a_video_that_two_shards_hold_is_not_read_and_both_are_named(tmp_path, caplog):
    root = make_shards(
        tmp_path / "c",
        {
            "aaaa": [("x/1.mp4", 3, 1), ("x/2.mp4", 3, 2)],
            "bbbb": [("x/1.mp4", 3, 3)],
            # Two of one segment, and none of the other: as many rows as a whole video has.
            "cccc": [("x/3.mp4", 3, 4, 0, 2)],
            "dddd": [("x/3.mp4", 3, 4, 0, 2)],
        },
    )
    for saved in (False, True):
        caplog.clear()
        corpus = open_corpus(root)
        assert list(corpus) == ["x/2.mp4"]
        assert "2 videos stored twice" in caplog.text
        assert "x/1.mp4, which is in aaaa.h5 and bbbb.h5" in caplog.text
        with pytest.raises(VideoMissing, match=r"'x/1.mp4' .*: stored twice, in aaaa.h5 and bbbb.h5"):
            corpus["x/1.mp4"]
        problems = verify_corpus(CorpusStore(root)).problems
        assert [(p.shard, p.video) for p in problems] == [("", "x/1.mp4"), ("", "x/3.mp4")]
        assert "in cccc.h5 and dddd.h5" in problems[1].what
        if not saved:
            CorpusStore(root).save_index()
    for suffix in ("shards/bbbb.h5", "records/bbbb.json"):
        (root / suffix).unlink()
    assert list(open_corpus(root)) == ["x/1.mp4", "x/2.mp4"]
