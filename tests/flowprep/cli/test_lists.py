"""Lists and addresses on the command line."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.command import call
from tests.support.planning import touch


def test_plan_of_a_list_whose_files_do_not_exist_says_so(tmp_path, cli, caplog):
    (tmp_path / "list.txt").write_text("a.mp4 run\nb.mp4 run\nc.mp4 run\nd.mp4 run\n")
    command = ("plan", tmp_path / "list.txt", "--out", tmp_path / "c")
    result = cli(*command)
    assert result.exit_code == 3
    assert "4 of 4 videos are not files in" in result.stderr and "a.mp4, b.mp4, c.mp4, ..." in result.stderr
    assert not (tmp_path / "c").exists()
    touch(tmp_path / "a.mp4")
    assert cli(*command, "--allow-missing").exit_code == 0
    for name in "bc":
        touch(tmp_path / f"{name}.mp4")
    partly = cli(*command)
    assert partly.exit_code == 3 and partly.stdout.startswith("4 videos, about")
    assert caplog.messages[-1].startswith(f"{tmp_path / 'list.txt'}: 1 of 4 videos are not files in")


def test_extract_refuses_a_list_of_which_nothing_exists(tmp_path, cli):
    (tmp_path / "list.txt").write_text("a.mp4 run\nb.mp4 run\n")
    result = cli("extract", tmp_path / "list.txt", "--out", tmp_path / "c")
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and "2 of 2 videos" in result.stderr
    assert not (tmp_path / "c").exists()


def test_paths_of_a_list_begin_at_its_folder_or_at_another(tmp_path, cli):
    touch(tmp_path / "videos" / "A" / "a.mp4")
    (tmp_path / "list.txt").write_text("A/a.mp4 1\n")
    root = tmp_path / "videos"
    result = cli("plan", tmp_path / "list.txt", "--list-root", root, "--out", tmp_path / "c", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["videos"] == 1


@pytest.mark.parametrize(
    "args",
    [
        ("extract", "s3://bucket/videos", "--out", "c"),
        ("extract", "videos", "--out", "s3://bucket/c"),
        ("extract", "videos", "--out=gs://bucket/c"),
        ("extract", "videos", "-os3://bucket/c"),
        ("plan", "https://host/list.txt", "--out", "c"),
        ("status", "s3://bucket/c"),
        ("export", "s3://bucket/c", "--out", "x", "--layout", "tsn"),
        ("import", "x", "--out", "c", "--layout", "tsn", "--range", "20", "--labels", "http://host/l.txt"),
        ("flow", "file:///a.png", "b.png", "-o", "c.flo"),
    ],
)
def test_addresses_are_refused_in_words(tmp_path, cli, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    result = cli(*args)
    assert result.exit_code == 2 and "is an address; only files of this machine are read" in result.stderr
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize(
    "args",
    [
        (
            "train",
            "r.toml",
            "--corpus",
            "c",
            "--train-list",
            "s3://b/l.txt",
            "--test-list",
            "t",
            "--out",
            "r",
        ),
        ("train", "r.toml", "--corpus", "c", "--train-list", "l", "--test-list", "t", "--out", "s3://b/r"),
        ("train", "r.toml", "--corpus", "c", "--train-list", "l", "--test-list", "t", "--out", "r")
        + ("--set", "model.weights=https://host/weights.pth"),
        ("predict", "https://host/a.mp4", "--spatial", "r"),
        ("split", "s3://bucket/c", "--out", "lists"),
    ],
)
def test_the_trainer_refuses_addresses_in_words(args):
    result = call(*args)
    assert result.exit_code == 2 and "is an address; only files of this machine are read" in result.stderr


def test_names_with_a_colon_are_no_addresses(tmp_path, cli):
    touch(tmp_path / "10:30" / "s3:a.mp4")
    result = cli("plan", tmp_path / "10:30", "--out", tmp_path / "c:d")
    assert result.exit_code == 0 and (tmp_path / "c:d" / "plan.jsonl").exists()
