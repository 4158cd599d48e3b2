"""The public names of trainer, and what importing them loads."""

import ast
import inspect
import subprocess
import sys

import pytest

import trainer


def test_all_public_names_exist():
    assert all(getattr(trainer, name) is not None for name in trainer.__all__)
    assert dir(trainer) == trainer.__all__
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'judge'; it has "):
        _ = trainer.judge


def test_type_checkers_see_the_same_names():
    tree = ast.parse(inspect.getsource(trainer))
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert set(seen) == set(trainer.__all__)
    assert all(getattr(sys.modules[module], name) is getattr(trainer, name) for name, module in seen.items())


@pytest.mark.parametrize("module", ["trainer", "trainer.api", "trainer.cli", "trainer.errors"])
def test_importing_does_not_load_torch(module):
    code = (
        f"import {module}, sys; print([m for m in ('torch', 'sklearn', 'cv2', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", __file__, "--corpus", ".", "--train-list", "a", "--test-list", "b", "--out", "run"],
        ["fuse", __file__, __file__, "--method", "svm"],
        ["predict", __file__],
        ["report", "--corpus", "."],
        ["scores", "no such file"],
    ],
)
def test_wrong_use_is_answered_before_torch_is_loaded(arguments, tmp_path):
    code = (
        "import sys; from trainer.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print([m for m in ('torch', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert done.stdout.strip() == "[]"
