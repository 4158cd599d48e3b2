"""The folder of an export: each file and folder appears in it only when it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from flowprep.convert.names import HEADER_FILE
from flowprep.corpus import format as fmt
from flowprep.corpus.reader import Corpus
from flowprep.corpus.video import Video
from flowprep.errors import UsageError
from flowprep.system.atomic import TEMPORARY, atomic_path, remove_leftovers, temporary_path
from flowprep.system.disk import naming_file, written_bytes
from flowprep.system.files import read_regular


class FolderResult(NamedTuple):
    """The result of writing the folders of one video.

    Attributes:
        written: whether any folder was written; false if all were there.
        frames: number of frames written.
        flow_images: number of flow images written; of flow fields, in a layout of pixels.
    """

    written: bool
    frames: int = 0
    flow_images: int = 0


class WriteResult(NamedTuple):
    """What an export wrote.

    Attributes:
        written: number of videos.
        frames: number of frames.
        flow_images: number of flow images; of flow fields, in a layout of pixels.
        failed: id -> reason, for videos that are damaged in the corpus; also for those in one tar with them.
    """

    written: int
    frames: int
    flow_images: int
    failed: dict[str, str]


class ExportFolder:
    """The folder that an export writes to.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, header: Mapping[str, object]) -> None:
        """Create the folder, or check that it holds an export of the same kind.

        Args:
            header: describes the export. It is stored, so that a later call does not mix two kinds.

        Raises:
            UsageError: the folder holds something else.
        """
        file = self.path / HEADER_FILE
        if file.exists():
            self._check_header(file, header)
        else:
            if self.path.is_dir() and any(not p.name.endswith(TEMPORARY) for p in self.path.iterdir()):
                raise UsageError(f"{self.path} is not empty and holds no export: give another folder")
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_text(HEADER_FILE, json.dumps(header, indent=1) + "\n")
        remove_leftovers(self.path)

    def _check_header(self, file: Path, header: Mapping[str, object]) -> None:
        try:
            stored = json.loads(read_regular(file))
        except ValueError as exc:
            raise UsageError(f"{file} cannot be read ({exc}): give another folder") from exc
        if different := [name for name in {**header, **stored} if header.get(name) != stored.get(name)]:
            raise UsageError(
                f"{self.path} holds another export (it differs in {', '.join(different)}): give another"
                " folder"
            )

    def is_done(self, name: str, stored_at: int) -> bool:
        """Whether a file or folder is there and is not older than the shards of its video.

        Args:
            name: its name in the folder.
            stored_at: time of the shards, as from `stored_at`, ns.
        """
        path = self.path / name
        return path.exists() and path.stat().st_mtime_ns >= stored_at

    @contextmanager
    def whole_folder(self, name: str) -> Iterator[Path]:
        """Yield a temporary folder, which becomes the folder `name` at the end of the block."""
        temporary, final = self._temporary() / name, self.path / name
        with naming_file(final, lambda: written_bytes(temporary), self.path):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            if final.exists():  # made from older shards
                shutil.rmtree(final)
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(final)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file."""
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(text, "utf-8")

    def remove_temporary(self) -> None:
        """Remove the temporary folders of this process."""
        shutil.rmtree(self._temporary(), ignore_errors=True)

    def _temporary(self) -> Path:
        return temporary_path(self.path / "export")


def stored_at(corpus: Corpus, video: Video) -> int:
    """Time when the youngest shard of a video was published, ns. A retry may have replaced a shard."""
    shards: list[str] = video.info()["shards"]
    return max((corpus.path / fmt.SHARDS / name).stat().st_mtime_ns for name in shards)
