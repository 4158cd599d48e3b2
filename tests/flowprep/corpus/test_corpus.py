"""The shard and the corpus: what is written is what is read, and what is damaged is noticed."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.codec import images, quantise
from flowprep.corpus import format as fmt
from flowprep.corpus import reader
from flowprep.corpus.index import ARRAYS
from flowprep.corpus.records import SegmentRecord, ShardRecord, TaskRecord
from flowprep.corpus.shard_reader import Shard
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.corpus.video import QuantParams
from flowprep.errors import CorpusDamaged, CorpusError, CorpusFormatError, OutOfRange, VideoMissing
from flowprep.settings import Settings
from flowprep.system.atomic import file_digest
from tests.support.big_corpus import make_big

SETTINGS = Settings(backward=True)
SHAPE = (24, 40)


def flow_of(seed: int, pairs: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(pairs, 2, *SHAPE)).astype(np.float32)


def add(
    writer: ShardWriter,
    video: str,
    frames: int,
    seed: int,
    segment: int = 0,
    segments: int = 1,
    first: int = 0,
) -> dict:
    """Add a segment whose content follows from its seed."""
    rng = np.random.default_rng(seed)
    writer.begin(
        id=video,
        source=video,
        label=video.split("/")[0],
        source_bytes=1,
        source_width=80,
        source_height=48,
        frame_rate=25.0,
        step=1,
        segment=segment,
        segments=segments,
        first_frame=first,
    )
    forward, backward = flow_of(seed, frames), flow_of(seed + 1000, frames)
    settings = writer.settings
    pairs = frames if segment < segments - 1 else frames - 1  # the last frame of a video begins no pair
    for i in range(frames):
        if settings.rgb:
            rgb = np.full((*SHAPE, 3), rng.integers(255), np.uint8)
        writer.add_frame(rgb, seed + i / 25)
        if i < pairs:
            for flow, back in ((forward, False), (backward, True)):
                u, v = quantise.encode_pair(flow[i], settings)
                writer.add_pair(u, v, backward=back)
    stored = writer.end()
    return SegmentRecord(video, "ok", segment, segments, frames=stored.frames, pairs=stored.pairs)


def make(root: Path, shards: dict[str, list], failed: dict[str, str] | None = None) -> Path:
    """A corpus of hand-made shards: task -> arguments of `add`."""
    store = CorpusStore(root)
    store.make_folders()
    for task, segments in shards.items():
        path = store.shard_path(task)
        with ShardWriter(path, SETTINGS, {"flowprep": "test"}) as writer:
            videos = [add(writer, *s) for s in segments]
            size = writer.publish()
        shard = ShardRecord(path.name, size, file_digest(path))
        videos += [SegmentRecord(i, "failed", reason=reason) for i, reason in (failed or {}).items()]
        totals = {"pairs": sum(video.pairs for video in videos)}
        store.write_record(TaskRecord(task, shard, tuple(videos), totals))
    return root


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two whole videos in one shard, and a long one in two segments of another two."""
    return make(
        tmp_path / "corpus",
        {
            "aaaa": [("b/two.mp4", 4, 1), ("a/öne.mp4", 6, 2)],
            "bbbb": [("c/long.mp4", 5, 3, 0, 2)],
            "cccc": [("c/long.mp4", 3, 4, 1, 2, 5)],
        },
        {"d/bad.mp4": "cut short"},
    )


def test_it_is_a_mapping_of_ids(corpus):
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


def test_what_is_read_is_what_was_written(corpus):
    video = open_corpus(corpus)["a/öne.mp4"]
    assert (video.num_frames, video.num_pairs, video.step) == (6, 5, 1)
    assert (video.width, video.height, video.label, video.frame_rate) == (40, 24, "a", 25)
    assert video.times_seconds == pytest.approx([2 + i / 25 for i in range(6)])
    for backward, seed in ((False, 2), (True, 1002)):
        truth = flow_of(seed, 6)[:5]
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


def test_a_window_is_that_part_of_the_whole(corpus):
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


