"""Leases: files that tell which process works on something, so that many processes can share a folder.

A lease is the file `<name>.<epoch>`. Its owner creates it exclusively, with its own name in it, and touches
it regularly. The lease is over when its owner is a process of this machine that has ended, or when
nobody touched the file for EXPIRY_SECONDS. Then another process may acquire the lease of the next epoch. If
several processes try, one succeeds. The epoch therefore counts the owners that died during the work.

All times are those that the file system gives to files. The clocks of machines may differ and jump.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flowprep.errors import FileUnsuitable
from flowprep.system.atomic import temporary_path
from flowprep.system.files import open_regular, read_regular
from flowprep.system.processes import is_dead, owner

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 60.0
# The name of an owner becomes a part of file names, and the file may be a stranger's.
_OWNER = re.compile(r"[0-9A-Za-z_.-]{1,300}")


@dataclass(frozen=True)
class Lease:
    """A lease file, whether its owner is this process or another one.

    Attributes:
        path: the file.
    """

    path: Path

    @classmethod
    def acquire(cls, folder: Path, name: str) -> Lease | None:
        """Create the lease of the next epoch.

        Args:
            folder: the folder of the lease files.
            name: the name of the work.

        Returns:
            None if a living process has the lease, or another process was faster.

        Raises:
            OSError: the file cannot be written.
        """
        previous = find_leases(folder, name)
        if not all(lease.is_over() for lease in previous):
            return None
        epoch = 1 + max((lease.epoch for lease in previous), default=-1)
        lease = cls(folder / f"{name}.{epoch}")
        if not _create(lease.path, json.dumps({"owner": owner()})):
            return None
        # If the previous leases vanished before this one was created, another process may have begun anew.
        if any(other != lease and not other.is_over() for other in find_leases(folder, name)):
            lease.path.unlink(missing_ok=True)
            return None
        return lease

    @property
    def epoch(self) -> int:
        """The number of owners that had the work before."""
        return int(self.path.suffix[1:])

    @property
    def owner(self) -> str:
        """The name of the owner, as `processes.owner` gives it; "" if the file has none."""
        try:
            name = str(json.loads(read_regular(self.path, max_bytes=4096))["owner"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""
        return name if _OWNER.fullmatch(name) else ""

    def touched(self) -> float:
        """The time of the last touch, by the clock of the file system.

        Raises:
            FileNotFoundError: the lease was released.
            FileUnsuitable: it is no regular file.
        """
        with open_regular(self.path) as file:  # opening refreshes the cache of NFS
            return os.fstat(file.fileno()).st_mtime

    def is_over(self) -> bool:
        """Whether the owner has ended, or was silent for so long that it counts as dead."""
        try:
            touched = self.touched()
        except (FileNotFoundError, FileUnsuitable):
            return True
        return is_dead(self.owner) or _now(self.path.parent) - touched > EXPIRY_SECONDS

    def predecessors(self) -> list[Lease]:
        """The leases of earlier epochs that are still in the folder, the oldest first."""
        leases = find_leases(self.path.parent, self.path.stem)
        return sorted((each for each in leases if each.epoch < self.epoch), key=lambda each: each.epoch)

    @contextmanager
    def keep_alive(self) -> Iterator[None]:
        """Touch the lease while the block runs. Then remove it and its predecessors."""
        stop = threading.Event()
        heartbeat = threading.Thread(target=self._touch_until, args=(stop,), daemon=True)
        heartbeat.start()
        try:
            yield
        finally:
            stop.set()
            heartbeat.join()
            # The oldest first: if this is interrupted, the remaining leases are over, or are this one.
            for lease in [*self.predecessors(), self]:
                with suppress(FileNotFoundError, IsADirectoryError):
                    lease.path.unlink()

    def _touch_until(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                log.warning(
                    "another process has taken over lease %s: this process was suspended for too long",
                    self.path.name,
                )
                return
            except OSError as exc:
                log.warning("lease %s cannot be renewed: %s", self.path.name, exc)


def _create(path: Path, text: str) -> bool:
    """Create a file with its content, unless it exists. Returns whether it was created.

    A process that is killed during this leaves no file without an owner: nobody could tell that it is over.
    """
    temporary = temporary_path(path, f"{threading.get_ident()}.{owner()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return _create_in_place(path, text)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _create_in_place(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError:
        path.unlink(missing_ok=True)  # the file was created, but the disk is full
        raise
    return True


def find_leases(folder: Path, name: str) -> list[Lease]:
    """All leases of a piece of work, also those that are over."""
    paths = folder.glob(f"{name}.*[0-9]")
    return [Lease(path) for path in paths if re.fullmatch(r"\.[0-9]{1,9}", path.suffix) and path.stem == name]


def is_leased(folder: Path, name: str) -> bool:
    """Whether a living process has the lease of a piece of work."""
    return not all(lease.is_over() for lease in find_leases(folder, name))


def leased_names(folder: Path) -> set[str]:
    """The names of the work in a folder that living processes have leased. The folder may be read-only."""
    leases = [Lease(path) for path in folder.glob("*.*[0-9]")]
    if not leases:
        return set()
    try:
        now = _now(folder)
    except OSError:
        now = time.time()
    names = set()
    for lease in leases:
        with suppress(OSError):  # released at this moment
            if now - lease.touched() <= EXPIRY_SECONDS and not is_dead(lease.owner):
                names.add(lease.path.stem)
    return names


def _now(folder: Path) -> float:
    """The time by the clock that stamps the files of a folder."""
    # The name is that of a temporary file: a killed process's file is found and removed like the others.
    path = folder / f"now-{threading.get_ident()}.{owner()}.tmp"
    with path.open("wb") as file:
        file.write(b"0")  # the machine that stores the file stamps it by its own clock
        file.flush()
        now = os.fstat(file.fileno()).st_mtime
    path.unlink(missing_ok=True)
    return now
