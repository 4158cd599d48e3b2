"""The driver module, with a fake libcuda.so.1 whose GPUs run kernels on the host.

The Python side is real: cuda.bindings loads the fake library as it would load NVIDIA's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import flowprep
from flowprep.engines.cuda.compiler import compile_source
from flowprep.engines.cuda.kernels import kernel_source, tile_for
from flowprep.presets import PRESETS
from tests.support.cuda_host import HostDevice, compiler, library
from tests.support.videos import write_video

SUPPORT = Path(__file__).parents[2] / "support"
PRELUDE = """
import json, logging, sys
import numpy as np
from flowprep.engines import gpu_fault, make_engine, resolve
from flowprep.engines.cuda import driver
from flowprep.engines.cuda.engine import CudaEngine
from flowprep.errors import FlowprepError
from flowprep.presets import PRESETS

y, x = np.mgrid[:34, :47]
frames = np.stack([128 + 60 * np.sin((x - t) / 3) + 50 * np.cos((y + t / 2) / 4) for t in range(4)])
frames = frames.astype(np.uint8)
accurate = PRESETS["accurate"]
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run Python code in a process that finds a driver of fake GPUs."""
    if not find_spec("cuda") or not find_spec("cuda.bindings"):
        pytest.skip("cuda.bindings is not installed: pip install '.[cuda]'")
    folder = tmp_path_factory.mktemp("driver")
    command = [compiler(), "-O1", "-fPIC", "-shared", "-w", str(SUPPORT / "fake_libcuda.cc")]
    subprocess.run([*command, "-o", str(folder / "libcuda.so.1"), "-ldl"], check=True)
    cache = folder / "cache"
    source = kernel_source(PRESETS["accurate"], tile_for(HostDevice(), PRESETS["accurate"]))
    environment = {
        "LD_LIBRARY_PATH": str(folder),
        "FAKE_CUDA_KERNELS": str(library(source)),
        "FAKE_CUDA_LOG": str(folder / "log"),
        "FLOWPREP_CACHE_DIR": str(cache),
    }
    # NVRTC fails beside the fake driver: machine code is compiled before.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWPREP_CACHE_DIR", str(cache))
        compile_source(source, "sm_90")

    def run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
        (folder / "log").unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + code],
            env={**os.environ, **environment, **more},
            cwd=Path(flowprep.__file__).parents[1],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        done.log = (folder / "log").read_text() if (folder / "log").exists() else ""  # type: ignore[attr-defined]
        return done

    return run


def test_an_engine_on_a_driver_is_an_engine(fake: Run) -> None:
    done: Any = fake("""
engine = make_engine("cuda", accurate)
expected = make_engine("cpu", accurate).solve(frames, [0, 1, 2], [1, 2, 3])
for _ in range(3):
    assert np.abs(engine.solve(frames, [0, 1, 2], [1, 2, 3]) - expected).mean() < 3e-3
single = CudaEngine(accurate, max_batch_pairs=1)
assert np.abs(single.solve(frames, [0, 1, 2], [1, 2, 3]) - expected).mean() < 3e-3
print(resolve("auto"), driver.gpus()[0].name, driver.driver_version())
""")
    assert done.stdout == "cuda Fake GPU 0 13.0\n"
    assert ", 2 graphs" in done.log  # the second and third time


def test_without_a_gpu_auto_is_cpu_and_cuda_says_why(fake: Run) -> None:
    done = fake('print(resolve("auto")); print(gpu_fault())', FAKE_CUDA_GPUS="0")
    assert done.stdout == "cpu\nengine cuda: the driver finds no GPU; look at the output of nvidia-smi\n"
    assert "engine auto is cpu" in done.stderr


def test_a_kernel_that_fails_is_named_and_the_device_opened_again(fake: Run) -> None:
    done = fake(
        """
import os
try:
    make_engine("cuda", accurate).solve(frames, [0], [1])
except FlowprepError as exc:
    print(type(exc).__name__, exc)
del os.environ["FAKE_CUDA_BROKEN"]
import ctypes
ctypes.CDLL(None).unsetenv(b"FAKE_CUDA_BROKEN")
print(make_engine("cuda", accurate).solve(frames, [0], [1]).shape)
""",
        FAKE_CUDA_BROKEN="warp",
    )
    assert done.stdout == (
        "EngineError kernel warp: the GPU's driver: CUDA_ERROR_LAUNCH_FAILED\n(1, 2, 34, 47)\n"
    )


def test_numbers_of_gpus(fake: Run) -> None:
    done = fake(
        """
for text in (None, "all", "1", "1,0", "2", "0,0", "one", ""):
    try:
        print(driver.chosen_gpus(text))
    except FlowprepError as exc:
        print(exc)
print(driver.open_device(1).gpu.name)
print(make_engine("cuda", accurate, device=1).solve(frames, [0], [1]).shape)
try:
    driver.open_device(2)
except FlowprepError as exc:
    print(exc)
""",
        FAKE_CUDA_GPUS="2",
    )
    wrong = "devices is {!r}; allowed: all, or numbers with commas of 0 (Fake GPU 0), 1 (Fake GPU 1)"
    assert done.stdout.splitlines() == [
        "(0, 1)",
        "(0, 1)",
        "(1,)",
        "(1, 0)",
        *(wrong.format(text) for text in ("2", "0,0", "one", "")),
        "Fake GPU 1",
        "(1, 2, 34, 47)",
        "engine cuda: there is no GPU 2; allowed: 0 to 1 (Fake GPU 0, Fake GPU 1)",
    ]


EXTRACT = """
from pathlib import Path
from flowprep.api import plan_corpus
from flowprep.executors.base import RunOptions
from flowprep.executors.run import run_tasks
from flowprep.settings import Settings
for name in ("shards", "records"):
    (Path(OUT) / name).mkdir(parents=True)
planned = plan_corpus([CLIPS], OUT, Settings(engine="cuda", size="source", shard_pairs=2))
plan = planned.plan
faults = run_tasks(planned.store, plan.tasks, plan.settings, RunOptions(jobs=4)).faults
done = [json.loads(p.read_text())["totals"]["pairs"] for p in (Path(OUT) / "records").iterdir()]
print(json.dumps([plan.settings.engine, len(plan.tasks), len(done), sum(done), list(faults.values())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", [None, "0"])
def test_tasks_are_shared_out_over_gpus_and_a_lost_one_loses_few(
    fake: Run, tmp_path: Path, lost: str | None
) -> None:
    for n in range(8):
        write_video(tmp_path / "clips" / f"{n}.mp4", 3, seed=n)
    code = f"CLIPS, OUT = {str(tmp_path / 'clips')!r}, {str(tmp_path / 'corpus')!r}\n" + EXTRACT
    more = {"FAKE_CUDA_LOST": lost} if lost else {}
    done: Any = fake(code, FAKE_CUDA_GPUS="2", **more)
    engine, tasks, records, pairs, faults = json.loads(done.stdout)
    assert (engine, tasks) == ("cuda", 8)
    if lost is None:
        assert (records, pairs, faults) == (8, 16, [])
        assert "GPU 0:" in done.log and "GPU 1:" in done.log
    else:
        assert 1 <= len(faults) <= 2  # each of its two processes may have had one
        assert all("CUDA_ERROR_LAUNCH_FAILED" in fault for fault in faults)
        assert records == 8 - len(faults) and "GPU 0 gets no more tasks" in done.stderr
