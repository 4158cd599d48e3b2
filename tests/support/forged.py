"""Corpora as a stranger may forge them: every checksum is right, and the names are not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def forge_plan(corpus: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the rows of the tasks of a plan, and make its checksums right."""
    path = corpus / "plan.jsonl"
    head, *tasks, _ = (json.loads(line) for line in path.read_text().splitlines())
    change([head, *tasks])
    settings = json.dumps(head["settings"], sort_keys=True)
    head["crc32"] = zlib.crc32(settings.encode())
    lines = [json.dumps(row).encode() + b"\n" for row in (head, *tasks)]
    end = {"tasks": len(tasks), "crc32": zlib.crc32(b"".join(lines))}
    path.write_bytes(b"".join(lines) + json.dumps(end).encode() + b"\n")


def forge_record(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a record, and make its checksum right."""
    record = json.loads(path.read_text("utf-8"))
    del record["crc32"]
    change(record)
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**record, "crc32": zlib.crc32(text.encode())}), "utf-8")


def everything_in(folder: Path, but: Path) -> dict[str, bytes | str]:
    """What a folder holds at any depth, outside one of its folders."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_relative_to(but):
            kind = "link" if path.is_symlink() else "folder" if path.is_dir() else ""
            found[str(path.relative_to(folder))] = kind or path.read_bytes()
    return found
