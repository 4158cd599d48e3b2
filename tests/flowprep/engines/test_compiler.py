"""Machine code for GPUs: it is compiled without a GPU, fits in registers, and is cached."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flowprep.engines.cuda import compiler
from flowprep.engines.cuda.compiler import compile_source, nvrtc_version, resource_report
from flowprep.engines.cuda.kernels import Tile, kernel_source, tile_for
from flowprep.errors import EngineError
from flowprep.presets import PRESETS, Tvl1Settings
from tests.support.cached import cached_file
from tests.support.cuda_host import HostDevice

pytestmark = pytest.mark.skipif(
    find_spec("cuda") is None or find_spec("cuda.bindings") is None,
    reason="NVRTC is not installed: pip install '.[cuda]'",
)

# Settings for which more code is compiled.
MORE_CODE: list[dict[str, Any]] = [
    {"coupled": True, "huber": 0.01, "edge": 0.1, "keep_dual": True},
    {"median_stride": 2, "median_occlusion": 7.0, "median_warps": 1},
    {"still": 2.0, "median_occlusion": 7.0, "keep_dual": True},
    {"coupled": True, "settle": 0.01},
]
# Largest shared memory of a thread block, KiB.
ARCHITECTURES = {"sm_75": 64, "sm_80": 163, "sm_86": 99, "sm_90": 227, "sm_100": 227}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("FLOWPREP_CACHE_DIR", str(tmp_path))
    return tmp_path / "flowprep-cuda"


SETTINGS = [*PRESETS.values(), *(replace(PRESETS["best"], **change) for change in MORE_CODE)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("tvl1", SETTINGS, ids=[*PRESETS, *map(str, MORE_CODE)])
def test_no_kernel_spills_its_state(arch: str, tvl1: Tvl1Settings) -> None:
    # Without a GPU, this is the only test of speed.
    tile = tile_for(HostDevice(shared_bytes=ARCHITECTURES[arch] << 10), tvl1)
    source = kernel_source(tvl1, tile)
    key = repr((source, arch, compiler.OPTIONS, nvrtc_version(), "report")).encode()
    path = cached_file(key, ".txt", lambda path: path.write_text(resource_report(source, arch)))
    entries = re.findall(r"entry function '(\w+)'.*?(\d+) bytes spill stores", path.read_text(), re.S)
    spilled = {kernel: int(size) for kernel, size in entries}
    median = "weighted_median" if tvl1.median_grey else "median"
    assert {"iterate", median, "warp", "grow", "finish"} <= set(spilled)
    assert max(spilled.values()) <= 128, spilled  # bytes of a thread: its state has 48 x STAGES


@pytest.mark.parametrize("bounds", [False, True])
def test_a_build_that_checks_bounds_compiles(bounds: bool, cache: Path) -> None:
    code = compile_source(kernel_source(PRESETS["best"], Tile(), bounds), "sm_90")
    assert code[:4] == b"\x7fELF" and (b"index %lld of %lld" in code) == bounds


def test_machine_code_is_cached_and_the_cache_may_be_missing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = 'extern "C" __global__ void nothing() {}'
    code = compile_source(source, "sm_90")
    (file,) = cache.iterdir()
    assert file.read_bytes() == code
    file.write_bytes(b"from the cache")
    assert compile_source(source, "sm_90") == b"from the cache"
    assert compile_source(source, "sm_80") not in (code, b"from the cache")
    monkeypatch.setattr(compiler, "cache_folder", lambda *_: None)
    assert compile_source(source, "sm_90")[:4] == b"\x7fELF"


def test_a_fault_in_the_source_is_an_error(cache: Path) -> None:
    with pytest.raises(EngineError, match="NVRTC could not compile the kernels for sm_90"):
        compile_source("this is no C++", "sm_90")
    assert not list(cache.iterdir())
