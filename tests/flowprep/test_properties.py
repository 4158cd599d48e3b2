"""Properties of all flow, plans and records, and of every order in which owners come and go."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from PIL import Image

from flowprep import decode, encode, make_corpus
from flowprep.codec.quantise import DEAD_ZONE_PX
from flowprep.corpus import format as fmt
from flowprep.corpus.records import SegmentRecord, ShardRecord, TaskRecord
from flowprep.corpus.shard_writer import ShardWriter
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import set_aside, verify_corpus
from flowprep.planning.discover import SourceVideo
from flowprep.planning.tasks import make_plan
from flowprep.settings import CODES, Settings
from flowprep.system import leases
from tests.support.videos import write_video

FEW = run(max_examples=40, deadline=None, database=None, derandomize=True)


@FEW
@given(
    lengths=st.lists(st.integers(0, 4000), min_size=1, max_size=12),
    shard_pairs=st.integers(1, 1000),
    step=st.integers(1, 5),
    cut=st.integers(0, 12),
)
def test_plan_has_each_video_once_and_never_regroups(lengths, shard_pairs, step, cut):
    frames = {f"{i:02d}.mp4": n for i, n in enumerate(lengths)}
    videos = [SourceVideo(f"/nowhere/{name}", name, "", "") for name in frames]
    settings = Settings(size="source", engine="cpu", shard_pairs=shard_pairs, step=step)

    def plan_videos(part):
        return make_plan(store, part, settings, estimate=lambda path: frames[path.name])

    with tempfile.TemporaryDirectory() as folder:
        store = CorpusStore(Path(folder))
        first = plan_videos(videos[:cut]) if videos[:cut] else None
        plan = plan_videos(videos)
        assert store.read_plan() == plan == plan_videos(videos[::-1])
        if first:
            assert plan.tasks[: len(first.tasks)] == first.tasks
    assert len({t.id for t in plan.tasks}) == len(plan.tasks)
    for name, count in frames.items():
        segments = [s for t in plan.tasks for s in t.segments if s.id == name]
        assert [s.segment for s in segments] == list(range(segments[0].segments))
        end = 0
        for segment in segments:
            assert segment.first_frame == end
            end += segment.count
        assert segments[-1].count == 0  # to the end of the video
        assert sum(s.estimate for s in segments) == max(0, count - step)
    for task in plan.tasks:
        assert task.estimate <= shard_pairs or len(task.segments) == 1


# Displacements of any size, also 0, and also outside the range of fixed and tsn codes.
PIXELS = st.one_of(st.just(0.0), st.floats(-500, 500, width=32), st.floats(-1, 1, width=32))
FLOWS = arrays(
    np.float32, st.tuples(st.just(2), st.sampled_from([8, 16]), st.sampled_from([8, 24])), elements=PIXELS
)


@FEW
@given(flow=FLOWS, codes=st.sampled_from(CODES), bound=st.floats(0.5, 300))
def test_codes_of_any_flow_are_within_half_a_step(flow, codes, bound):
    """PNG stores codes without loss."""
    encoded = encode(flow, codes, codec="png", **({} if codes == "adaptive" else {"range": bound}))
    for values, back, field in zip(flow, decode(encoded), encoded.fields, strict=True):
        limit = np.inf if codes == "adaptive" else bound
        inside = np.clip(values, -limit, limit)
        single = 1e-6 * (
            np.abs(inside) + 255 * field.scale
        )  # scale and product are rounded to single precision
        assert (np.abs(back - inside) <= field.scale / 2 + single).all()
        assert field.clipped == np.mean(np.abs(values) > limit)
        if codes != "tsn":
            assert (back[values == 0] == 0).all()
        else:
            assert (back[values == 0] == np.float32(0.5) * np.float32(field.scale)).all()


def rms(values, axis=None):
    return np.sqrt(np.mean(np.square(values), axis=axis))


def table_of(field):
    """The quantisation steps of a field's JPEG, in codes."""
    return np.array(Image.open(io.BytesIO(field.jpeg)).quantization[0])


