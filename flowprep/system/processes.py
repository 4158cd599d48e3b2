"""Who is at work: names of processes that tell, on their own machine, whether they have ended."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path


def usable_cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def owner(process: int | None = None) -> str:
    """This process, or another one of this machine, by a name that no other ever has.

    `host.boot.process.start`: `boot` stands for the boot and the process namespace, `start` is the process's
    start in clock ticks since the boot; "0" where the system does not tell.
    """
    process = process or os.getpid()
    return f"{machine()}.{process}.{_state(process)[1]}"


def described(name: str) -> str:
    """An `owner` for people: `process 123 on host`."""
    host, _, process, _ = (name.split(".") + 4 * ["?"])[:4]
    return f"process {process} on {host or '?'}"


def is_here(name: str) -> bool:
    """Whether an `owner` is or was a process of this machine: of this boot and this process namespace."""
    return name.rsplit(".", 2)[0] == machine()


def is_dead(name: str) -> bool:
    """Whether an `owner` is a process of this machine that has ended; of others it cannot be told."""
    process, _, start = name.removeprefix(machine() + ".").partition(".")
    if not is_here(name) or not process.isdigit():
        return False
    state, now = _state(int(process))
    return state in "ZX" or (state != "?" and now != start)


@functools.cache
def machine() -> str:
    """The host with a digest of what tells apart its boots, and containers that share its name."""
    facts = ""
    with suppress(OSError):
        facts = Path("/proc/sys/kernel/random/boot_id").read_text()
        facts += str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname().replace('.', '-')}.{hashlib.sha256(facts.encode()).hexdigest()[:8]}"


def _state(process: int) -> tuple[str, str]:
    """State of a process (X: there is none, ?: not to be told) and when it started."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "X", "0"
    except PermissionError:  # of another user, but there
        pass
    return "?", "0"
