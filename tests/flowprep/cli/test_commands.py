"""Several commands on one corpus: output, exit codes, errors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from PIL import Image

from tests.support.videos import write_video

SIZE = ("--size", "source", "--engine", "opencv")


def test_extract_status_verify_info_view(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    result = cli("extract", clips, "--out", out, *SIZE, "--jobs", 1)
    assert result.exit_code == 0
    assert "4 of 4 videos stored, 0 failed" in result.stdout
    assert "4 videos in 1 task, 1 to do; engine opencv; 2 other files skipped" in result.stderr
    again = cli("extract", clips, "--out", out, *SIZE, "--jobs", 1)
    assert again.exit_code == 0 and "0 to do" in again.stderr and "no pair was to be computed" in again.stdout

    status = cli("status", out)
    assert status.exit_code == 0 and "1 of 1 task done" in status.stdout
    assert cli("verify", out).stdout.endswith("checked: no problems\n")
    assert "opencv" in cli("info", out).stdout
    listed = cli("info", out, "--list").stdout.splitlines()
    assert listed[0] == "left/v_left_g01.mp4\tleft\t7\t6" and len(listed) == 4
    assert "num_pairs: 6" in cli("info", out, "left/v_left_g01.mp4").stdout
    sheet = cli("view", out, "left/v_left_g01.mp4", "-o", tmp_path / "sheet.png", "--width", 800)
    assert sheet.exit_code == 0
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width == 800


def test_json_is_one_object_on_stdout(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    plan = json.loads(cli("plan", clips, "--out", out, *SIZE, "--json").stdout)
    assert (plan["videos"], plan["tasks"], plan["pending_tasks"], plan["skipped_files"]) == (4, 1, 1, 2)
    before = json.loads(cli("status", out, "--json").stdout)
    assert before["videos"]["pending"] == 4 and before["tasks"] == {"total": 1, "done": 0}
    extract = json.loads(cli("extract", clips, "--out", out, *SIZE, "--jobs", 1, "--json").stdout)
    assert extract["videos"]["ok"] == 4 and extract["run"]["pairs"] == extract["totals"]["pairs"] == 26
    after = json.loads(cli("status", out, "--json").stdout)
    assert after["videos"] == extract["videos"]
    verify = json.loads(cli("verify", out, "--json").stdout)
    assert verify["problems"] == [] and verify["images"] == 30 + 2 * 26
    info = json.loads(cli("info", out, "--json").stdout)
    assert info["labels"] == {"left": 2, "right": 2} and info["settings"]["engine"] == "opencv"
    video = json.loads(cli("info", out, "right/v_right_g02.mp4", "--json").stdout)
    assert video["num_frames"] == 8 and video["mean_flow_px"][0] == pytest.approx(1, abs=0.2)
    sheet = cli("view", out, "right/v_right_g02.mp4", "-o", tmp_path / "s.png", "--json")
    assert json.loads(sheet.stdout)["output"] == str(tmp_path / "s.png")
    film = cli(
        "view", clips / "left" / "v_left_g01.mp4", "-o", tmp_path / "f.mp4", *SIZE, "--pairs", 3, "--json"
    )
    assert json.loads(film.stdout)["frames"] == 3 and (tmp_path / "f.mp4").stat().st_size > 1000
    report = json.loads(cli("report", out, "-o", tmp_path / "r.html", "--sample", 2, "--json").stdout)
    assert report["videos"] == after["videos"] and report["sampled_videos"] == 2


def test_exit_codes(cli, clips, tmp_path):
    (clips / "left" / "bad.mp4").write_text("no video")
    out = tmp_path / "corpus"
    some_failed = cli("extract", clips, "--out", out, *SIZE, "--jobs", 1)
    assert some_failed.exit_code == 3
    assert "failed: left/bad.mp4: not a video" in some_failed.stderr
    assert "4 of 5 videos stored, 1 failed" in some_failed.stdout
    assert cli("extract", clips, "--out", out, *SIZE, "--jobs", 1).exit_code == 3  # still so
    assert cli("status", out).exit_code == 0
    for wrong in (
        ("extract", clips, "--out", out, *SIZE, "--quality", 80),
        ("extract", tmp_path / "none", "--out", tmp_path / "x"),
        ("extract", clips, "--out", tmp_path / "x", "--size", "big"),
        ("extract", clips, "--out", tmp_path / "x", "--engine", "magic"),
        ("extract", clips, "--out", tmp_path / "x", "--quantiser", "jpeg"),
        ("extract", clips, "--out", tmp_path / "x", "--preset", "slow"),
        ("extract", clips, "--out", tmp_path / "x", "--tvl1", "speed=1"),
        ("extract", clips, "--out", tmp_path / "x", "--tvl1", "scales=2.5"),
        ("extract", clips),
        ("view", clips / "left" / "v_left_g01.mp4", "-o", tmp_path / "x"),
        ("view", *(clips / "right").glob("*.mp4"), "-o", tmp_path / "x.mp4"),
    ):
        assert cli(*wrong).exit_code == 2, wrong
        assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("")
    no_corpora = {
        tmp_path / "none": "there is no such folder",
        tmp_path / "file": "it is a file",
        tmp_path: "it has neither records nor a plan",
    }
    written = ("--out", tmp_path / "x")
    commands = (
        *(("info",), ("status",), ("verify",), ("log",), ("index",), ("retry",), ("bench", "read")),
        *(("run-task", "--array"), ("report", *written), ("export", *written, "--layout", "tsn")),
        *(("merge", *written), ("repack", *written, "--shard-pairs", "9")),
        ("subset", *written, "--select", "a"),
    )
    for folder, reason in no_corpora.items():
        for command in commands:
            result = cli(*command, folder)
            assert result.exit_code == 2 and result.stderr.startswith("error: ")
            assert f"{folder} is not a corpus: {reason}" in result.stderr, command
    assert not (tmp_path / "x").exists()
    unknown = cli("view", out, "left/bad.mp4", "-o", tmp_path / "s.png")
    assert unknown.exit_code == 2 and "could not be extracted: not a video" in unknown.stderr
    shard = next((out / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    damaged = cli("verify", out)
    assert damaged.exit_code == 1
    assert shard.name in damaged.stdout and ".mp4, image" in damaged.stdout


def test_names_that_look_like_options(cli, tmp_path):
    write_video(tmp_path / "-in-" / "-a-.mp4", 4)
    result = cli("extract", "--out", tmp_path / "c", *SIZE, "--jobs", 1, "--", tmp_path / "-in-")
    assert result.exit_code == 0
    shown = cli("view", "-o", tmp_path / "s.png", "--", tmp_path / "c", "-a-.mp4")
    assert shown.exit_code == 0


@pytest.mark.slow
def test_an_output_that_cannot_be_written_is_one_plain_line(cli, clips, tmp_path):
    out, image = tmp_path / "c", tmp_path / "a.png"
    assert cli("extract", clips, "--out", out, *SIZE, "--jobs", 1).exit_code == 0
    Image.new("L", (32, 32)).save(image)
    (tmp_path / "folder.flo").mkdir()
    (tmp_path / "folder.html").mkdir()
    video = clips / "left" / "v_left_g01.mp4"
    for command, expected in (
        (("flow", image, image, "--engine", "opencv", "-o", image / "x.flo"), "a.png"),
        (("flow", image, image, "--engine", "opencv", "-o", tmp_path / "folder.flo"), "is a folder"),
        (("view", out, "left/v_left_g01.mp4", "-o", image / "x.png"), "a.png"),
        (("view", video, "--engine", "opencv", "-o", image / "x.mp4"), "a.png"),
        (("report", out, "-o", tmp_path / "folder.html"), "folder.html is a folder"),
        (("report", out, "-o", image / "x.html"), "a.png"),
        (("export", out, "--out", image / "x", "--layout", "tsn", "--convert"), "a.png is a file"),
        (("extract", clips, "--out", image / "c", *SIZE, "--jobs", 1), "a.png is a file"),
        (("samples", "-o", image / "s"), "a.png is a file"),
    ):
        result = cli(*command)
        assert result.exit_code in (1, 2), command
        assert expected in result.stderr and "Errno" not in result.stderr and ".tmp" not in result.stderr


def test_an_error_is_one_line_without_a_traceback(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "flowprep.cli", "info", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1


@pytest.mark.parametrize(("program", "command"), [("flowprep", "extract"), ("trainer", "train")])
def test_without_a_command_the_help_is_printed_and_no_error(program, command):
    run = subprocess.run([sys.executable, "-m", f"{program}.cli"], capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("Usage: ") and f"\n  {command} " in run.stderr
    assert "error:" not in run.stderr


def test_an_engine_that_cannot_be_imported_leaves_no_plan(cli, clips, tmp_path):
    result = cli("extract", clips, "--out", tmp_path / "c", "--engine", "no_such_module:Engine")
    assert result.exit_code == 2 and "cannot be imported" in result.stderr
    assert not (tmp_path / "c").exists()
