"""Every error that flowprep raises on purpose.

    FlowprepError
    ├── UsageError             the request is wrong (exit code 2)
    │   ├── SettingsError      a setting has a value that is not allowed
    │   ├── SettingsConflict   the corpus on disk has other settings
    │   ├── FileUnsuitable     a file that is not regular, too large, or outside the allowed folder
    │   ├── ListMismatch       of a list, no video exists, or less than half of the videos
    │   └── OutOfRange         the video does not have the requested frames or pairs
    ├── VideoError             one video cannot be extracted; the run continues without it
    │   ├── VideoUnreadable    nothing can be decoded: no file, no video stream, an unknown format
    │   ├── VideoDamaged       the stream ends early or is corrupt after `frames_before` intact frames
    │   └── VideoUnsuitable    the video cannot be used: too few frames, a wrong size, too slow
    ├── CorpusError            a corpus on disk cannot be read
    │   ├── CorpusFormatError  a file of another form, or of a newer format than this version reads
    │   │   └── NotACorpus     the folder is no corpus; also a UsageError
    │   ├── CorpusDamaged      a checksum or a count does not match
    │   └── VideoMissing       the corpus does not have the video
    ├── EngineError            a flow engine failed, or does not work on this machine
    └── ClusterError           a cluster does not start, or has lost all its workers

An error of a library becomes one of these, with `raise ... from`, so that its traceback is kept.
"""

from __future__ import annotations


class FlowprepError(Exception):
    """The base class of all errors that flowprep raises on purpose."""


class UsageError(FlowprepError):
    """The request is wrong. The message says what was found, what is allowed and what to do."""


class SettingsError(UsageError, ValueError):
    """A setting has a value that is not allowed."""


class SettingsConflict(UsageError):
    """The corpus on disk has other settings. Nothing was changed."""


class FileUnsuitable(UsageError, ValueError):
    """The file is not regular (a pipe, a device), is too large, or is outside the allowed folder."""


class ListMismatch(UsageError):
    """No video of a list exists, or less than half of its videos."""


class OutOfRange(UsageError, IndexError):
    """The video does not have the requested frames or pairs."""


class VideoError(FlowprepError):
    """One video cannot be extracted. A run records the reason and goes on."""


class VideoUnreadable(VideoError):
    """Nothing can be decoded: no file, an empty file, no video stream, an unknown format."""


class VideoDamaged(VideoError):
    """The stream ends early or is corrupt.

    Attributes:
        frames_before: number of intact frames before the damage.
    """

    def __init__(self, message: str, frames_before: int) -> None:
        super().__init__(message)
        self.frames_before = frames_before

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        """Keep `frames_before` when a worker process sends the error back."""
        return type(self), (str(self), self.frames_before)


class VideoUnsuitable(VideoError):
    """The video cannot be used: too few frames, too small, too large, changed since the plan, or too slow."""


class CorpusError(FlowprepError):
    """A corpus on disk cannot be read."""


class CorpusFormatError(CorpusError):
    """A file of a corpus has another form, or is of a newer format than this version reads."""


class NotACorpus(CorpusFormatError, UsageError):
    """The folder is no corpus: it does not exist, or has neither records nor a plan."""


class CorpusDamaged(CorpusError):
    """A checksum or a count does not match: the bytes are not those that were written."""


class VideoMissing(CorpusError, KeyError):
    """The corpus has no video of that id. The message has the reason if the video failed."""

    def __str__(self) -> str:
        """Return the message. A KeyError would add quotes."""
        return str(self.args[0])


class EngineError(FlowprepError):
    """A flow engine failed, or does not work on this machine."""


class ClusterError(FlowprepError):
    """A Dask cluster does not start, or all its workers ended. The message has the end of a worker's log."""
