"""Extraction: from videos to published shards, resumable, with the same bytes in every run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import flowprep
from flowprep.codec import quantise
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from flowprep.engines import make_engine
from flowprep.errors import EngineError
from flowprep.presets import Tvl1Settings
from flowprep.settings import Settings
from flowprep.video.decode import read_frames
from flowprep.video.frames import to_grey
from tests.support.planning import plan_inputs
from tests.support.videos import texture, write_frames, write_video

# The engine of OpenCV needs no compilation, so that processes start at once.
QUICK = Settings(size="source", engine="opencv", tvl1=Tvl1Settings(scales=2, warps=2), shard_pairs=8)


def shards(corpus: Path) -> dict[str, str]:
    """SHA-256 of every shard, by name."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((corpus / "shards").iterdir())}


def test_extraction_from_videos_to_flow_in_pixels(clips, tmp_path):
    result = flowprep.make_corpus([clips], tmp_path / "c", QUICK, jobs=1)
    assert result.faults == {} and result.skipped_files == 2
    assert result.status.to_dict()["videos"] == {"total": 4, "ok": 4, "partial": 0, "failed": 0, "pending": 0}
    corpus = flowprep.open_corpus(tmp_path / "c")
    assert set(corpus.labels.values()) == {"left", "right"}
    assert corpus.settings == QUICK
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()
    for video in corpus.values():
        assert video.num_pairs == video.num_frames - 1 == int(video.id[-5]) + 5  # 6 + n frames
        flow = video.flow(0, video.num_pairs)[:, :, 8:-8, 8:-8]
        u = 1.0 if video.label == "right" else -1.0
        # TV-L1 on a compressed video has an error of 0.1 px, and the codes of 0.05 px.
        assert flow[:, 0].mean() == pytest.approx(u, abs=0.15)
        assert flow[:, 1].mean() == pytest.approx(0, abs=0.15)


def test_corpus_has_the_flow_of_the_decoded_frames(tmp_path):
    """No frame is shifted, dropped or repeated at the borders of batches and segments."""
    path = write_video(tmp_path / "a.mp4", 30)
    settings = Settings(
        size="source", engine="opencv", tvl1=QUICK.tvl1, shard_pairs=7, step=2, backward=True, codes="fixed"
    )
    flowprep.make_corpus([path], tmp_path / "c", settings, jobs=1)
    video = flowprep.open_corpus(tmp_path / "c")["a.mp4"]
    frames = np.stack([to_grey(f.rgb) for _, f in read_frames(path, "source")])
    assert (video.num_frames, video.num_pairs) == (30, 28)
    first = np.arange(28)
    engine = make_engine("opencv", QUICK.tvl1)
    for backward in (False, True):
        pairs = (first + 2, first) if backward else (first, first + 2)
        flow = engine.solve(frames, *pairs)
        expected = quantise.decode(quantise.encode(flow, "fixed"))
        assert np.array_equal(video.flow(0, 28, backward=backward), expected)
        means = video.mean_flow_backward if backward else video.mean_flow
        assert np.allclose(means, flow.mean(axis=(2, 3)), atol=1e-5)
    assert len(list((tmp_path / "c" / "shards").iterdir())) == 4
    assert video.times_seconds == pytest.approx(np.arange(30) / 25)


def test_video_with_clipped_motion_has_a_warning(tmp_path, cli):
    slow = write_video(tmp_path / "slow.mp4", 5, speed=0.5)
    fast = write_video(tmp_path / "fast.mp4", 5, speed=2.5)
    settings = dataclasses.replace(QUICK, codes="fixed", range=2.0)
    summary = flowprep.make_corpus([slow, fast], tmp_path / "c", settings, jobs=1).status
    assert list(summary.warnings) == ["fast.mp4"] and summary.videos.failed == 0
    found = re.fullmatch(
        r"([\d.]+)% of its displacements are clipped to \+-2 px; range (\d+) would clip at most 0.1%",
        summary.warnings["fast.mp4"],
    )
    assert found
    clipped = flowprep.open_corpus(tmp_path / "c")["fast.mp4"].clipped.mean()
    assert float(found[1]) / 100 == pytest.approx(clipped, abs=5e-4)
    assert 3 <= int(found[2]) <= 10
    status = cli("status", tmp_path / "c")
    assert status.exit_code == 0 and status.stdout.count("warning: fast.mp4: ") == 1
    wider = dataclasses.replace(settings, range=float(found[2]))
    assert not flowprep.make_corpus([slow, fast], tmp_path / "d", wider, jobs=1).status.warnings


