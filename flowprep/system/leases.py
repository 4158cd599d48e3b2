"""Claims: which process is at a piece of work, told by files alone, so that any number may share a folder.

A claim is the file `<name>.<generation>`, made by exclusive creation, named after its owner inside and
touched by it all the time. It is over when its owner is a process of this machine that has ended, or when it
was not touched for EXPIRY_SECONDS. Then the next generation may be made: of many who try, one succeeds. So
the generation also tells how many owners have died over the work. All times are those that the file system
gives to files, so that clocks may differ and jump.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowprep.system.processes import is_dead, owner

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 60.0


def make(folder: Path, name: str) -> Path | None:
    """Make a claim behind those that are over; None if one is not, or another process was faster.

    Raises:
        OSError: it cannot be written.
    """
    former = claims(folder, name)
    if not all(map(is_over, former)):
        return None
    claim = folder / f"{name}.{1 + max(map(generation, former), default=-1)}"
    try:
        with claim.open("x", encoding="utf-8") as file:
            file.write(json.dumps({"owner": owner()}))
    except FileExistsError:
        return None
    except OSError:
        claim.unlink(missing_ok=True)  # made, but the disk is full
        raise
    # Had the former ones gone before this one was made, another process may have begun with generation 0.
    if any(path != claim and not is_over(path) for path in claims(folder, name)):
        claim.unlink(missing_ok=True)
        return None
    return claim


@contextmanager
def kept(claim: Path) -> Iterator[None]:
    """Touch a claim while the block runs; then remove it and those before it."""
    end = threading.Event()
    heart = threading.Thread(target=_beat, args=(claim, end), daemon=True)
    heart.start()
    try:
        yield
    finally:
        end.set()
        heart.join()
        # The oldest first: what is left when this breaks off is over, or this one.
        for path in sorted(claims(claim.parent, claim.stem), key=generation):
            if generation(path) <= generation(claim):
                path.unlink(missing_ok=True)


def claims(folder: Path, name: str) -> list[Path]:
    """All claims of a piece of work, also those that are over."""
    return list(folder.glob(f"{name}.*[0-9]"))


def generation(claim: Path) -> int:
    """How many owners had the work before."""
    return int(claim.suffix[1:])


def owner_of(claim: Path) -> str:
    """Who made a claim, as processes.owner names it; "" while that is not written yet."""
    try:
        return str(json.loads(claim.read_text("utf-8"))["owner"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def touched(claim: Path) -> float:
    """When a claim was last touched, by the clock of its files; raises FileNotFoundError."""
    with claim.open("rb") as file:  # opening makes a network file system look
        return os.fstat(file.fileno()).st_mtime


def is_over(claim: Path) -> bool:
    """Whether a claim's owner has ended, or has been silent for so long that it is taken to have."""
    try:
        seen = touched(claim)
    except FileNotFoundError:
        return True
    return is_dead(owner_of(claim)) or _now(claim.parent) - seen > EXPIRY_SECONDS


def _now(folder: Path) -> float:
    """The time by the clock that stamps the files of a folder."""
    # Named as corpus.files.temporary_path does: what a kill leaves in a corpus is found and removed.
    path = folder / f"now-{threading.get_ident()}.{owner()}.tmp"
    with path.open("wb") as file:
        file.write(b"0")  # by the clock of the machine that stores it
        file.flush()
        now = os.fstat(file.fileno()).st_mtime
    path.unlink(missing_ok=True)
    return now


def _beat(claim: Path, end: threading.Event) -> None:
    while not end.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(claim)
        except FileNotFoundError:
            log.warning("%s was taken over: this process was out for too long", claim.name)
            return
        except OSError as exc:
            log.warning("%s cannot be renewed: %s", claim.name, exc)
