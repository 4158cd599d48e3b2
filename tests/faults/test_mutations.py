"""Thousands of damaged videos and of damaged corpora: refused, or read as they were; never a crash."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import flowprep
from flowprep.corpus.store import CorpusStore
from flowprep.corpus.video import Video
from flowprep.presets import PRESETS
from flowprep.settings import Settings
from tests.support.faults import FLOWPREP, ROOT
from tests.support.mutations import FRAMES, KINDS, MEMORY, mutants, write_kind
from tests.support.videos import write_video

VIDEOS = SHARDS = 2000
OTHERS = 500
# Formats in which nothing tells how many frames there were: a file that breaks off between two of them
# is a shorter video.
LENGTHLESS = {"flv", "mpg", "ts", "y4m"}


def show(title: str, table: Counter[tuple[str, str]], columns: list[str]) -> None:
    """Print how often each row had each outcome; `pytest -s` shows it."""
    print(f"\n{title:22}" + "".join(f"{c:>10}" for c in columns))
    for row in sorted({row for row, _ in table}):
        print(f"{row:22}" + "".join(f"{table[row, c]:10}" for c in columns))


def images(video: Video) -> list[str]:
    return [hashlib.sha256(video.stored("rgb", i)).hexdigest() for i in range(video.num_frames)]


def extract(folder: Path, out: Path) -> tuple[int, dict, int]:
    """Take the frames of a folder's videos. Returns the exit code, the summary and the peak memory in MB."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    command = [*FLOWPREP, "extract", folder, "--out", out, "--no-flow", "--size", "source", "--jobs", "2"]
    command += ["--timeout-per-video", "20", "--json"]
    # The output goes to a file, as wait4() is what tells the memory of the process and its workers.
    with (out.parent / f"{out.name}.json").open("w+") as file:
        process = subprocess.Popen(
            list(map(str, command)), stdout=file, stderr=subprocess.DEVNULL, cwd=ROOT, preexec_fn=bounded
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        file.seek(0)
        return process.returncode, json.load(file), used.ru_maxrss >> 10


def test_damaged_videos_fail_alone_and_no_frame_is_lost_where_the_file_tells_how_many_there_were(tmp_path):
    whole = [write_kind(tmp_path / "whole", *kind) for kind in KINDS]
    code, _, _ = extract(tmp_path / "whole", tmp_path / "w")
    assert code == 0
    corpus = flowprep.open_corpus(tmp_path / "w")
    expected = [images(corpus[path.name]) for path in whole]
    assert {len(pictures) for pictures in expected} == {FRAMES}
    (tmp_path / "in").mkdir()
    made = {}
    for number, (which, mutation, data) in enumerate(mutants([p.read_bytes() for p in whole], VIDEOS, 0)):
        name = f"{number:04d}.{whole[which].suffix[1:]}"
        (tmp_path / "in" / name).write_bytes(data)
        made[name] = which, mutation
    code, summary, megabytes = extract(tmp_path / "in", tmp_path / "m")
    assert code == 3 and summary["faults"] == {} and megabytes < 400
    assert summary["videos"]["pending"] == 0 and summary["videos"]["total"] == VIDEOS
    killed = [r for r in summary["failures"].values() if "killed" in r or "longer than" in r]
    assert killed == []
    damaged = flowprep.open_corpus(tmp_path / "m")
    table: Counter[tuple[str, str]] = Counter()
    for name, (which, mutation) in made.items():
        if name in summary["failures"]:
            outcome = "failed"
        else:
            pictures = images(damaged[name])
            # A decoder takes a flipped bit in a picture for a picture, where the format has no checksum.
            outcome = "same" if pictures == expected[which] else "other"
            if len(pictures) != FRAMES:
                outcome = "fewer"
                assert len(pictures) < FRAMES
                cut = mutation == "cut" and KINDS[which][0] not in LENGTHLESS
                assert not cut or len(pictures) == FRAMES - 1, (name, KINDS[which])
        table[mutation, outcome] += 1
        table[".".join(KINDS[which][1::-1]), outcome] += 1
    show(f"{VIDEOS} videos", table, ["failed", "same", "other", "fewer"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two videos with every table that a shard may have, one that failed, and an index."""
    root = tmp_path_factory.mktemp("mutations")
    for k in range(2):
        write_video(root / "in" / "a class" / f"{k}.mp4", 4, size=(32, 32), seed=k)
    (root / "in" / "bad.mp4").write_text("no video")
    settings = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"], backward=True, stabilise=True)
    flowprep.make_corpus([root / "in"], root / "corpus", settings, jobs=1)
    return root / "corpus"


@pytest.mark.parametrize(
    ("file", "number"),
    [("shards", SHARDS), ("records", OTHERS), ("plan.jsonl", OTHERS), ("index.npz", OTHERS)],
)
def test_a_damaged_corpus_is_refused_or_read_as_it_was(corpus, file, number):
    index = corpus / "index.npz"
    index.unlink(missing_ok=True)  # with it, the shard's own tables would not be asked
    if file == "index.npz":
        CorpusStore(corpus).save_index()
    name = file if "." in file else str(next((corpus / file).iterdir()).relative_to(corpus))
    outcomes = damage(corpus, name, number)
    # What is damaged is seen, or does not matter: an index that is not sound is not used.
    assert {outcome for _, outcome, _ in outcomes} == ({"same"} if file == "index.npz" else {"refused"})
    assert all(seen for _, _, seen in outcomes if seen is not None)


@pytest.mark.parametrize("file", ["last.pt", "best.pt"])
def test_a_damaged_checkpoint_is_refused(file, tmp_path):
    checkpoint, recipe = (
        pytest.importorskip("trainer.training.checkpoint"),
        pytest.importorskip("trainer.recipe.toml"),
    )
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 7), torch.nn.BatchNorm2d(16), torch.nn.Conv2d(16, 32, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.rand(2, 3, 16, 16)).sum().backward()
    optimizer.step()
    state = checkpoint.Checkpoint(
        recipe=recipe.read_recipe(ROOT / "pipelines" / "demo" / "spatial.toml"),
        classes=("Jump", "Run", "Sit"),
        heads=(3,),
        corpus=Settings(),
        examples="0" * 64,
        step=1,
        model=net.state_dict(),
        optimizer=optimizer.state_dict() if file == "last.pt" else {},
        scaler={},
        best=(0.5, -1.0),
        precision="float32",
    )
    checkpoint.save(tmp_path / file, state)
    outcomes = damage(tmp_path, file, OTHERS)
    assert {outcome for _, outcome, _ in outcomes} == {"refused"}


def damage(folder: Path, name: str, number: int) -> list[tuple[str, str, bool | None]]:
    """Damage a file so often and read it. Returns each mutation, what came of it, and if `verify` saw it."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.support.mutations", folder, name, str(number)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    outcomes = [json.loads(line) for line in process.stdout.splitlines()]
    assert process.returncode == 0, f"after {len(outcomes)}: {process.returncode} {process.stderr[-2000:]}"
    assert len(outcomes) == number
    table = Counter((mutation, outcome) for mutation, outcome, _ in outcomes)
    show(f"{number} of {name.partition('/')[0]}", table, ["refused", "same", "wrong"])
    return outcomes
