"""What is installed works without the clone: from a wheel, and beside a folder of the package's name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("flowprep", "trainer", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command without this checkout on its path."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources in a folder that is named like the package."""
    folder = tmp_path_factory.mktemp("work") / "flowprep"
    folder.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    run(*pip, "--wheel-dir", folder, clone, cwd=folder)
    (path,) = folder.glob("flowprep-*.whl")
    return path


def environment(folder: Path) -> Path:
    """A virtual environment that sees this one's libraries, but not this checkout. Returns its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is searched for packages; the .pth files in it, as the checkout's, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin" / "python"


def install(python: Path, *what: object) -> None:
    """Install into another environment, with nothing from the network."""
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q"]
    run(*pip, "--no-deps", "--no-build-isolation", *what, cwd=python.parent)


def test_the_wheel_holds_all_files_that_the_packages_need(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("flowprep/py.typed", "trainer/py.typed", "flowprep/engines/cuda/tvl1/iterate.cu"):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "pipelines/", "docs/"))]


def test_the_demo_runs_from_an_installed_wheel(wheel, tmp_path):
    python = environment(tmp_path / "venv")
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    where = run(
        python, "-c", "import flowprep, trainer; print(flowprep.__file__, trainer.__file__)", cwd=tmp_path
    )
    assert all(Path(path).is_relative_to(tmp_path) for path in where.stdout.split())
    program = python.with_name("flowprep"), python.with_name("trainer")
    run(program[0], "samples", "clips", "--classes", "2", "--clips", "4", cwd=tmp_path)
    run(program[0], "extract", "clips", "--out", "corpus", "--size", "source", cwd=tmp_path)
    run(program[0], "verify", "corpus", cwd=tmp_path)
    lists = [f"--{kind}-list=clips/splits/{kind}list01.txt" for kind in ("train", "test")]
    small = "input.crop=48 train.steps=3 train.milestones=[] train.batch=4 test.frames=2 test.crops=1"
    changes = [f"--set={change}" for change in small.split()]
    for stream in ("spatial", "temporal"):
        recipe = ROOT / "pipelines" / "demo" / f"{stream}.toml"
        where = ["--corpus=corpus", "--class-index=clips/splits/classInd.txt", "--out", stream]
        run(program[1], "train", recipe, *lists, *where, *changes, "--workers=0", cwd=tmp_path)
    run(program[1], "fuse", "spatial", "temporal", "--out", "fused.npz", cwd=tmp_path)
    scores = run(program[1], "scores", "fused.npz", cwd=tmp_path)
    assert "%" in scores.stdout


def test_an_editable_install_works_beside_a_folder_of_its_name(clone, tmp_path):
    """The clone's folder, seen from above, must not pass for the package."""
    python = environment(tmp_path / "venv")
    install(python, "--editable", clone)
    code = "import flowprep, trainer; print(flowprep.open_corpus.__module__, flowprep.__file__)"
    done = run(python, "-c", code, cwd=clone.parent)
    assert done.stdout.split() == ["flowprep.corpus.reader", str(clone / "flowprep" / "__init__.py")]