def block_error(values, back, field):
    """Root mean square error of each 8x8 block, in codes."""
    return rms(((back - values) / field.scale).reshape(values.shape[0] // 8, 8, -1, 8), axis=(1, 3))


@FEW
@given(
    flow=FLOWS,
    codes=st.sampled_from(["fixed", "tsn"]),
    bound=st.floats(0.5, 300),
    quality=st.integers(1, 100),
)
def test_jpeg_of_any_flow_is_within_half_a_step(flow, codes, bound, quality):
    """The transform keeps squares (Parseval): a block's error is at most that of its coefficients."""
    exact = decode(encode(flow, codes, range=bound, codec="png"))
    encoded = encode(flow, codes, range=bound, quality=quality)
    for values, back, field in zip(exact, decode(encoded), encoded.fields, strict=True):
        # In addition to the steps: pixels and coefficients are rounded to whole numbers.
        assert (block_error(values, back, field) <= rms(table_of(field) / 2) + 1).all()


@FEW
@given(flow=FLOWS, error_px=st.floats(0.05, 5))
def test_jpeg_of_adaptive_codes_of_any_flow_is_within_a_step(flow, error_px):
    """Coefficients are made smaller by one, or left out, where their bits weigh more."""
    encoded = encode(flow, error_px=error_px)
    for values, back, field in zip(flow, decode(encoded), encoded.fields, strict=True):
        error = block_error(values, back, field)
        assert (error <= rms(table_of(field)) + 1 + DEAD_ZONE_PX / field.scale).all()


# A video: for each segment its frames, the reason of its failure or "", and the number of its task.
SEGMENTS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["", "", "cut short"]), st.integers(0, 4)),
    min_size=1,
    max_size=3,
)


def write_task(store, task, segments):
    """Write shard and record of segments, each (id, number, segments, first frame, frames, reason)."""
    path = store.shard_path(task)
    videos = []
    with ShardWriter(path, Settings(flow=False), {}) as writer:
        for video, number, count, first, frames, reason in segments:
            status, stored = ("failed", 0) if reason else ("ok", frames)
            videos.append(SegmentRecord(video, status, number, count, reason=reason, frames=stored))
            if not reason:
                where = {"segment": number, "segments": count, "first_frame": first, "source_bytes": 1}
                writer.begin(id=video, source=video, label=video[0], step=1, width=16, height=16, **where)
                for k in range(frames):
                    writer.add_stored_frame(None, float(first + k))
                writer.end()
        shard = None if writer.empty else ShardRecord(path.name, writer.publish(), "")
    totals = {"frames": sum(video.frames for video in videos)}
    store.write_record(TaskRecord(task, shard, tuple(videos), totals))


def content_of(index):
    """The content of an index, independent of the order of its tasks."""
    rows = [(row.tobytes(), index.tasks[task]) for row, task in zip(index.rows, index.row_task, strict=True)]
    arrays = [np.asarray(getattr(index, name)).tolist() for name in ("whole", "ids", "labels")]
    return sorted(index.tasks), rows, arrays, index.failures, index.partial, index.warnings, index.totals


@pytest.mark.slow
@FEW
@given(
    videos=st.dictionaries(st.sampled_from(["a/ä", "a/b", "b/b", "c"]), SEGMENTS, min_size=1),
    order=st.permutations(range(5)),
    saved=st.sets(st.integers(0, 4)),
)
def test_index_has_the_data_of_the_records_whenever_it_was_saved(videos, order, saved):
    tasks = {f"{k:02x}": [] for k in range(5)}
    whole, failed = {}, {}
    for video, segments in videos.items():
        first = 0
        for number, (frames, reason, task) in enumerate(segments):
            tasks[f"{task:02x}"].append((video, number, len(segments), first, frames, reason))
            first += frames
        if reason := next((reason for _, reason, _ in segments if reason), ""):
            failed[video] = reason
        else:
            whole[video] = first
    with tempfile.TemporaryDirectory() as folder:
        store = CorpusStore(Path(folder))
        store.make_folders()
        missing = set(tasks)
        for k in order:
            write_task(store, f"{k:02x}", tasks[f"{k:02x}"])
            missing.remove(f"{k:02x}")
            if k in saved:
                waiting = {row[0] for task in missing for row in tasks[task]}
                assert [i.decode() for i in store.save_index().ids] == sorted(whole.keys() - waiting)
        store.save_index()
        stored = store.load_index()
        assert content_of(stored) == content_of(store.rebuild_index()) == content_of(store.load_index())
        assert [i.decode() for i in stored.ids] == sorted(whole) and stored.failures == failed
        for video, (first, count) in zip(stored.ids, stored.whole, strict=True):
            assert stored.rows["num_frames"][first : first + count].sum() == whole[video.decode()]
        assert stored.totals["frames"] == stored.rows["num_frames"].sum()


