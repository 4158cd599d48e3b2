"""Imports go downward only, and importing flowprep is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the lowest to the highest; a module imports only from layers below its own, or from its own package.
LAYERS = [
    {"flowprep.errors"},
    {"flowprep.system"},
    {"flowprep.validation"},
    {"flowprep.parameters"},
    {"flowprep.presets"},
    {"flowprep.settings"},
    {"flowprep.codec", "flowprep.video"},
    {
        "flowprep.corpus",
        "flowprep.engines",
        "flowprep.flo",
        "flowprep.reports.charts",
        "flowprep.reports.html",
        "flowprep.reports.numbers",
        "flowprep.stabilisation",
        "flowprep.synthetic",
        "flowprep.viz",
    },
    {"flowprep.planning"},
    {"flowprep.clips"},
    {"flowprep.extraction", "flowprep.torch"},
    {"flowprep.executors"},
    {"flowprep.api", "flowprep.convert", "flowprep.reports.statistics"},
    {"flowprep.doctor", "flowprep.reports", "flowprep.viz.computed", "flowprep.viz.sources"},
    {"flowprep.bench", "flowprep.testing"},
    {"flowprep.cli"},
]
# What the trainer may know of flowprep: the public names, pictures, pages, errors, how processes keep apart.
PUBLIC = {
    "flowprep",
    "flowprep.viz",
    "flowprep.reports.charts",
    "flowprep.reports.html",
    "flowprep.reports.numbers",
    "flowprep.cli.arguments",
    "flowprep.cli.command",
    "flowprep.cli.options",
    "flowprep.cli.output",
    "flowprep.corpus.names",
    "flowprep.errors",
    "flowprep.planning.class_index",
    "flowprep.planning.list_entries",
    "flowprep.planning.list_lines",
    "flowprep.planning.list_matching",
    "flowprep.planning.video_lists",
    "flowprep.system.atomic",
    "flowprep.system.buffers",
    "flowprep.system.disk",
    "flowprep.system.files",
    "flowprep.system.jit",
    "flowprep.system.leases",
    "flowprep.system.paths",
    "flowprep.system.processes",
    "flowprep.system.progress",
    "flowprep.system.signals",
    "flowprep.system.threads",
}


def modules(package: str) -> dict[str, Path]:
    """Name -> file of every module of a package."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it but under TYPE_CHECKING."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = [
        n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
    ]
    passed = {id(inner) for n in typing_only for inner in ast.walk(n)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from flowprep import codec` imports flowprep.codec.quantise
            whole = {f"{node.module}.{a.name}" for a in node.names}
            names |= {w for w in whole if w in modules("flowprep")} or {str(node.module)}
    return names


def layer(module: str) -> int:
    """Number of the layer that a module is in."""
    # The longest name counts: flowprep.viz.sources lies above the rest of flowprep.viz.
    places = {name: number for number, names in enumerate(LAYERS) for name in names}
    parts = module.split(".")
    for end in range(len(parts), 1, -1):
        if (name := ".".join(parts[:end])) in places:
            return places[name]
    raise AssertionError(f"{module} is in no layer: add it to LAYERS")


@pytest.mark.parametrize("module", sorted(set(modules("flowprep")) - {"flowprep"}))
def test_flowprep_imports_downward(module):
    for name in imports(modules("flowprep")[module]):
        assert not name.startswith("trainer"), f"{module} imports {name}"
        # From the package itself only its version: the public names lead back up.
        assert name != "flowprep" or "__version__" in modules("flowprep")[module].read_text("utf-8")
        if name.startswith("flowprep."):
            same = name.split(".")[:2] == module.split(".")[:2]
            assert (same and layer(name) <= layer(module)) or layer(name) < layer(module), (
                f"{module} imports {name}"
            )


@pytest.mark.parametrize("module", sorted(modules("trainer")))
def test_the_trainer_knows_only_public_names(module):
    for name in imports(modules("trainer")[module]):
        if name.split(".")[0] == "flowprep":
            assert name in PUBLIC, f"{module} imports {name}"


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        (
            "flowprep",
            ["torch", "dask", "distributed", "numba", "cuda", "cv2", "av", "h5py", "numpy", "trainer"],
        ),
        ("flowprep.cli", ["torch", "numba", "cv2", "av", "h5py"]),
        ("flowprep.viz", ["torch", "numba", "av", "h5py"]),
        ("flowprep.corpus.reader", ["torch", "numba", "av", "trainer"]),
        ("flowprep.clips.epochs", ["torch", "numba", "av", "trainer"]),
    ],
)
def test_importing_loads_nothing_heavy(module, unwanted):
    code = f"import {module}, sys; print([m for m in {unwanted!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
