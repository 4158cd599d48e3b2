"""Programs for which numba compiles as for another processor."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Numba's references are counted by an instruction that x86 has; on ARM numba uses another one.
_COUNTS_REFERENCES = "llvm.x86.atomic.sub.cc.i64"


def run_python(*arguments: str, **variables: str) -> str:
    """What a Python program prints that runs in a process of its own.

    Args:
        arguments: of the interpreter: a command, or a module.
        variables: of the environment.
    """
    process = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert process.returncode == 0, f"{process.returncode}: {process.stdout[-2000:]}{process.stderr[-4000:]}"
    return process.stdout


def of_processor(name: str) -> dict[str, str]:
    """The variables that make numba compile for a processor, such as x86-64-v3, without more."""
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""}


def compile_for_arm(package: str) -> dict[str, list[str]]:
    """Compile the functions of a package that numba has compiled in this process, for 64-bit ARM.

    They must not come from a cache, which has machine code only.

    Returns:
        For each function the names of LLVM's functions in it that only x86 has.

    Raises:
        AssertionError: the result is not an object file of 64-bit ARM.
    """
    import llvmlite.binding as llvm
    from numba.core.dispatcher import Dispatcher

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = "aarch64-unknown-linux-gnu"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu="generic", opt=3)
    foreign: dict[str, list[str]] = {}
    for name, module in list(sys.modules.items()):
        functions = vars(module).items() if name.startswith(package) else ()
        for function_name, function in functions:
            if not isinstance(function, Dispatcher):
                continue
            for code in _codes(function):
                names = set(re.findall(r"llvm\.x86[\w.]*", code)) - {_COUNTS_REFERENCES}
                foreign[f"{name}.{function_name}"] = sorted(names)
                if not names:
                    portable = llvm.parse_assembly(_without_target(code))
                    portable.triple, portable.data_layout = triple, str(machine.target_data)
                    head = machine.emit_object(portable)[:20]
                    assert head[:4] == b"\x7fELF" and head[18:20] == b"\xb7\0"
    return foreign


def _codes(function: Any) -> list[str]:
    """LLVM's code of all versions of a function."""
    return list(function.inspect_llvm().values())


def _without_target(code: str) -> str:
    code = re.sub(r"^target (triple|datalayout) = .*$", "", code, flags=re.MULTILINE)
    return code.replace(f"@{_COUNTS_REFERENCES}", "@count_references").replace("immarg", "")