@pytest.mark.parametrize("step", [1, 3, 12])
@pytest.mark.parametrize("shard_pairs", [4, 100])
def test_batches_and_segments_have_no_influence(tmp_path, monkeypatch, step, shard_pairs):
    """N frames always give the same N - step pairs."""

    class Sums:
        """An engine whose flow depends on the mean grey levels of the two frames."""

        batch_pairs, batch_pixels = 32, 2_000_000

        def solve(self, frames, first, second):
            means = frames.astype(np.float32).mean(axis=(1, 2))
            flow = np.empty((len(first), 2, *frames.shape[1:]), np.float32)
            flow[:, 0], flow[:, 1] = means[first][:, None, None] / 16, means[second][:, None, None] / 16
            return flow

    monkeypatch.setattr("flowprep.extraction.pipeline.make_engine", lambda *_: Sums())
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(23):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((16, 16, 3), 10 * i, np.uint8))
    settings = Settings(size="source", step=step, shard_pairs=shard_pairs, backward=True)
    for batch in (1, 3, 32):
        monkeypatch.setattr(Sums, "batch_pairs", batch)
        out = tmp_path / str(batch)
        assert flowprep.make_corpus([folder], out, settings, jobs=1).faults == {}
        assert verify_corpus(CorpusStore(out)).problems == ()
        video = flowprep.open_corpus(out)["frames"]
        assert (video.num_frames, video.num_pairs) == (23, 23 - step)
        assert [int(video.rgb(i)[0, 0, 0]) for i in range(23)] == pytest.approx(10 * np.arange(23), abs=1)
        first = np.arange(23 - step) * 10 / 16
        for backward, (u, v) in (
            (False, (first, first + step * 10 / 16)),
            (True, (first + step * 10 / 16, first)),
        ):
            flow = video.flow(0, 23 - step, backward=backward)
            # Two codes: a JPEG of one value is exact to one code
            assert flow[:, 0, 5, 5] == pytest.approx(u, abs=0.3) and flow[:, 1, 5, 5] == pytest.approx(
                v, abs=0.3
            )


@pytest.mark.slow
def test_number_of_jobs_has_no_influence_on_the_bytes(clips, tmp_path):
    for jobs in (1, 3, 9):  # 9: fewer tasks than jobs, so that each has two threads
        flowprep.make_corpus([clips], tmp_path / str(jobs), QUICK, jobs=jobs)
    assert len(shards(tmp_path / "1")) == 4
    assert shards(tmp_path / "1") == shards(tmp_path / "3") == shards(tmp_path / "9")


def test_folder_of_the_input_has_no_influence(clips, tmp_path):
    flowprep.make_corpus([clips], tmp_path / "a", QUICK, jobs=1)
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move(clips, moved / "clips")
    flowprep.make_corpus([moved / "clips"], tmp_path / "b", QUICK, jobs=1)
    assert shards(tmp_path / "a") == shards(tmp_path / "b")


def test_bad_videos_are_recorded_and_the_run_continues(clips, tmp_path):
    (clips / "left" / "empty.mp4").touch()
    (clips / "left" / "text.mp4").write_text("no video")
    write_video(clips / "right" / "one.mp4", 1)
    write_video(clips / "right" / "tiny.mp4", 5, size=(8, 8))
    result = flowprep.make_corpus([clips], tmp_path / "c", QUICK, jobs=2)
    assert result.status.to_dict()["videos"] == {"total": 8, "ok": 4, "partial": 0, "failed": 4, "pending": 0}
    reasons = result.status.failures
    assert "0 bytes" in reasons["left/empty.mp4"]
    assert "not a video" in reasons["left/text.mp4"]
    assert "too few frames: 1; one pair at step 1 needs 2" in reasons["right/one.mp4"]
    assert "too small: 8x8" in reasons["right/tiny.mp4"]
    corpus = flowprep.open_corpus(tmp_path / "c")
    assert len(corpus) == 4 and corpus.failures == reasons
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()


def cut_avi(path: Path, frames: int = 40) -> Path:
    """Remove a part of an AVI file, so that no decoder notices it."""
    whole = write_video(path, frames, size=(64, 48))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    return whole


