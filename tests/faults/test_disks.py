"""Disks that are full or read-only, shards that are damaged: a clear end, and nothing published is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from flowprep.corpus.store import CorpusStore
from flowprep.corpus.verify import verify_corpus
from tests.support.faults import FLOWPREP, OPTIONS, QUICK, TASKS, VIDEOS, environment, leftovers, shards
from tests.support.videos import write_video


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, text=True
    )
    if mounting.returncode:
        pytest.skip(f"mounting is not allowed here: {mounting.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def quick_corpus(videos, tmp_path_factory) -> Path:
    """A corpus whose codes are those of all layouts."""
    corpus = tmp_path_factory.mktemp("quick") / "c"
    command = [*FLOWPREP, "extract", str(videos), "--out", str(corpus), *QUICK]
    subprocess.run(command, check=True, capture_output=True)
    return corpus


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk(jobs, small_disk, videos, undisturbed, start):
    """All shards together and their records take more than the disk has."""
    corpus = small_disk / "c"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(700_000))
    process = start("extract", videos, "--out", corpus, *OPTIONS, "--jobs", jobs)
    _, err = process.communicate()
    assert process.returncode == 1 and "Traceback" not in err
    found = re.search(r"No space left on device: more than (\d+) bytes are needed in (\S+), (\d+) are", err)
    assert found and found[2].startswith(str(corpus)) and str(corpus / "shards") in err, err
    assert leftovers(corpus) == [] and verify_corpus(CorpusStore(corpus)).problems == ()
    done = shards(corpus)
    assert 0 < len(done) < TASKS and done.items() <= undisturbed.items()
    filler.unlink()
    process = start("extract", videos, "--out", corpus, *OPTIONS, "--jobs", jobs)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert shards(corpus) == undisturbed


@pytest.mark.parametrize(
    "command",
    [
        ["export", "--layout", "npy"],
        ["export", "--layout", "flo"],
        ["export", "--layout", "tsn"],
        ["export", "--layout", "webdataset"],
        ["repack", "--shard-pairs", "100"],
        ["report"],
    ],
    ids=lambda words: words[-1],
)
def test_a_full_disk_of_other_writers(command, small_disk, quick_corpus, start):
    """`export --layout npy` died by SIGBUS."""
    (small_disk / "filler").write_bytes(bytes(1_020_000))
    process = start(command[0], quick_corpus, "--out", small_disk / "x", *command[1:])
    _, err = process.communicate()
    assert process.returncode == 1 and "Traceback" not in err
    assert re.search(
        r"No space left on device: (more than )?\d+ bytes are needed in \S+, \d+ are free", err
    ), err
    assert err.startswith(f"error: {small_disk / 'x'}"), err
    assert not list(small_disk.rglob("*.tmp"))


def test_a_full_scratch_disk(small_disk, tmp_path, videos, start):
    (small_disk / "filler").write_bytes(bytes(1_030_000))
    process = start("extract", videos, "--out", tmp_path / "c", *OPTIONS, "--scratch", small_disk)
    _, err = process.communicate()
    assert process.returncode == 1 and str(small_disk) in err and "are free" in err
    assert [p.name for p in small_disk.iterdir()] == ["filler"] and leftovers(tmp_path / "c") == []


def test_a_read_only_corpus(small_disk, videos, start):
    corpus = small_disk / "c"
    assert start("plan", videos, "--out", corpus, *OPTIONS).wait() == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = start("run-task", corpus, "--array")
    _, err = process.communicate()
    assert process.returncode == 1 and "Read-only file system" in err and str(corpus) in err
    assert "Traceback" not in err


def test_a_folder_that_may_not_be_written(videos, tmp_path, start):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    (tmp_path / "c").mkdir(mode=0o500)
    process = start("extract", videos, "--out", tmp_path / "c", *OPTIONS)
    _, err = process.communicate()
    assert process.returncode == 1 and "Permission denied" in err and "Traceback" not in err


def test_damaged_shards_are_set_aside_and_made_again(videos, undisturbed, tmp_path, start):
    corpus = tmp_path / "c"
    assert start("extract", videos, "--out", corpus, *OPTIONS).wait() == 0
    first, second, third = sorted((corpus / "shards").iterdir())[:3]
    data = bytearray(first.read_bytes())
    data[-100] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-50])
    (corpus / "records" / f"{third.stem}.json").write_text("{")
    process = start("verify", corpus, "--repair", "--json")
    report = json.loads(process.communicate()[0])
    assert process.returncode == 1 and report["set_aside"] == [first.name, second.name, third.name]
    assert len(list((corpus / "damaged").iterdir())) == 6
    process = start("retry", corpus, "--json")
    summary = json.loads(process.communicate()[0])
    assert process.returncode == 0 and summary["run"]["pairs"] < VIDEOS * 13
    assert shards(corpus) == undisturbed and verify_corpus(CorpusStore(corpus)).problems == ()


def test_metrics_are_those_of_the_records(videos, tmp_path, start):
    write_video(tmp_path / "in" / "short.mp4", 1)
    write_video(tmp_path / "in" / "whole.mp4", 9)
    metrics = tmp_path / "flowprep.prom"
    corpus = tmp_path / "c"
    process = start(
        "extract", tmp_path / "in", "--out", corpus, *OPTIONS, "--metrics", metrics, env=environment()
    )
    assert process.wait() == 3
    values = dict(line.rsplit(" ", 1) for line in metrics.read_text().splitlines())
    assert values["flowprep_pairs_total"] == "8" and values["flowprep_faults_total"] == "0"
    assert values['flowprep_videos_total{status="ok"}'] == "1"
    assert values['flowprep_failures_total{reason="too few frames"}'] == "1"
    stored = sum(p.stat().st_size for p in (corpus / "shards").iterdir())
    assert float(values['flowprep_bytes_total{of="shard"}']) == pytest.approx(stored, rel=1e-4)
    assert float(values['flowprep_stage_seconds_total{stage="decode"}']) > 0