TASKS = 6
QUICK = Settings(size="source", flow=False, shard_pairs=4)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder of videos, of which one has three tasks, and their corpus."""
    root = tmp_path_factory.mktemp("resume")
    for k, frames in enumerate((5, 4, 12, 5)):
        write_video(root / "in" / f"{k}.mp4", frames, seed=k)
    made = make_corpus([root / "in"], root / "corpus", QUICK, jobs=1)
    assert made.status.to_dict()["tasks"] == {"total": TASKS, "done": TASKS} and not made.status.failures
    return root


STATES = (
    "done",
    "never begun",
    "killed before the record",
    "killed before the shard",
    "shard lost",
    "damaged",
    "failed",
)


def damage_task(corpus, task, state):
    """Change the files of a task as a kill, a disk fault or a bad video does."""
    shard, record = CorpusStore(corpus).shard_path(task), CorpusStore(corpus).record_path(task)
    data = bytearray(shard.read_bytes())
    if state in ("never begun", "killed before the record", "killed before the shard"):
        record.unlink()
    if state in ("never begun", "killed before the shard", "shard lost", "failed"):
        shard.unlink()
    if state == "killed before the shard":  # by an owner of another machine, long ago
        dead = "elsewhere.0123abcd.1.1"
        shard.with_name(f"{shard.name}.{dead}.tmp").write_bytes(data[:99])
        held = corpus / fmt.LEASES / f"{task}.0"
        held.write_text(f'{{"owner": "{dead}"}}')
        os.utime(held, (0, 0))
    elif state == "damaged":
        data[len(data) // 2] ^= 4
        shard.write_bytes(data)
    elif state == "failed":
        before = CorpusStore(corpus).read_record(task)
        videos = [replace(v, status="failed", reason="cut short", bytes={}) for v in before.videos]
        CorpusStore(corpus).write_record(replace(before, shard=None, videos=tuple(videos), totals={}))


@pytest.mark.slow
@FEW
@given(
    states=st.lists(st.sampled_from(STATES), min_size=TASKS, max_size=TASKS),
    index=st.booleans(),
    again=st.booleans(),
)
def test_next_run_extracts_the_missing_tasks_only(undisturbed, states, index, again):
    plan = CorpusStore(undisturbed / "corpus").read_plan()
    state = {task.id: how for task, how in zip(plan.tasks, states, strict=True)}
    failed = {s.id for t in plan.tasks for s in t.segments if state[t.id] == "failed"}
    missing = {task for task, how in state.items() if how not in ("done", "failed")}
    if again:  # a failed video is extracted again with all its segments
        missing |= {t.id for t in plan.tasks if failed & {s.id for s in t.segments}}
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        ignored = shutil.ignore_patterns(fmt.LOGS, *([] if index else [fmt.INDEX]))
        shutil.copytree(undisturbed / "corpus", corpus, ignore=ignored, dirs_exist_ok=True)
        for task, how in state.items():
            damage_task(corpus, task, how)
        if "damaged" in states:
            set_aside(CorpusStore(corpus), verify_corpus(CorpusStore(corpus)))
        made = make_corpus([undisturbed / "in"], corpus, QUICK, jobs=1, retry_failed=again)
        assert {line.split()[1] for line in CorpusStore(corpus).read_logs() if " done: " in line} == missing
        assert made.status.failures.keys() == (set() if again else failed)
        for task, how in state.items():
            whole, shard = (
                CorpusStore(undisturbed / "corpus").shard_path(task),
                CorpusStore(corpus).shard_path(task),
            )
            if again or how != "failed":
                assert shard.read_bytes() == whole.read_bytes()
            else:
                assert not shard.exists()
        assert verify_corpus(CorpusStore(corpus)).problems == ()
        assert [*corpus.rglob("*.tmp"), *(corpus / fmt.LEASES).iterdir()] == []


class Owners(RuleBasedStateMachine):
    """Processes of other machines, which start, finish and die in any order."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.corpus = Path(self.folder.name)
        for name in (fmt.SHARDS, fmt.RECORDS, fmt.LEASES):
            (self.corpus / name).mkdir()
        self.patch = pytest.MonkeyPatch()
        self.number = self.deaths = 0
        self.holder = None  # the lease of the living owner
        self.dead = []

    @rule()
    def come(self):
        self.number += 1
        self.patch.setattr(leases, "owner", lambda: f"elsewhere.0123abcd.{self.number}.1")
        claim = CorpusStore(self.corpus).lease("aa")
        deaths = claim.__enter__()
        if self.holder:
            assert deaths is None
            claim.__exit__(None, None, None)
        else:
            assert deaths == self.deaths
            self.holder = claim

    @precondition(lambda self: self.holder)
    @rule()
    def finish(self):
        self.holder.__exit__(None, None, None)
        self.holder, self.deaths = None, 0

    @precondition(lambda self: self.holder)
    @rule()
    def die(self):
        for path in (self.corpus / fmt.LEASES).iterdir():
            os.utime(path, (0, 0))
        self.dead.append(self.holder)  # a lease that is not referenced would be closed, and finish
        self.holder = None
        self.deaths += 1

    @invariant()
    def held_while_its_owner_lives(self):
        assert CorpusStore(self.corpus).is_leased("aa") == bool(self.holder)
        generations = {int(p.suffix[1:]) for p in (self.corpus / fmt.LEASES).iterdir()}
        assert generations == set(range(self.deaths + bool(self.holder)))

    def teardown(self):
        self.patch.undo()
        self.folder.cleanup()


TestOwners = Owners.TestCase
TestOwners.settings = run(FEW, stateful_step_count=25)
