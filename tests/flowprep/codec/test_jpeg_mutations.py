"""Damaged and forged JPEGs, and other processors. `tests/faults` has ten times as many files."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from tests.support.jpeg_mutations import rows, try_mutants
from tests.support.processors import of_processor, run_python


def test_damaged_files_are_decoded_like_opencv_or_refused() -> None:
    outcome = try_mutants(2000, seed=2)
    assert outcome.otherwise == []
    decoded = {row["damage"] for row in rows(outcome) if row["decoded"]}
    assert {"scan_bits", "coefficients", "huffman", "steps"} <= decoded, "damage is refused without a look"


# Other processors: numba compiles for them in a process of its own.

COMPILE_FOR_ARM = """
import json
from tests.support.jpeg_mutations import try_mutants
from tests.support.processors import compile_for_arm
print(json.dumps([try_mutants(300, 5).otherwise, compile_for_arm("flowprep.codec")]))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86 processors")
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3"])
def test_other_processors_give_the_same_bytes(processor: str) -> None:
    program = ("-m", "tests.support.jpeg_mutations", "1000", "3")
    result = json.loads(run_python(*program, **of_processor(processor)))
    assert result["otherwise"] == []
    assert result["counts"] == rows(try_mutants(1000, 3))


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the name of an x86 processor")
def test_the_decoder_compiles_for_arm(tmp_path: Path) -> None:
    """LLVM translates it, and it has no instruction of x86. No test runs it on ARM."""
    variables = {"NUMBA_CACHE_DIR": str(tmp_path), **of_processor("x86-64")}
    otherwise, foreign = json.loads(run_python("-c", COMPILE_FOR_ARM, **variables))
    assert otherwise == []
    assert {name: names for name, names in foreign.items() if names} == {}
    assert any(name.startswith("flowprep.codec.scan.") for name in foreign)
