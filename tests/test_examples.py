"""Each example runs as a program, from a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from flowprep.testing.engines import EngineSuite
from tests.support.videos import write_video
from trainer.testing.models import NetworkSuite, cases_of

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(folder: Path, name: str, *arguments: object) -> str:
    """The output of an example; a failure shows its errors."""
    process = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Two classes of three short videos; one file is no video."""
    folder = tmp_path_factory.mktemp("examples") / "videos"
    for label, speed in (("left", -1.0), ("right", 1.0)):
        for number in range(3):
            path = folder / label / f"v_{label}_g{number:02d}_c01.mp4"
            write_video(path, frames=14, size=(64, 48), speed=speed, seed=number)
    (folder / "right" / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def corpus(videos) -> tuple[Path, str]:
    """The corpus that the first example writes, and its output."""
    folder = videos.parent / "corpus"
    return folder, run(videos.parent, "extract_and_read.py", videos, folder)


@pytest.mark.slow
def test_extract_and_read(corpus):
    _, output = corpus
    assert output.count("class 'left'") == output.count("class 'right'") == 3
    assert "right/broken.mp4 failed" in output


@pytest.mark.slow
def test_flow_of_a_pair(videos, tmp_path):
    capture = cv2.VideoCapture(str(next(videos.rglob("v_right*.mp4"))))
    for name in ("first.png", "second.png"):
        cv2.imwrite(str(tmp_path / name), capture.read()[1])
    output = run(tmp_path, "flow_of_a_pair.py", "first.png", "second.png")
    right = float(output.split("displacement: ")[1].split(" px")[0])
    assert 0.5 < right < 1.5


@pytest.mark.slow
def test_torch_dataset(corpus, tmp_path):
    output = run(tmp_path, "torch_dataset.py", corpus[0], 40)
    assert output.count("(4, 20, 40, 40)") == output.count("(2, 20, 40, 40)") == 2 and "epoch 1" in output
    assert "(10, 3, 20, 40, 40): 10 crops of 3 stacks of left" in output


@pytest.mark.slow
def test_train_with_clips(corpus, tmp_path):
    whole = run(tmp_path, "train_with_clips.py", corpus[0], 3).splitlines()
    (tmp_path / "clips.pt").unlink()
    parts = [run(tmp_path, "train_with_clips.py", corpus[0], epochs).splitlines() for epochs in (1, 3)]
    assert whole == parts[0] + parts[1] and len(whole) == 3


@pytest.mark.slow
def test_clips_in_numpy(corpus, tmp_path):
    lines = run(tmp_path, "clips_in_numpy.py", corpus[0]).splitlines()
    assert [line.startswith("(2, 5, 40, 40, 3) (2, 5, 2, 40, 40)") for line in lines] == [True, True, False]
    assert (
        lines[2].startswith("resumed: [")
        and len({name for line in lines for name in line.split("'")[1::2]}) == 6
    )


@pytest.mark.slow
def test_custom_engine(videos, tmp_path):
    capture = cv2.VideoCapture(str(next(videos.rglob("v_right*.mp4"))))
    for name in ("first.png", "second.png"):
        cv2.imwrite(str(tmp_path / name), capture.read()[1])
    output = run(tmp_path, "custom_engine.py", "first.png", "second.png")
    assert float(output.split(": ")[1].split(" px")[0]) < 1


class TestDisEngine(EngineSuite):
    """The custom engine passes the suite of all engines. It is no TV-L1, so it may differ."""

    engine = "examples.custom_engine:DisEngine"
    ignores_settings = True
    truth_tolerance_px = 0.3
    reference_tolerance_px = 1.0


@pytest.mark.slow
class TestSmallNetwork(NetworkSuite):
    """The own network passes the suite of all networks."""

    cases = cases_of("examples.own_network", width=8, size=64, exports=False)


@pytest.mark.slow
def test_own_network(corpus, tmp_path):
    run(tmp_path, "own_network.py")
    names = [f"{label}/v_{label}_g{number:02d}_c01.mp4" for label in ("left", "right") for number in range(3)]
    (tmp_path / "train.txt").write_text("".join(f"{n}\n" for n in names if "_g02_" not in n))
    (tmp_path / "test.txt").write_text("".join(f"{n}\n" for n in names if "_g02_" in n))
    changes = [
        *("model.name=examples.own_network", "model.width=8", "input.resize=0", "input.crop=64"),
        *(
            "train.steps=3",
            "train.batch=2",
            "train.milestones=[]",
            "train.validation_share=0",
            "test.frames=1",
        ),
    ]
    arguments = [argument for change in changes for argument in ("--set", change)]
    lists = ("--train-list", "train.txt", "--test-list", "test.txt")
    recipe = EXAMPLES.parent / "pipelines" / "demo" / "temporal.toml"
    process = subprocess.run(
        [sys.executable, "-c", "from trainer.cli import main; main()", "train", str(recipe)]
        + ["--corpus", str(corpus[0]), *lists, "--out", "run", "--workers", "0", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "test_scores.npz").exists()


@pytest.mark.slow
def test_the_cells_of_the_notebook_run(tmp_path):
    cells = json.loads((EXAMPLES / "look_at_a_corpus.ipynb").read_text("utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert not any(cell.get("outputs") for cell in cells)
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            **os.environ,
            "MPLBACKEND": "agg",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "the same as video.flow: True" in process.stdout
