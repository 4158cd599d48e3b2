"""The command line, as its users meet it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from flowprep import open_corpus
from flowprep.flo import read_flo, write_flo
from flowprep.presets import PRESETS
from tests.support.videos import write_frames, write_video

SIZE = ("--size", "source", "--engine", "opencv")


def test_extract_status_verify_info_view(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    made = cli("extract", clips, "--out", out, *SIZE, "--jobs", 1)
    assert made.exit_code == 0
    assert "4 of 4 videos stored, 0 failed" in made.stdout
    assert "4 videos in 1 task, 1 to do; engine opencv; 2 other files skipped" in made.stderr
    again = cli("extract", clips, "--out", out, *SIZE, "--jobs", 1)
    assert again.exit_code == 0 and "0 to do" in again.stderr and "; 0 pairs computed in" in again.stdout

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


def test_a_video_is_cut_into_as_many_segments_as_asked_for(cli, clips, tmp_path):
    for number, tasks in ((1, 4), (3, 12)):
        out = tmp_path / str(number)
        options = ["--out", out, *SIZE, "--shard-pairs", 2, "--segments", number, "--jobs", 1, "--json"]
        assert json.loads(cli("extract", clips, *options).stdout)["tasks"]["total"] == tasks
    whole, cut = (open_corpus(tmp_path / n) for n in "13")
    for video in whole:
        pairs = whole[video].num_pairs
        assert np.array_equal(whole[video].codes(0, pairs), cut[video].codes(0, pairs))
    assert cli("plan", clips, "--out", tmp_path / "x", "--segments", 0).exit_code == 2


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
    for command in ("info", "status", "verify"):
        assert cli(command, tmp_path / "none").exit_code == 2
        assert cli(command, tmp_path).exit_code == 1  # a folder, but no corpus
    unknown = cli("view", out, "left/bad.mp4", "-o", tmp_path / "s.png")
    assert unknown.exit_code == 2 and "could not be extracted: not a video" in unknown.stderr
    shard = next((out / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    damaged = cli("verify", out)
    assert damaged.exit_code == 1
    assert shard.name in damaged.stdout and ".mp4, image" in damaged.stdout


def test_verify_reports_a_damaged_first_shard_too(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    assert cli("extract", clips, "--out", out, *SIZE, "--jobs", 1).exit_code == 0
    shard = next((out / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:3000])
    (out / "records" / "notes.json").write_text("{}")
    (out / "index.npz").unlink()
    damaged = cli("verify", out, "--json")
    assert damaged.exit_code == 1
    assert {p["shard"] for p in json.loads(damaged.stdout)["problems"]} == {shard.name, "notes.h5"}


def test_failed_videos_are_tried_again_on_request(cli, clips, tmp_path):
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
    ("options", "said"),
    [
        (("--quality", 80), "quality: 80, 95"),
        (("--step", 2), "step: 2, 1"),
        (("--size", "short:64"), "size: short:64, source"),
        (("--engine", "cpu", "--preset", "opencv"), "engine: cpu, opencv"),
        (("--preset", "accurate"), "engine opencv does not have median_after, blur"),
        (("--tvl1", "warps=3"), "tvl1.warps: 3, 5"),
        (("--quantiser", "fixed", "--range", 15), "codes: fixed, adaptive; range: 15.0, 20.0"),
    ],
)
def test_other_settings_are_refused_by_name_and_change_nothing(cli, clips, tmp_path, options, said):
    out = tmp_path / "corpus"
    assert cli("plan", clips, "--out", out, *SIZE).exit_code == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    write_video(clips / "new" / "n.mp4", 4)
    refused = cli("extract", clips, "--out", out, *SIZE, *options)
    assert refused.exit_code == 2 and said in refused.stderr
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_an_automatic_engine_takes_the_one_that_is_stored(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    cli("plan", clips, "--out", out, *SIZE)
    assert cli("plan", clips, "--out", out, "--size", "source", "--preset", "opencv").exit_code == 0
    refused = cli("plan", clips, "--out", out, "--size", "source")
    assert refused.exit_code == 2 and "preset opencv" in refused.stderr


def test_names_that_look_like_options(cli, tmp_path):
    write_video(tmp_path / "-in-" / "-a-.mp4", 4)
    made = cli("extract", "--out", tmp_path / "c", *SIZE, "--jobs", 1, "--", tmp_path / "-in-")
    assert made.exit_code == 0
    shown = cli("view", "-o", tmp_path / "s.png", "--", tmp_path / "c", "-a-.mp4")
    assert shown.exit_code == 0


def test_samples_are_videos_that_extract_takes(cli, tmp_path):
    made = json.loads(
        cli("samples", "-o", tmp_path / "s", "--classes", 2, "--clips", 2, "--seed", 3, "--json").stdout
    )
    assert made["train"] + made["test"] == 4 == made["written"]
    assert (tmp_path / "s" / "splits" / "classInd.txt").exists()
    plan = json.loads(cli("plan", tmp_path / "s", "--out", tmp_path / "c", "--json").stdout)
    assert plan["videos"] == 4
    again = json.loads(
        cli("samples", "-o", tmp_path / "s", "--classes", 2, "--clips", 2, "--seed", 3, "--json").stdout
    )
    assert again["written"] == 0
    assert cli("samples", "-o", tmp_path / "s", "--classes", 1).exit_code == 2


def test_bench_measures_both_engines_on_the_same_pairs(cli, clips):
    video = clips / "left" / "v_left_g01.mp4"
    quick = ("--preset", "opencv", "--size", "source", "--pairs")
    found = json.loads(cli("bench", "flow", video, *quick, 3, "--threads", 1, "--json").stdout)
    assert (found["engine"], found["pairs"], found["size"]) == ("cpu", 3, "48x32")
    assert found["ms_per_pair"]["ours"]["median"] > 0 and found["ratio"] > 0
    assert found["distance_px"] < 0.03 and found["energy"] == pytest.approx(1, abs=0.03)
    assert set(found["codes"]) == {"adaptive", "fixed", "tsn"}
    assert found["codes"]["tsn"]["error_px"] > found["codes"]["adaptive"]["error_px"] > 0
    assert set(found["stages"]) == {"decode", "resize", "flow", "jpeg", "codes", "write"}
    assert found["pairs_per_second"].keys() == {"ours", "opencv", "extraction"}
    same = json.loads(
        cli("bench", "flow", video, "--engine", "opencv", "--size", "source", "--pairs", 1, "--json").stdout
    )
    assert same["distance_px"] == 0 and same["energy"] == 1
    assert "times as fast" in cli("bench", "flow", video, "--size", "source", "--pairs", 1).stdout  # accurate
    assert cli("bench", "flow", video, "--pairs", 0).exit_code == 2


def test_a_preset_and_changes_to_it_are_stored_and_shown(cli, clips, tmp_path):
    out = tmp_path / "corpus"
    changes = ("--preset", "fast", "--tvl1", "warps=4", "--tvl1", "tau = 0.125", "--tvl1", "warps=2")
    made = json.loads(cli("plan", clips, "--out", out, "--size", "source", *changes, "--json").stdout)
    expected = dataclasses.asdict(dataclasses.replace(PRESETS["fast"], warps=2, tau=0.125))
    assert made["settings"]["tvl1"] == expected
    assert cli("extract", clips, "--out", out, "--size", "source", *changes, "--jobs", 1).exit_code == 0
    shown = cli("info", out).stdout
    said = {name: {True: "yes", False: "no"}[v] if isinstance(v, bool) else v for name, v in expected.items()}
    assert all(f"    {name}: {value}\n" in shown for name, value in said.items()), shown
    refused = cli("plan", clips, "--out", tmp_path / "x", "--tvl1", "speed=1")
    assert "name of tau, lambda_, theta, scales" in refused.stderr


def test_flow_of_one_pair(cli, tmp_path):
    folder = write_frames(tmp_path / "frames", 2)
    images = sorted(folder.iterdir())
    made = json.loads(cli("flow", *images, "-o", tmp_path / "a.flo", "--json").stdout)
    flow = read_flo(tmp_path / "a.flo")
    assert (made["width"], made["height"]) == (48, 32) and flow.shape == (2, 32, 48)
    assert made["largest_px"] == pytest.approx(np.hypot(*flow).max(), abs=1e-5)
    assert flow[0].mean() == pytest.approx(1, abs=0.2) and abs(flow[1].mean()) < 0.2
    fast = cli("flow", *images, "-o", tmp_path / "b.flo", "--preset", "fast", "--engine", "reference")
    assert fast.exit_code == 0 and "displacements up to" in fast.stdout
    assert (tmp_path / "a.flo").read_bytes() != (tmp_path / "b.flo").read_bytes()
    assert cli("flow", *images, "-o", tmp_path / "a.png").exit_code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (48, 32)
    assert cli("flow", *images, "-o", tmp_path / "a.jpg").exit_code == 2
    (tmp_path / "text.png").write_text("no image")
    assert cli("flow", images[0], tmp_path / "text.png", "-o", tmp_path / "c.flo").exit_code == 1


def test_an_output_that_cannot_be_is_said_in_words(cli, clips, tmp_path):
    out, image = tmp_path / "c", tmp_path / "a.png"
    assert cli("extract", clips, "--out", out, *SIZE, "--jobs", 1).exit_code == 0
    Image.new("L", (32, 32)).save(image)
    (tmp_path / "folder.flo").mkdir()
    (tmp_path / "folder.html").mkdir()
    video = clips / "left" / "v_left_g01.mp4"
    for command, said in (
        (("flow", image, image, "--engine", "opencv", "-o", tmp_path / "no" / "x.flo"), "No such file"),
        (("flow", image, image, "--engine", "opencv", "-o", tmp_path / "folder.flo"), "Is a directory"),
        (("view", out, "left/v_left_g01.mp4", "-o", tmp_path / "no" / "x.png"), "No such file"),
        (("view", video, "--engine", "opencv", "-o", tmp_path / "no" / "x.mp4"), "No such file"),
        (("report", out, "-o", tmp_path / "folder.html"), "folder.html: Is a directory"),
        (("report", out, "-o", image / "x.html"), "a.png: Not a directory"),
        (("export", out, "--out", image / "x", "--layout", "tsn", "--convert"), "Not a directory"),
        (("extract", clips, "--out", image / "c", *SIZE, "--jobs", 1), "Not a directory"),
        (("samples", "-o", image / "s"), "Not a directory"),
    ):
        result = cli(*command)
        assert result.exit_code in (1, 2), command
        assert said in result.stderr and "Errno" not in result.stderr and ".tmp" not in result.stderr


def test_bench_against_truth(cli, tmp_path):
    truth = np.zeros((2, 32, 48), np.float32)
    truth[0] = 1  # what the frames move by
    truth[:, :4] = 1e10  # not known
    for name, pattern, flo in (
        ("a", "frame{:02d}.png", "flow01.flo"),
        ("b", "frame_{:04d}.png", "frame_0001.flo"),
    ):
        write_flo(truth, write_frames(tmp_path / "t" / name, 2, pattern=pattern) / flo)
    found = json.loads(cli("bench", "truth", tmp_path / "t", "--preset", "fast", "--json").stdout)
    assert list(found["errors_px"]) == ["a/flow01.flo", "b/frame_0001.flo", "mean"]
    assert found["tvl1"]["scale_step"] == 0.65
    assert all(0 < error < 0.2 for errors in found["errors_px"].values() for error in errors.values())
    assert "b/frame_0001.flo" in cli("bench", "truth", tmp_path / "t").stdout
    (tmp_path / "t" / "a" / "frame02.png").unlink()
    assert "flow10.flo needs frame10.png" in cli("bench", "truth", tmp_path / "t").stderr
    (tmp_path / "none").mkdir()
    assert cli("bench", "truth", tmp_path / "none").exit_code == 2


@pytest.mark.parametrize(
    "command", ["bench", "extract", "flow", "plan", "status", "verify", "info", "view", "report", "samples"]
)
def test_every_command_explains_itself(cli, command):
    text = cli(command, "--help").stdout
    assert len(text) > 200 and "--json" in text


def test_a_user_sees_one_line_and_no_trace(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "flowprep.cli", "info", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
