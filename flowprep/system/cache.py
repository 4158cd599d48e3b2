"""Where code that was compiled for this machine is kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_folder(name: str, *preferred: str | None) -> Path | None:
    """A folder that can be written: in one of `preferred`, beside the sources, or in the user's cache folder.

    Returns:
        None if none of them can be.
    """
    parents = [Path(each) for each in preferred if each]
    parents.append(Path(__file__).parents[1] / "__pycache__")
    if home := os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME"):
        parents.append(Path(home) / ("" if "XDG_CACHE_HOME" in os.environ else ".cache") / "flowprep")
    for parent in parents:
        folder = parent / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    return None
