"""The benchmark of the decoder on a small corpus: what it checks, and what it prints."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import flowprep
from flowprep.codec import decode_jpeg
from flowprep.presets import PRESETS
from flowprep.settings import Settings
from tests.support.videos import write_video

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "pipelines" / "bench" / "decode.py"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("decode")
    write_video(root / "in" / "a" / "1.mp4", 13, size=(48, 40), speed=2)
    write_video(root / "in" / "a" / "2.mp4", 14, size=(48, 40), speed=-1)
    settings = Settings(size="source", engine="opencv", tvl1=PRESETS["opencv"])
    flowprep.make_corpus([root / "in"], root / "corpus", settings, jobs=1)
    return root / "corpus"


@pytest.fixture
def run(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Exit code and output of the script."""

    def script(*args: str) -> tuple[int, str]:
        monkeypatch.setattr("flowprep.bench.read.ROUNDS", 1)
        monkeypatch.setattr(sys, "argv", ["decode.py", str(path), "--fields", "4", *args])
        code = runpy.run_path(str(SCRIPT), run_name="script")["main"]()
        return code, capsys.readouterr().out

    return script


def test_every_field_is_checked_and_timed(run: Callable[..., tuple[int, str]]) -> None:
    code, output = run("--json")
    result = json.loads(output)
    assert code == 0
    assert result["check"] == {"fields": 50, "results": 100, "refused": 0, "different": 0}
    assert list(result["fields"]) == ["still", "medium", "violent", "all"]
    sizes = [row["bytes"] for row in result["fields"].values()]
    assert sizes[0] < sizes[1] < sizes[2] and min(row["ours_us"] for row in result["fields"].values()) > 0
    assert result["read"]["code_stacks"]["threads"]["threads"] == 2


def test_other_bytes_are_counted_and_the_exit_code_is_1(
    run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    right, refused = decode_jpeg.decode_fields, decode_jpeg.REFUSED

    def wrong(*arguments, **options):
        statuses = right(*arguments, **options)
        statuses[0] = refused
        arguments[6][-1, -1, -1] ^= 1  # `out`
        return statuses

    monkeypatch.setattr(decode_jpeg, "decode_fields", wrong)
    code, output = run()
    first = output.splitlines()[0]
    # 4 streams of 2 results, each of 2 calls: of all fields and in windows, of the even and the odd ones.
    assert (
        code == 1
        and first
        == "50 fields, 100 results (whole; in windows; half mirrored): 16 left to OpenCV, 16 different"
    )
