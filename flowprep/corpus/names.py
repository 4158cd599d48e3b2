"""The names of files and folders in a corpus. No library is needed to check them."""

from __future__ import annotations

from pathlib import Path

PLAN = "plan.jsonl"
INDEX = "index.npz"
SHARDS = "shards"
RECORDS = "records"
LEASES = "leases"
LOGS = "logs"
DAMAGED = "damaged"


def is_corpus(path: Path) -> bool:
    """Whether a folder is a corpus: it has records or a plan."""
    return not why_no_corpus(path)


def why_no_corpus(path: Path) -> str:
    """Why a path is no corpus, as the end of a sentence; "" if it is one."""
    try:
        if not path.is_dir():
            return "it is a file" if path.exists() else "there is no such folder"
        found = (path / RECORDS).is_dir() or (path / PLAN).exists()
    except (OSError, ValueError) as exc:  # a name that is too long, or has a NUL; a folder without access
        return getattr(exc, "strerror", None) or str(exc)
    return "" if found else "it has neither records nor a plan"