def test_segments_make_one_video(corpus):
    video = open_corpus(corpus)["c/long.mp4"]
    assert (video.num_frames, video.num_pairs) == (8, 7)
    truth = np.concatenate([flow_of(3, 5), flow_of(4, 3)[:2]])
    expected = quantise.decode(quantise.encode(truth))
    assert np.array_equal(video.flow(0, 7), expected)
    assert np.array_equal(video.flow(4, 2), expected[4:6])  # across the border
    assert np.array_equal(video.flow(5, 1), expected[5:6])
    assert video.mean_flow.shape == (7, 2)
    assert np.array_equal(video.quant_params(4, 2).mean, video.mean_flow[4:6])
    assert video.times_seconds[5:] == pytest.approx([4, 4.04, 4.08])
    assert video.rgb(7).shape == (*SHAPE, 3)


def test_a_video_with_a_segment_missing_is_hidden(corpus):
    CorpusStore(corpus).record_path("cccc").unlink()
    assert list(open_corpus(corpus)) == ["a/öne.mp4", "b/two.mp4"]


def test_a_video_with_a_failed_segment_is_hidden(tmp_path):
    root = make(tmp_path / "c", {"aaaa": [("x", 3, 1, 0, 2)], "bbbb": [("y", 3, 1)]}, {"x": "damaged"})
    assert list(open_corpus(root)) == ["y"]


@pytest.mark.parametrize("request_", [(-1, 1), (0, 6), (5, 1), (2, -1)])
def test_pairs_that_are_not_there_are_refused(corpus, request_):
    with pytest.raises(OutOfRange, match="it has 5 pairs"):
        open_corpus(corpus)["a/öne.mp4"].flow(*request_)


def test_frames_that_are_not_there_are_refused(corpus):
    video = open_corpus(corpus)["a/öne.mp4"]
    for index in (-1, 6):
        with pytest.raises(IndexError, match="frames 0 to 5"):
            video.rgb(index)


def test_a_video_ends_where_a_segment_does_not_follow(tmp_path):
    """As when its length was estimated too high, or frames were kept before a damage."""
    root = make(tmp_path / "c", {"aaaa": [("x", 5, 1, 0, 3), ("x", 3, 2, 1, 3, 5), ("x", 4, 3, 2, 3, 10)]})
    video = open_corpus(root)["x"]
    assert (video.num_frames, video.num_pairs) == (8, 8)
    (problem,) = verify_corpus(CorpusStore(root)).problems  # for the video is not marked as partial
    assert str(problem) == "x: frames before segment 2 are missing"


def test_equality_is_of_the_place(corpus, tmp_path):
    opened = open_corpus(corpus)
    assert opened == open_corpus(corpus) and len({opened, open_corpus(corpus)}) == 1
    assert opened["b/two.mp4"] == opened["b/two.mp4"] != opened["a/öne.mp4"]
    shutil.copytree(corpus, tmp_path / "copy")
    assert opened != open_corpus(tmp_path / "copy")


def test_a_corpus_stays_open_when_the_folder_changes(corpus, monkeypatch):
    monkeypatch.chdir(corpus.parent)
    opened = open_corpus(corpus.name)
    monkeypatch.chdir("/")
    assert opened["b/two.mp4"].rgb(0).shape == (*SHAPE, 3)


def test_more_shards_are_read_than_files_may_be_open(tmp_path):
    root = make(tmp_path / "c", {f"{k:04x}": [(f"v{k}", 2, k)] for k in range(80)})
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "import flowprep; c = flowprep.open_corpus(sys.argv[1]);"
        "print(sum(v.flow(0, 1).shape[0] for _ in range(2) for v in c.values()))"
    )
    run = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True)
    assert run.stdout == "160\n"


