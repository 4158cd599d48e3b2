"""The plan file: versions, checksums and damage."""

from __future__ import annotations

import json

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.errors import CorpusError, CorpusFormatError
from flowprep.settings import Settings
from tests.support.planning import plan_inputs, touch


@pytest.mark.parametrize(
    "text", ["", "[]\n", '{"format": "flowprep-plan"}\n', '{"format": "flowprep-plan", "version": 9}\n']
)
def test_damaged_plan_is_refused(tmp_path, text):
    (tmp_path / "plan.jsonl").write_text(text)
    with pytest.raises(CorpusFormatError):
        CorpusStore(tmp_path).read_plan()


def test_other_file_is_not_a_plan(tmp_path):
    (tmp_path / "plan.jsonl").write_text(json.dumps({"format": "something"}) + "\n")
    with pytest.raises(CorpusFormatError):
        CorpusStore(tmp_path).read_plan()
    with pytest.raises(CorpusFormatError):
        CorpusStore(tmp_path / "none").read_plan()


@pytest.mark.parametrize("change", ["cut", "label", "settings", "more"])
def test_changed_plan_is_refused(tmp_path, change):
    for k in range(3):
        touch(tmp_path / "in" / "left" / f"{k}.mp4")
    plan_inputs(tmp_path / "c", tmp_path / "in", settings=Settings(shard_pairs=1))
    path = tmp_path / "c" / "plan.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 5
    changed = {
        "cut": lines[:2],
        "label": [line.replace('"left"', '"lift"') for line in lines],
        "settings": [lines[0].replace("short:256", "short:255"), *lines[1:]],
        "more": [*lines, lines[1]],
    }
    path.write_text("".join(changed[change]))
    with pytest.raises(CorpusError, match=r"(its|their) checksum|lines after its end"):
        CorpusStore(tmp_path / "c").read_plan()


def test_plan_of_version_1_is_read(tmp_path):
    """Version 1 had no checksums."""
    touch(tmp_path / "in" / "0.mp4")
    plan = plan_inputs(tmp_path / "c", tmp_path / "in")
    path = tmp_path / "c" / "plan.jsonl"
    first, task, _ = path.read_text().splitlines(keepends=True)
    head = json.loads(first)
    del head["crc32"]
    path.write_text(json.dumps({**head, "version": 1}) + "\n" + task)
    assert CorpusStore(tmp_path / "c").read_plan() == plan
