"""What holds for every plan and every order in which owners of a task come, finish and die."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowprep.corpus import format as fmt
from flowprep.corpus import lease
from flowprep.corpus.lease import claimed, is_held
from flowprep.plan import Found, make_plan, read_plan
from flowprep.settings import Settings

FEW = run(max_examples=40, deadline=None, database=None, derandomize=True)


@FEW
@given(
    lengths=st.lists(st.integers(0, 4000), min_size=1, max_size=12),
    shard_pairs=st.integers(1, 1000),
    step=st.integers(1, 5),
    cut=st.integers(0, 12),
)
def test_a_plan_holds_each_video_once_and_never_regroups(lengths, shard_pairs, step, cut):
    frames = {f"{i:02d}.mp4": n for i, n in enumerate(lengths)}
    found = [Found(f"/nowhere/{name}", name, "", "") for name in frames]
    settings = Settings(size="source", engine="cpu", shard_pairs=shard_pairs, step=step)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowprep.plan.estimate_frames", lambda path: frames[Path(path).name])
        first = make_plan(Path(folder), found[:cut], settings) if found[:cut] else None
        plan = make_plan(Path(folder), found, settings)
        assert read_plan(Path(folder)) == plan == make_plan(Path(folder), found[::-1], settings)
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
        assert segments[-1].count == 0  # to the end, wherever that is
        assert sum(s.estimate for s in segments) == max(0, count - step)
    for task in plan.tasks:
        assert task.estimate <= shard_pairs or len(task.segments) == 1


class Owners(RuleBasedStateMachine):
    """Processes of other machines, which come, finish and die in any order."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.corpus = Path(self.folder.name)
        for name in (fmt.SHARDS, fmt.RECORDS, fmt.LEASES):
            (self.corpus / name).mkdir()
        self.patch = pytest.MonkeyPatch()
        self.number = self.deaths = 0
        self.holder = None  # of a living owner: its claim
        self.dead = []

    @rule()
    def come(self):
        self.number += 1
        self.patch.setattr(lease, "owner", lambda: f"elsewhere.0123abcd.{self.number}.1")
        claim = claimed(self.corpus, "aa")
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
        self.dead.append(self.holder)  # else it would be closed, and finish
        self.holder = None
        self.deaths += 1

    @invariant()
    def held_while_its_owner_lives(self):
        assert is_held(self.corpus, "aa") == bool(self.holder)
        generations = {int(p.suffix[1:]) for p in (self.corpus / fmt.LEASES).iterdir()}
        assert generations == set(range(self.deaths + bool(self.holder)))

    def teardown(self):
        self.patch.undo()
        self.folder.cleanup()


TestOwners = Owners.TestCase
TestOwners.settings = run(FEW, stateful_step_count=25)