def test_the_same_input_gives_the_same_bytes(tmp_path):
    shards = {"aaaa": [("v/x", 4, 7), ("v/y", 2, 8)]}
    one, two = (make(tmp_path / n, shards) / "shards" / "aaaa.h5" for n in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_the_index_says_what_the_files_say(corpus):
    before = open_corpus(corpus)
    CorpusStore(corpus).save_index()
    shutil.copytree(corpus / "shards", corpus / "away")
    for shard in (corpus / "shards").iterdir():
        shard.write_bytes(b"")  # opening must not open them: many small files
    after = CorpusStore(corpus).load_index()
    assert sorted(after.tasks) == ["aaaa", "bbbb", "cccc"]
    assert after.totals == {"pairs": 15}
    shutil.rmtree(corpus / "shards")
    shutil.move(corpus / "away", corpus / "shards")
    assert dict(open_corpus(corpus).labels) == dict(before.labels)
    assert np.array_equal(open_corpus(corpus)["c/long.mp4"].flow(0, 7), before["c/long.mp4"].flow(0, 7))


def test_many_videos_are_found_with_and_without_the_index(tmp_path):
    make_big(tmp_path / "c", 20, 500)
    ids = sorted(f"class {n % 400:03d}/v_some_longer_name_g{n:07d}_c01.avi" for n in range(500))
    read = open_corpus(tmp_path / "c")
    CorpusStore(tmp_path / "c").save_index()
    index = CorpusStore(tmp_path / "c").load_index()
    # Mapped: what is not looked up takes no memory.
    assert not any(getattr(index, name).flags.owndata for name in ARRAYS)
    for corpus in (read, open_corpus(tmp_path / "c")):
        assert list(corpus) == ids == list(corpus.labels)
        assert all(label == i[:9] for i, label in corpus.labels.items())
        assert all(i in corpus and corpus[i].id == i for i in ids)
        assert not any(i in corpus for i in ("", "a", ids[0][:-1], ids[7] + "x", "z" * 99, 5))
        assert corpus[ids[321]].flow(0, 1).shape == (1, 2, 16, 16)
    (tmp_path / "c" / "records" / f"{7:016x}.json").unlink()
    assert len(open_corpus(tmp_path / "c")) == 475


def test_a_flipped_byte_of_the_index_is_noticed(corpus, caplog):
    CorpusStore(corpus).save_index()
    path = corpus / "index.npz"
    sound = path.read_bytes()
    ids = list(open_corpus(corpus))
    for at in range(50, len(sound), 97):
        spoiled = bytearray(sound)
        spoiled[at] ^= 0x10
        path.write_bytes(spoiled)
        assert list(open_corpus(corpus)) == ids
    assert "reading shards and records instead" in caplog.text


def test_the_index_takes_in_tasks_that_came_later_and_survives_damage(corpus, caplog):
    record = CorpusStore(corpus).record_path("cccc")
    text = record.read_text()
    record.unlink()
    CorpusStore(corpus).save_index()
    assert "c/long.mp4" not in open_corpus(corpus)
    record.write_text(text)
    assert "c/long.mp4" in open_corpus(corpus)
    record.unlink()  # and one that went away
    assert "c/long.mp4" not in open_corpus(corpus)
    for rubbish in (b"PK rubbish", b"", b"\x93NUMPY"):
        (corpus / "index.npz").write_bytes(rubbish)
        assert len(open_corpus(corpus)) == 2
    assert "cannot be read" in caplog.text


def test_a_rewritten_record_is_not_hidden_by_the_index(corpus):
    store = CorpusStore(corpus)
    store.save_index()
    record = store.read_record("aaaa")
    videos = tuple(replace(video, status="failed", reason="looked again") for video in record.videos)
    store.write_record(replace(record, videos=videos))
    assert open_corpus(corpus).failures["b/two.mp4"] == "looked again"


def _read_in_process(corpus) -> float:
    return float(corpus["a/öne.mp4"].flow(0, 5).sum())


def test_it_can_be_sent_to_other_processes(corpus):
    opened = open_corpus(corpus)
    here = _read_in_process(opened)
    assert _read_in_process(pickle.loads(pickle.dumps(opened))) == here
    with ProcessPoolExecutor(1) as pool:
        assert pool.submit(_read_in_process, opened).result() == here


def test_fewer_shards_stay_open_than_are_read(corpus, monkeypatch):
    monkeypatch.setattr("flowprep.corpus.reader.OPEN_SHARDS", 1)
    opened = open_corpus(corpus)
    for _ in range(2):
        assert [v.flow(0, 1).shape[0] for v in opened.values()] == [1, 1, 1]
        assert len(opened._shards) == 1


def test_shards_open_with_h5py_alone(corpus):
    """As FORMAT.md says, without our code."""
    with h5py.File(corpus / "shards" / "aaaa.h5") as file:
        assert file.attrs["format"] == "flowprep-shard" and list(file.attrs["version"]) == [1, 1]
        assert json.loads(file.attrs["settings"])["codes"] == "adaptive"
        row = next(r for r in file["videos"][:] if r["id"].decode() == "a/öne.mp4")
        image = file["images"][row["flow_v_first"] + 2]
        jpeg = file["bytes"][image["offset"] : image["offset"] + image["size"]].tobytes()
        pair = file["pairs"][row["first_pair"] + 2]
        v = (images.decode_codes(jpeg, SHAPE).astype(np.float32) - pair["v_zero"]) * pair["v_scale"]
    assert np.array_equal(v, open_corpus(corpus)["a/öne.mp4"].flow(2, 1)[0, 1])


def test_a_sound_corpus_has_no_problems(corpus):
    report = verify_corpus(CorpusStore(corpus), jobs=2)
    assert report.problems == ()
    assert (report.shards, report.videos) == (3, 3)  # one of them in two segments
    assert report.images == sum(len(Shard(p).images) for p in (corpus / "shards").glob("*.h5"))


def test_every_flipped_byte_of_the_data_is_noticed(corpus):
    """Whatever byte of the images or the tables changes, reading or verifying names the place."""
    path = corpus / "shards" / "aaaa.h5"
    sound = path.read_bytes()
    with h5py.File(path) as file:
        places = {n: (file[n].id.get_offset(), file[n].nbytes) for n in (*fmt.TABLES, fmt.BYTES)}
    rng = np.random.default_rng(0)
    for name, (offset, size) in places.items():
        for at in {0, size - 1, *rng.integers(size, size=4).tolist()}:
            spoiled = bytearray(sound)
            spoiled[offset + at] ^= 0x10
            path.write_bytes(spoiled)
            problems = verify_corpus(CorpusStore(corpus)).problems
            assert problems and all(p.shard == "aaaa.h5" for p in problems), (name, at)
            if name == fmt.BYTES:
                named = [p for p in problems if p.image is not None]
                assert len(named) == 1 and named[0].video in ("a/öne.mp4", "b/two.mp4")
                with pytest.raises(CorpusDamaged, match=f"image {named[0].image}"):
                    _read_everything(corpus)
            else:
                assert any("before its images" in p.what for p in problems)
                with pytest.raises(CorpusDamaged, match="before its images"):
                    _read_everything(corpus)
    path.write_bytes(sound)
    _read_everything(corpus)


def _read_everything(corpus: Path) -> None:
    for video in open_corpus(corpus).values():
        for backward in (False, True):
            video.flow(0, video.num_pairs, backward=backward)
        for i in range(video.num_frames):
            video.rgb(i)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_cut_shard_is_noticed(corpus, keep):
    path = corpus / "shards" / "aaaa.h5"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    assert verify_corpus(CorpusStore(corpus)).problems[0].shard == "aaaa.h5"
    with pytest.raises(CorpusError):
        _read_everything(corpus)


def test_a_missing_shard_is_noticed(corpus):
    (corpus / "shards" / "bbbb.h5").unlink()
    problems = verify_corpus(CorpusStore(corpus)).problems
    assert [str(p) for p in problems] == ["bbbb.h5: the file is missing"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "flowprep-record"}'])
def test_a_spoiled_record_is_named(corpus, text):
    CorpusStore(corpus).record_path("aaaa").write_text(text)
    (problem,) = (p for p in verify_corpus(CorpusStore(corpus)).problems if p.shard)
    assert "aaaa.json" in problem.what
    with pytest.raises(CorpusError, match=r"aaaa\.json"):
        open_corpus(corpus)


def test_newer_formats_are_refused_and_minor_ones_read(corpus):
    for task in ("aaaa", "bbbb", "cccc"):
        with h5py.File(corpus / "shards" / f"{task}.h5", "r+") as file:
            file.attrs["version"] = np.array([1, 7], "<u4")
    assert len(open_corpus(corpus)) == 3
    with h5py.File(corpus / "shards" / "aaaa.h5", "r+") as file:
        stored = json.loads(file.attrs["settings"])
        stored["tvl1"]["unheard_of"] = 1
        file.attrs["settings"] = json.dumps({**stored, "codes": "logarithmic", "another": [1, 2]})
    opened = open_corpus(corpus)
    assert opened.settings.codes == "logarithmic" and opened.settings.tvl1 == SETTINGS.tvl1
    assert opened["b/two.mp4"].flow(0, 1).shape == (1, 2, *SHAPE)
    with h5py.File(corpus / "shards" / "aaaa.h5", "r+") as file:
        file.attrs["version"] = np.array([2, 0], "<u4")
    with pytest.raises(CorpusFormatError, match="install a newer flowprep"):
        open_corpus(corpus)


def test_what_is_no_corpus_is_refused(tmp_path, corpus):
    with pytest.raises(CorpusFormatError, match="neither a shard nor a plan"):
        open_corpus(tmp_path)
    with pytest.raises(CorpusFormatError, match="no such folder"):
        open_corpus(tmp_path / "none")
    with h5py.File(corpus / "shards" / "aaaa.h5", "w"):
        pass
    with pytest.raises(CorpusFormatError, match="not a shard"):
        open_corpus(corpus)


def test_cutting_a_segment_keeps_whole_frames_and_pairs(tmp_path):
    (tmp_path / "shards").mkdir()
    path = tmp_path / "shards" / "x.h5"
    with ShardWriter(path, SETTINGS, {}) as writer:
        writer.begin(id="v", source="v", label="", segments=1)
        flow = flow_of(0, 6)
        for i in range(6):
            writer.add_frame(np.full((*SHAPE, 3), i * 30, np.uint8), i)
            u, v = quantise.encode_pair(flow[i], SETTINGS)
            writer.add_pair(u, v)
            writer.add_pair(u, v, backward=True)
        writer.cut(4)
        stored = writer.end()
        add(writer, "w", 3, 5)
        writer.begin(id="dropped", source="", label="")
        writer.add_frame(np.zeros((*SHAPE, 3), np.uint8), 0)
        writer.drop()
        writer.publish()
    shard = Shard(path)
    row = shard.videos[0]
    assert (stored.frames, stored.pairs, row["rgb_count"], row["flow_back_v_count"]) == (4, 3, 4, 3)
    assert (row["num_frames"], row["num_pairs"]) == (4, 3)
    assert [r["id"] for r in shard.videos] == [b"v", b"w"]
    for i in range(len(shard.images)):
        shard.image(i)
    assert list(tmp_path.glob("shards/*.tmp")) == []


def test_an_index_that_another_process_outdates_is_not_kept(corpus, monkeypatch):
    """A record that is replaced between the reading and the saving must not be hidden by the index."""

    def load_and_be_overtaken(store):
        loaded = load_index(store)
        record = store.read_record("aaaa")
        store.write_record(replace(record, totals={"pairs": record.totals["pairs"] + 1000}))
        return loaded

    load_index = CorpusStore.load_index
    monkeypatch.setattr(CorpusStore, "load_index", load_and_be_overtaken)
    before = CorpusStore(corpus).save_index().totals["pairs"]
    monkeypatch.undo()
    assert CorpusStore(corpus).load_index().totals["pairs"] == before + 1000


def test_damage_of_what_hdf5_reads_is_found_before_it_does(corpus):
    path = corpus / "shards" / "aaaa.h5"
    sound = path.read_bytes()
    with h5py.File(path) as file:
        length = file[fmt.BYTES].id.get_offset()
    for at in (0, 8, length // 2, length - 1):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(CorpusDamaged, match="the part before its images"):
            Shard(path)
    path.write_bytes(sound[:-1])
    with pytest.raises(CorpusDamaged, match="the end of the file is not that of a shard"):
        Shard(path)
    path.write_bytes(sound[: -fmt.SEAL.size])  # as the first shards were
    assert len(Shard(path).images) > 0


def test_a_changed_record_is_refused(corpus):
    record = corpus / "records" / "aaaa.json"
    record.write_text(record.read_text("utf-8").replace('"status": "ok"', '"status": "failed"', 1), "utf-8")
    with pytest.raises(CorpusDamaged, match="does not match its checksum"):
        open_corpus(corpus)
    assert verify_corpus(CorpusStore(corpus)).problems


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