@pytest.mark.parametrize("shard_pairs", [1000, 7])
def test_keep_partial_stores_the_intact_frames(tmp_path, shard_pairs):
    path = cut_avi(tmp_path / "a.avi")
    settings = Settings(size="source", engine="opencv", tvl1=QUICK.tvl1, shard_pairs=shard_pairs)
    result = flowprep.make_corpus([path], tmp_path / "strict", settings, jobs=1)
    assert result.status.videos.failed == 1
    assert len(flowprep.open_corpus(tmp_path / "strict")) == 0
    keeping = Settings(**{**settings.to_dict(), "tvl1": settings.tvl1, "keep_partial": True})
    result = flowprep.make_corpus([path], tmp_path / "keep", keeping, jobs=1)
    assert result.status.to_dict()["videos"] == {"total": 1, "ok": 1, "partial": 1, "failed": 0, "pending": 0}
    assert "corrupt" in result.status.partial["a.avi"] or "cut short" in result.status.partial["a.avi"]
    video = flowprep.open_corpus(tmp_path / "keep")["a.avi"]
    clean = []
    with pytest.raises(flowprep.FlowprepError):
        for _, frame in read_frames(path, "source"):
            clean.append(frame)
    assert video.partial and video.num_frames == len(clean) and video.num_pairs == len(clean) - 1
    assert np.abs(video.rgb(len(clean) - 1).astype(int) - clean[-1].rgb).mean() < 4
    assert verify_corpus(CorpusStore(tmp_path / "keep")).problems == ()


def test_repaired_video_replaces_the_partial_one(tmp_path):
    folder = write_frames(tmp_path / "frames", 10)
    last = (folder / "img_00010.png").read_bytes()
    (folder / "img_00010.png").write_bytes(b"broken")
    settings = dataclasses.replace(QUICK, keep_partial=True)
    made = flowprep.make_corpus([folder], tmp_path / "c", settings, jobs=1)
    assert made.status.videos.partial == 1
    (folder / "img_00010.png").write_bytes(last)
    status = flowprep.make_corpus([folder], tmp_path / "c", settings, jobs=1).status
    assert status.sources.replaced == ("frames",)
    assert dataclasses.replace(status, sources=made.status.sources) == made.status
    again = flowprep.make_corpus([folder], tmp_path / "c", settings, jobs=1, retry_failed=True)
    assert (again.status.videos.ok, again.status.videos.partial) == (1, 0)
    assert flowprep.open_corpus(tmp_path / "c")["frames"].num_frames == 10


def test_task_with_a_deleted_record_is_pending(tmp_path):
    folder = write_frames(tmp_path / "frames", 6)
    whole = (folder / "img_00004.png").read_bytes()
    (folder / "img_00004.png").write_bytes(bytes(len(whole)))
    assert flowprep.make_corpus([folder], tmp_path / "c", QUICK, jobs=1).status.videos.failed == 1
    (folder / "img_00004.png").write_bytes(whole)
    (record,) = (tmp_path / "c" / "records").iterdir()
    record.unlink()
    made = flowprep.make_corpus([folder], tmp_path / "c", QUICK, jobs=1)
    assert made.status.videos.ok == 1 and made.status.failures == {}
    assert flowprep.open_corpus(tmp_path / "c")["frames"].num_frames == 6


@pytest.mark.parametrize("step", [1, 3])
def test_keep_partial_leaves_no_gap(tmp_path, step):
    folder = write_frames(tmp_path / "frames", 40)
    (folder / "img_00025.png").write_bytes(b"broken")
    settings = Settings(
        size="source", step=step, engine="opencv", tvl1=QUICK.tvl1, shard_pairs=6, keep_partial=True
    )
    flowprep.make_corpus([folder], tmp_path / "c", settings, jobs=1)
    video = flowprep.open_corpus(tmp_path / "c")["frames"]
    assert (video.partial, video.num_frames, video.num_pairs) == (True, 24, 24 - step)
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()


