"""The commands samples, plan and extract."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from flowprep import open_corpus
from flowprep.presets import PRESETS
from tests.support.videos import write_video

SIZE = ("--size", "source", "--engine", "opencv")


def test_segments_limits_the_tasks_of_one_video_and_changes_no_code(cli, clips, tmp_path):
    for number, tasks in ((1, 4), (3, 12)):
        out = tmp_path / str(number)
        options = ["--out", out, *SIZE, "--shard-pairs", 2, "--segments", number, "--jobs", 1, "--json"]
        assert json.loads(cli("extract", clips, *options).stdout)["tasks"]["total"] == tasks
    whole, cut = (open_corpus(tmp_path / n) for n in "13")
    for video in whole:
        pairs = whole[video].num_pairs
        assert np.array_equal(whole[video].codes(0, pairs), cut[video].codes(0, pairs))
    assert cli("plan", clips, "--out", tmp_path / "x", "--segments", 0).exit_code == 2


def test_failed_videos_are_retried_on_request(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    mended = (clips / "left" / "v_left_g01.mp4").read_bytes()
    (clips / "left" / "v_left_g01.mp4").write_bytes(b"broken")
    command = ("extract", clips, "--out", out, *SIZE, "--jobs", 1)
    assert cli(*command).exit_code == 3
    (clips / "left" / "v_left_g01.mp4").write_bytes(mended)
    assert cli(*command).exit_code == 3  # what is done is done
    again = cli(*command, "--retry-failed")
    assert again.exit_code == 0 and "4 of 4 videos stored, 0 failed" in again.stdout
    assert cli("verify", out).exit_code == 0
    assert cli("status", out, "--json").exit_code == 0 and cli(*command).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--quality", 80), "quality: 80, 95"),
        (("--step", 2), "step: 2, 1"),
        (("--size", "short:64"), "size: short:64, source"),
        (("--engine", "cpu", "--preset", "opencv"), "engine: cpu, opencv"),
        (("--preset", "accurate"), "engine opencv does not have median_grey, median_after, blur"),
        (("--tvl1", "warps=3"), "--preset: opencv warps=3, opencv. Use the stored ones (`--preset opencv`)"),
        (("--quantiser", "fixed", "--range", 15), "--quantiser: fixed, adaptive; --range: 15.0, 20.0"),
    ],
)
def test_other_settings_are_refused_by_name_and_change_nothing(cli, clips, tmp_path, options, message):
    out = tmp_path / "corpus"
    assert cli("plan", clips, "--out", out, *SIZE).exit_code == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    write_video(clips / "new" / "n.mp4", 4)
    refused = cli("extract", clips, "--out", out, *SIZE, *options)
    assert refused.exit_code == 2 and message in refused.stderr
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_engine_and_preset_of_the_plan_are_the_default(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    cli("plan", clips, "--out", out, *SIZE)
    before = (out / "plan.jsonl").read_bytes()
    for options in (("--preset", "opencv"), ()):
        planned = cli("plan", clips, "--out", out, "--size", "source", *options)
        assert planned.exit_code == 0 and "engine opencv;" in planned.stdout
    refused = cli("plan", clips, "--out", out, "--size", "source", "--preset", "accurate")
    assert refused.exit_code == 2 and "preset opencv" in refused.stderr
    assert (out / "plan.jsonl").read_bytes() == before


def test_samples_can_be_extracted(cli, tmp_path):
    result = json.loads(
        cli("samples", "-o", tmp_path / "s", "--classes", 2, "--clips", 2, "--seed", 3, "--json").stdout
    )
    assert result["train"] + result["test"] == 4 == result["written"]
    assert (tmp_path / "s" / "splits" / "classInd.txt").exists()
    plan = json.loads(cli("plan", tmp_path / "s", "--out", tmp_path / "c", "--json").stdout)
    assert plan["videos"] == 4
    again = json.loads(
        cli("samples", "-o", tmp_path / "s", "--classes", 2, "--clips", 2, "--seed", 3, "--json").stdout
    )
    assert again["written"] == 0
    assert cli("samples", "-o", tmp_path / "s", "--classes", 1).exit_code == 2


def test_a_preset_and_changes_to_it_are_stored_and_shown(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    changes = ("--preset", "fast", "--tvl1", "warps=4", "--tvl1", "tau = 0.125", "--tvl1", "warps=2")
    result = json.loads(cli("plan", clips, "--out", out, "--size", "source", *changes, "--json").stdout)
    expected = dataclasses.asdict(dataclasses.replace(PRESETS["fast"], warps=2, tau=0.125))
    assert result["settings"]["tvl1"] == expected
    assert cli("extract", clips, "--out", out, "--size", "source", *changes, "--jobs", 1).exit_code == 0
    shown = cli("info", out).stdout
    texts = {
        name: {True: "yes", False: "no"}[v] if isinstance(v, bool) else v for name, v in expected.items()
    }
    assert all(f"    {name}: {value}\n" in shown for name, value in texts.items()), shown
    refused = cli("plan", clips, "--out", tmp_path / "x", "--tvl1", "speed=1")
    assert "name of tau, lambda_, theta, scales" in refused.stderr
