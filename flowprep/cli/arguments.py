"""Kinds of arguments: paths that are checked while the command line is parsed, before a library is loaded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flowprep.corpus.names import is_corpus, why_no_corpus
from flowprep.errors import UsageError
from flowprep.planning.video_lists import hmdb_part, path_exists

_SEARCHED = 50  # entries of a folder in which a corpus is looked for


class LocalPath(click.Path):
    """A path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        return Path(os.fsdecode(super().convert(value, param, ctx)))


class InputPath(LocalPath):
    """An existing video, folder or list. A corpus is refused: it holds no videos."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if something is there."""
        path = super().convert(value, param, ctx)
        if not path_exists(path) and not hmdb_part(str(path)):
            self.fail(f"no such input: {path}", param, ctx)
        if is_corpus(path):
            self.fail(
                f"{path} is a corpus; allowed: videos, folders of videos or frames, and lists",
                param,
                ctx,
            )
        return path


class CorpusFolder(LocalPath):
    """An existing corpus."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if a corpus is there."""
        path = super().convert(value, param, ctx)
        if reason := why_no_corpus(path):
            near = f". Did you mean {found}?" if (found := _corpus_inside(path)) else ""
            allowed = "a folder that `flowprep extract` wrote"
            self.fail(f"{path} is not a corpus: {reason}; allowed: {allowed}{near}", param, ctx)
        return path


class NewFile(LocalPath):
    """A file to write. Its folder is created and tested before anything is computed.

    Args:
        suffixes: the allowed endings of its name, such as ".png"; none if all are.
    """

    def __init__(self, *suffixes: str) -> None:
        super().__init__(path_type=Path)
        self.suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if a file can be written there."""
        path = super().convert(value, param, ctx)
        if self.suffixes and path.suffix.lower() not in self.suffixes:
            allowed = f"a name that ends in {' or '.join(filter(None, self.suffixes))}"
            self.fail(f"{path} is not a name of such a file; allowed: {allowed}", param, ctx)
        if path.is_dir():
            self.fail(f"{path} is a folder; allowed: the name of a file", param, ctx)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as exc:
            self.fail(f"{path} cannot be written: {_reason(exc)}", param, ctx)
        return path


class NewFolder(LocalPath):
    """A folder to write. It is not created here, but what is in its place is checked."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if a folder is there or can be made."""
        path = super().convert(value, param, ctx)
        place = path
        try:
            while not place.exists() and place != place.parent:
                place = place.parent
            if not place.is_dir():
                self.fail(f"{place} is a file; allowed: a folder", param, ctx)
            # Only a folder that will get a new file is tested: a finished corpus may be read-only.
            if place != path:
                with tempfile.TemporaryFile(dir=place):
                    pass
        except OSError as exc:
            self.fail(f"{path} cannot be made: {_reason(exc)}", param, ctx)
        return path


def check_sources(sources: Sequence[Path]) -> None:
    """Refuse sources that do not exist. Those after a corpus are names of its videos, and not checked here.

    Raises:
        UsageError: a source does not exist.
    """
    if is_corpus(sources[0]):
        return
    for source in sources:
        if not path_exists(source) and not hmdb_part(str(source)):
            raise UsageError(f"no such video, folder, list or corpus: {source}")


CORPUS = CorpusFolder(path_type=Path)
INPUT = InputPath(path_type=Path)
NEW_FOLDER = NewFolder(path_type=Path)


def _reason(exc: OSError) -> str:
    """Why a file cannot be written. Linux reports a folder where no file can be made as a missing file."""
    return f"{exc.filename if exc.filename2 is None else exc.filename2}: {exc.strerror}"


def _corpus_inside(folder: Path) -> Path | None:
    """A corpus in a folder, if there is one among its first entries."""
    if not folder.is_dir():
        return None
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry, _ in zip(entries, range(_SEARCHED), strict=False))
    except OSError:
        return None
    return next((folder / name for name in names if is_corpus(folder / name)), None)