def test_inputs_that_libraries_refuse_are_failed_videos(clips, tmp_path):
    folder = write_frames(clips / "frames", 4)
    (folder / "img_00003.png").unlink()
    (folder / "img_00003.png").symlink_to(tmp_path / "gone.png")
    huge = write_frames(clips / "huge", 3) / "img_00002.png"
    data = bytearray(huge.read_bytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2  # a header of 100,000 x 100,000 pixels
    huge.write_bytes(data)
    odd = Path(os.fsdecode(os.fsencode(clips) + b"/caf\xe9"))
    odd.mkdir()
    shutil.copy(clips / "left" / "v_left_g01.mp4", odd / "v.mp4")
    # A search passes over a short folder that lost an image. It is a video because it is named.
    result = flowprep.make_corpus([clips, folder], tmp_path / "c", QUICK, jobs=1)
    assert result.faults == {} and result.status.videos.ok == 5
    assert set(result.status.failures) == {"frames", "huge"}
    assert flowprep.open_corpus(tmp_path / "c").labels["caf\\xe9/v.mp4"] == "caf\\xe9"


def test_wrong_estimate_of_frames_loses_no_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20)
    corpora = []
    for estimate in (20, 5, 60):
        plan_inputs(tmp_path / str(estimate), path, settings=QUICK, estimate=lambda _, e=estimate: e)
        flowprep.make_corpus([path], tmp_path / str(estimate), QUICK, jobs=1)
        corpora.append(flowprep.open_corpus(tmp_path / str(estimate))["a.mp4"])
        assert verify_corpus(CorpusStore(tmp_path / str(estimate))).problems == ()
    for video in corpora:
        assert (video.num_frames, video.num_pairs) == (20, 19)
        assert np.array_equal(video.flow(0, 19), corpora[0].flow(0, 19))


@pytest.mark.parametrize(
    ("streams", "has"),
    [({"flow": False}, {"rgb"}), ({"rgb": False}, {"flow_u", "flow_v"})],
)
def test_streams_can_be_left_out(tmp_path, streams, has):
    write_video(tmp_path / "in" / "a.mp4", 4)
    settings = Settings(size="source", engine="opencv", tvl1=QUICK.tvl1, **streams)
    flowprep.make_corpus([tmp_path / "in"], tmp_path / "c", settings, jobs=1)
    corpus = flowprep.open_corpus(tmp_path / "c")
    assert set(corpus.settings.streams) == has
    video = corpus["a.mp4"]
    assert video.num_frames == 4 and len(video.times_seconds) == 4
    assert video.num_pairs == (3 if "flow_u" in has else 0)
    with pytest.raises(flowprep.FlowprepError, match="made without"):
        video.rgb(0) if "rgb" not in has else video.flow(0, 1)
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()


def test_folder_of_numbered_frames_is_a_video(tmp_path):
    write_frames(tmp_path / "frames", 4)
    flowprep.make_corpus([tmp_path / "frames"], tmp_path / "c", QUICK, jobs=1)
    video = flowprep.open_corpus(tmp_path / "c")["frames"]
    assert video.num_pairs == 3 and np.isnan(video.times_seconds).all()
    assert video.flow(0, 3)[:, 0, 8:-8, 8:-8].mean() == pytest.approx(1, abs=0.1)
    assert np.abs(video.rgb(2).astype(int) - texture(32, 48, 2)).mean() < 3


def test_resumed_run_extracts_only_the_missing_tasks(clips, tmp_path):
    corpus = tmp_path / "c"
    flowprep.make_corpus([clips], corpus, QUICK, jobs=1)
    whole = shards(corpus)
    lost, kept = sorted(whole)[:2]
    CorpusStore(corpus).record_path(Path(lost).stem).unlink()
    (corpus / "shards" / lost).unlink()
    before = (corpus / "shards" / kept).stat().st_mtime_ns
    leftover = corpus / "shards" / f"{Path(lost).stem}.h5.elsewhere.123.tmp"
    leftover.write_bytes(b"never adopted")
    flowprep.make_corpus([clips], corpus, QUICK, jobs=1)
    leftover.unlink()
    assert shards(corpus) == whole
    assert (corpus / "shards" / kept).stat().st_mtime_ns == before


COMMAND = [sys.executable, "-m", "flowprep.cli", "extract", "--size", "source", "--engine", "opencv"]


