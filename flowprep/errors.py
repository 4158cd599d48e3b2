"""Every error that flowprep raises on purpose, in one tree.

    FlowprepError
    ├── UsageError            the caller asked for something that cannot be done (exit code 2)
    │   ├── SettingsError     an option has a value that is not allowed
    │   ├── SettingsConflict  the corpus on disk was made with other settings
    │   └── OutOfRange        frames or pairs were asked for that a video does not have
    ├── VideoError            one video cannot be taken; the run goes on without it
    │   ├── VideoUnreadable   nothing can be decoded: no such file, no video stream, an unknown format
    │   ├── VideoDamaged      the stream breaks off or is corrupt after `frames_before` clean frames
    │   └── VideoUnsuitable   a sound video that cannot be used: too few frames, too small
    ├── CorpusError           a corpus on disk cannot be read
    │   ├── CorpusFormatError not a corpus, or of a newer format than this version reads
    │   ├── CorpusDamaged     a checksum or a count does not hold
    │   └── VideoMissing      the corpus has no such video, or it could not be taken
    └── EngineError           an optical-flow engine failed or is not available here

An error of a library is translated where it crosses into flowprep, `from exc`, so that its own trace
is kept.
"""

from __future__ import annotations


class FlowprepError(Exception):
    """The root: catch this to catch everything that flowprep raises on purpose."""


class UsageError(FlowprepError):
    """The request itself is wrong; the message says what was found, what is allowed and what to do."""


class SettingsError(UsageError, ValueError):
    """An option has a value that is not allowed."""


class SettingsConflict(UsageError):
    """A corpus exists that was made with other settings; nothing was changed."""


class OutOfRange(UsageError, IndexError):
    """Frames or pairs were asked for that a video does not have."""


class VideoError(FlowprepError):
    """One video cannot be taken. A run records the reason and goes on."""


class VideoUnreadable(VideoError):
    """Nothing can be decoded: no such file, an empty file, no video stream, an unknown format."""


class VideoDamaged(VideoError):
    """The stream breaks off or is corrupt.

    Attributes:
        frames_before: how many clean frames come before the damage.
    """

    def __init__(self, message: str, frames_before: int) -> None:
        super().__init__(message)
        self.frames_before = frames_before

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        """Keep `frames_before` when the error is pickled on its way back from a worker."""
        return type(self), (str(self), self.frames_before)


class VideoUnsuitable(VideoError):
    """The video is sound but cannot be used: too few frames for one pair, or too small."""


class CorpusError(FlowprepError):
    """A corpus on disk cannot be read."""


class CorpusFormatError(CorpusError):
    """Not a corpus, or one of a newer format version than this program reads."""


class CorpusDamaged(CorpusError):
    """A checksum or a count does not hold: the bytes are not those that were written."""


class VideoMissing(CorpusError, KeyError):
    """The corpus has no video of that id, or its record says why it could not be taken."""

    def __str__(self) -> str:
        """The message itself: a KeyError would show it in quotes."""
        return str(self.args[0])


class EngineError(FlowprepError):
    """An optical-flow engine failed, or is not available on this machine."""
