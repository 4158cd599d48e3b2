"""The source guard: a file must be the one that was planned, and must not change while it is read."""

from __future__ import annotations

from pathlib import Path

from flowprep.corpus.plan import Segment
from flowprep.errors import VideoUnsuitable
from flowprep.planning.sources import source_state

_RETRY = "`flowprep retry --retry-failed` accepts the present file"


class SourceGuard:
    """Compares the file of a segment with the plan, and later with itself.

    Args:
        segment: the segment.
        accept_changed: accept a file that differs from the plan.

    Attributes:
        warning: a remark for the record, or "".

    Raises:
        VideoUnsuitable: the size differs from the plan; or the time differs, and the video has more segments.
    """

    def __init__(self, segment: Segment, accept_changed: bool) -> None:
        self._path = Path(segment.path)
        self._state = size, modified = source_state(self._path)
        self.warning = ""
        if not size or accept_changed:
            return
        if segment.source_bytes not in (0, size):
            raise VideoUnsuitable(
                f"the file has {size} bytes and had {segment.source_bytes} when it was planned; {_RETRY}"
            )
        if segment.modified_ns not in (0, modified):
            if segment.segments > 1:
                raise VideoUnsuitable(
                    "the file was changed since it was planned, and its segments might not go together;"
                    f" {_RETRY}"
                )
            self.warning = "the file was changed since it was planned; its present content is stored"

    def check_unchanged(self) -> None:
        """Raise VideoUnsuitable if the file changed after the guard was created."""
        state = source_state(self._path)
        if state != self._state:
            raise VideoUnsuitable(
                f"the file changed while it was read, from {self._state[0]} to {state[0]} bytes"
            )