@pytest.mark.slow
def test_killed_run_is_resumed_with_the_same_bytes(tmp_path):
    for k in range(6):
        write_video(tmp_path / "in" / f"{k}.mp4", 14, size=(64, 48), seed=k)
    command = [*COMMAND, str(tmp_path / "in"), "--shard-pairs", "5", "--jobs", "2", "--out"]
    subprocess.run([*command, str(tmp_path / "straight")], check=True, capture_output=True)
    assert len(shards(tmp_path / "straight")) == 18
    for delay in (1.0, 2.0):  # tests/faults kills at more moments
        out = tmp_path / str(delay)
        process = subprocess.Popen([*command, str(out)], start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if out.exists():
            assert verify_corpus(CorpusStore(out)).problems == ()  # published tasks are whole
        subprocess.run([*command, str(out)], check=True, capture_output=True)
        assert shards(out) == shards(tmp_path / "straight")  # no temporary file remains


def test_engine_error_is_a_fault_of_its_task_only(clips, tmp_path, monkeypatch):
    class Broken:
        batch_pairs, batch_pixels = 32, 2_000_000
        calls = 0

        def solve(self, frames, first, second):
            Broken.calls += 1
            if Broken.calls == 2:
                raise EngineError("device lost")
            return np.zeros((len(first), 2, *frames.shape[1:]), np.float32)

    monkeypatch.setattr("flowprep.extraction.pipeline.make_engine", lambda *_: Broken())
    result = flowprep.make_corpus([clips], tmp_path / "c", QUICK, jobs=1)
    (fault,) = result.faults.values()
    assert "device lost" in fault and ".mp4" in fault
    assert result.status.videos.pending == 1 and result.status.videos.ok == 3
    assert not list((tmp_path / "c" / "shards").glob("*.tmp"))
    monkeypatch.undo()
    assert flowprep.make_corpus([clips], tmp_path / "c", QUICK, jobs=1).status.videos.ok == 4


def test_full_disk_stops_the_run_and_keeps_published_tasks(clips, tmp_path, monkeypatch):
    publish = "flowprep.corpus.shard_writer.publish"
    done = []

    def full(temporary, path):
        if done:
            raise OSError(28, "No space left on device", str(path))
        done.append(path)
        temporary.replace(path)

    monkeypatch.setattr(publish, full)
    result = flowprep.make_corpus([clips], tmp_path / "c", QUICK, jobs=1)
    (fault,) = result.faults.values()  # the tasks after it were not begun
    assert "No space left on device" in fault and ".h5" in fault
    assert result.status.videos.ok == 1 and result.status.videos.pending == 3
    assert verify_corpus(CorpusStore(tmp_path / "c")).problems == ()


def test_records_have_status_counts_and_times(clips, tmp_path):
    (clips / "left" / "empty.mp4").touch()
    flowprep.make_corpus([clips], tmp_path / "c", QUICK, jobs=1)
    records = [json.loads(p.read_text()) for p in (tmp_path / "c" / "records").iterdir()]
    videos = {v["id"]: v for r in records for v in r["videos"]}
    assert videos["left/empty.mp4"]["status"] == "failed" and videos["left/empty.mp4"]["reason"]
    taken = videos["right/v_right_g02.mp4"]
    assert (taken["status"], taken["frames"], taken["pairs"]) == ("ok", 8, 7)
    assert set(taken["bytes"]) == {"rgb", "flow_u", "flow_v"}
    for record in records:
        if record["shard"]:
            path = tmp_path / "c" / "shards" / record["shard"]["name"]
            assert record["shard"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert {"decode_seconds", "flow_seconds", "codes_seconds", "write_seconds"} <= set(
                record["totals"]
            )


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    """The peak memory of a run, for two videos. The frames of the second would need 120 MB more."""
    most = []
    for frames in (300, 2300):
        path = write_video(tmp_path / f"{frames}.mp4", frames, size=(160, 128), speed=0)
        code = (
            "import re; from pathlib import Path; from flowprep.cli import main;"
            "main(standalone_mode=False);"
            # getrusage would include the peak of the parent process
            "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
        )
        # Without flow: the memory of engines does not depend on the length of a video, and they need minutes.
        args = [
            "extract",
            str(path),
            "--out",
            str(tmp_path / f"c{frames}"),
            "--no-flow",
            "--jobs",
            "1",
            "--size",
            "source",
        ]
        run = subprocess.run(
            [sys.executable, "-c", code, *args, "--shard-pairs", "100000"],
            check=True,
            capture_output=True,
            text=True,
        )
        most.append(int(run.stdout.split()[-1]) / 1024)
    assert most[1] < most[0] + 30, most  # MiB
    assert most[1] < 600
