"""A file system without locks, as NFS without a lock service: everything works, and nothing is set aside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.faults import FLOWPREP, QUICK, ROOT, TASKS, VIDEOS, environment, leftovers, shards
from tests.support.nolock import build
from tests.support.videos import write_video

READ = """
import fcntl, sys
import torch, flowprep

class Flow(torch.utils.data.Dataset):
    def __init__(self, path):
        self.corpus = flowprep.open_corpus(path)
        self.ids = list(self.corpus)
    def __len__(self):
        return len(self.ids)
    def __getitem__(self, i):
        video = self.corpus[self.ids[i]]
        return torch.from_numpy(video.flow(0, 3)), int(video.rgb(0).sum())

def main():
    try:
        fcntl.flock(sys.stdin, fcntl.LOCK_SH)
    except OSError as exc:
        print("no locks:", exc.strerror)
    for start in ("fork", "spawn"):
        options = {"num_workers": 2, "multiprocessing_context": start}
        loader = torch.utils.data.DataLoader(Flow(sys.argv[1]), 2, **options)
        print(start, sum(len(flow) for flow, _ in loader))

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory):
    """Run a command of flowprep, or a script, in a process without locks."""
    library = build(tmp_path_factory.mktemp("nolock"))
    if library is None:
        pytest.skip("no C compiler")

    def without_locks(*command: object, script: Path | None = None) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(script)] if script else FLOWPREP
        return subprocess.run(
            [*words, *map(str, command)],
            env=environment(LD_PRELOAD=str(library)),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    return without_locks


def test_a_file_system_without_locks(videos, tmp_path, run):
    corpus = tmp_path / "c"
    assert run("extract", videos, "--out", corpus, *QUICK, "--jobs", 2).returncode == 0
    undisturbed = shards(corpus)
    assert len(undisturbed) == TASKS and leftovers(corpus) == []
    script = tmp_path / "read.py"
    script.write_text(READ)
    done = run(corpus, script=script)
    assert done.stdout.splitlines() == [
        "no locks: No locks available",
        f"fork {VIDEOS}",
        f"spawn {VIDEOS}",
    ], done.stderr
    lists = tmp_path / "x" / "flow_all.txt"
    for command in (
        ("verify", corpus),
        ("verify", corpus, "--repair"),
        ("status", corpus),
        ("info", corpus, "--list"),
        ("index", corpus),
        ("retry", corpus, "--retry-failed"),
        ("run-task", corpus, "--array"),
        ("export", corpus, "--out", tmp_path / "x", "--layout", "mmaction2"),
        ("export", corpus, "--out", tmp_path / "w", "--layout", "webdataset"),
        ("import", tmp_path / "x", "--out", tmp_path / "i", "--layout", "mmaction2", "--range", "20"),
        ("subset", corpus, "--out", tmp_path / "s", "--select", "[0-3]*"),
        ("subset", corpus, "--out", tmp_path / "t", "--select", "[4-7]*"),
        ("merge", tmp_path / "s", tmp_path / "t", "--out", tmp_path / "m"),
        ("repack", corpus, "--out", tmp_path / "r", "--shard-pairs", "100"),
        ("verify", tmp_path / "m"),
        ("report", corpus, "--out", tmp_path / "r.html"),
    ):
        done = run(*command)
        assert done.returncode == 0, (command, done.stderr)
    assert not (corpus / "damaged").exists() and shards(corpus) == undisturbed and lists.exists()


def test_a_failed_video_is_retried_without_locks(tmp_path, run):
    folder = tmp_path / "in"
    write_video(folder / "a.mp4", 9)
    (folder / "b.mp4").write_bytes(b"no video yet")
    assert run("extract", folder, "--out", tmp_path / "c", *QUICK).returncode == 3
    write_video(folder / "b.mp4", 9, seed=1)
    assert run("retry", tmp_path / "c", "--retry-failed").returncode == 0
    assert run("verify", tmp_path / "c").returncode == 0
