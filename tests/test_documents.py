"""What the documents show is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flowprep
from flowprep.settings import PRESETS, Settings

ROOT = Path(__file__).resolve().parents[1]


def code_blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two sample classes, every clip in three segments of which the last is empty, and one bad video."""
    root = tmp_path_factory.mktemp("documents")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "flowprep.cli",
            "samples",
            str(root / "clips"),
            "--classes",
            "2",
            "--clips",
            "2",
        ],
        check=True,
        capture_output=True,
    )
    (root / "clips" / "bad.mp4").write_text("no video")
    settings = Settings(size="32x24", engine="opencv", tvl1=PRESETS["opencv"], shard_pairs=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowprep.planning.tasks.estimate_frames", lambda _: 60)
        flowprep.make_corpus([root / "clips"], root / "corpus", settings, jobs=1)
    return root / "corpus"


def test_the_plain_reader_of_the_format_reads_what_ours_reads(corpus):
    (code,) = code_blocks("FORMAT.md", "python")
    assert len(code.splitlines()) <= 60
    names: dict = {}
    exec(code, names)
    videos = list(names["read"](corpus))
    ours = flowprep.open_corpus(corpus)
    assert [v[0] for v in videos] == list(ours) and len(videos) == 4
    for name, label, frames, flow in videos:
        video = ours[name]
        assert label == video.label and len(frames) == video.num_frames
        assert np.array_equal(flow, video.flow(0, video.num_pairs))
        assert np.abs(frames[3].astype(int) - video.rgb(3)).max() <= 4  # another decoder's upsampling


def test_no_place_holder_is_left():
    assert "@@" not in (ROOT / "README.md").read_text("utf-8")


def test_the_readers_of_the_readme_run(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").symlink_to(corpus)
    blocks = code_blocks("README.md", "python")
    assert blocks
    for code in blocks:
        exec(code, {})


def test_every_command_of_the_readme_exists():
    from flowprep.cli import main
    from trainer.cli import main as trainer

    text = (ROOT / "README.md").read_text("utf-8")
    for program, group in (("flowprep", main), ("trainer", trainer)):
        used = set(re.findall(rf"^\$? ?{program} ([a-z-]+)", text, re.MULTILINE))
        assert used and used <= set(group.commands), used
        for command in group.commands:
            assert f"{program} {command}" in text, f"{program} {command} is not in the README"
