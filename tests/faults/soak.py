"""Extract for a long time, with broken videos and killed workers among it: nothing may pile up.

python -m tests.faults.soak [MINUTES]   20 if not given

One process extracts the same videos again and again, each time into a new corpus with the same workers. Every
round's memory, open files, threads and temporary files are printed; the last rounds must not have more than
the first ones. Exits with 1 and says what grew if they have.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import flowprep
from flowprep.presets import PRESETS
from flowprep.settings import Settings
from tests.support.faults import children, leftovers, shards
from tests.support.videos import write_video

SETTINGS = Settings(size="source", engine="cpu", tvl1=PRESETS["fast"], shard_pairs=5)
# A worker that was killed is replaced, and the kernel gives memory back when it likes.
SLACK = {"MB": 30.0, "files": 8.0, "threads": 4.0, "temporary": 0.0}


def use(process: int) -> dict[str, float]:
    """Memory in MB, open files and threads of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
    )
    files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return {"MB": int(status["VmRSS"].split()[0]) / 1024, "files": files, "threads": int(status["Threads"])}


def together(processes: list[int]) -> dict[str, float]:
    """The sums over some processes, and how many temporary files of ours there are."""
    found = []
    for process in processes:
        with suppress(OSError):
            found.append(use(process))
    sums = {name: sum(one[name] for one in found) for name in ("MB", "files", "threads")}
    return {**sums, "temporary": len(list(Path(tempfile.gettempdir()).glob("flowprep-*")))}


def main(minutes: float) -> int:
    """Run, print and judge."""
    rng = random.Random(0)
    rows: list[dict[str, float]] = []
    expected: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder  # others' temporary files are not counted
        root = Path(folder)
        for k in range(6):
            write_video(root / "in" / f"{k}.mp4", 14, size=(64, 48), seed=k)
        (root / "in" / "bad.mp4").write_text("no video")
        cut = write_video(root / "in" / "cut.avi", 30, size=(64, 48))
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            out = root / "corpus"
            result = flowprep.make_corpus([root / "in"], out, SETTINGS, jobs=2)
            assert result.faults == {} and sorted(result.status.failures) == ["bad.mp4", "cut.avi"]
            assert flowprep.open_corpus(out)["0.mp4"].flow(0, 5).any()
            expected = expected or shards(out)
            assert shards(out) == expected and leftovers(out) == []
            shutil.rmtree(out)
            workers = children(os.getpid(), "popen_loky_posix")
            rows.append(together([os.getpid(), *workers]))
            print(len(rows), *(f"{name} {value:.0f}" for name, value in rows[-1].items()), flush=True)
            if workers and len(rows) % 10 == 0:
                os.kill(rng.choice(workers), signal.SIGKILL)
    third = len(rows) // 3
    if not third:
        print("too few rounds to judge: give it more minutes")
        return 1
    grown = []
    for name, slack in SLACK.items():
        # The first rounds start workers and compile; what piles up does so to the end.
        middle = statistics.median(row[name] for row in rows[third : 2 * third])
        last = statistics.median(row[name] for row in rows[-third:])
        print(f"{name}: {middle:.0f} in the second third of {len(rows)} rounds, {last:.0f} in the last")
        if last > middle + slack:
            grown.append(name)
    print(f"grown: {', '.join(grown) or 'nothing'}")
    return bool(grown)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 20))
