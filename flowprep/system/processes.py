"""Names of processes. On its own machine, a name tells whether the process has ended."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
from contextlib import suppress
from pathlib import Path


def usable_cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def owner(process: int | None = None) -> str:
    """The name of a process of this machine, which no other process ever has.

    It is `host.boot.process.start`. `boot` is a digest of the boot and of the process namespace. `start` is
    the time when the process started, in clock ticks since the boot; "0" if the system does not tell it.

    Args:
        process: its number; None for this process.
    """
    process = process or os.getpid()
    return f"{machine()}.{process}.{_state(process)[1]}"


def describe_owner(name: str) -> str:
    """The name of a process for people: `process 123 on host`."""
    host, _, process, _ = (name.split(".") + 4 * ["?"])[:4]
    return f"process {process} on {host or '?'}"


def is_local(name: str) -> bool:
    """Whether a process is or was of this machine: of the same boot and process namespace."""
    return name.rsplit(".", 2)[0] == machine()


def is_dead(name: str) -> bool:
    """Whether a process is of this machine and has ended. Of a process elsewhere this is not known."""
    process, _, start = name.removeprefix(machine() + ".").partition(".")
    if not is_local(name) or not (process.isdecimal() and len(process) < 10):
        return False
    state, present_start = _state(int(process))
    return state in "ZX" or (state != "?" and present_start != start)


@functools.cache
def machine() -> str:
    """The name of this machine: the host, and a digest that differs between boots and between containers."""
    identity = ""
    with suppress(OSError):
        identity = Path("/proc/sys/kernel/random/boot_id").read_text()
        identity += str(Path("/proc/self/ns/pid").readlink())
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    host = re.sub(r"[^0-9A-Za-z_-]", "-", socket.gethostname())  # a part of file names
    return f"{host}.{digest}"


def _state(process: int) -> tuple[str, str]:
    """The state of a process, and the time when it started.

    The state is a letter of /proc/PID/stat, "X" if there is no such process, or "?" if it is not known.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "X", "0"
    except PermissionError:  # the process exists, and belongs to another user
        pass
    return "?", "0"
