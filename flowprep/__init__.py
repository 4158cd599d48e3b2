"""flowprep turns videos into a corpus of frames and TV-L1 optical flow, stored as JPEG in HDF5 shards.

These are the public names. `import flowprep` loads no heavy library: a name is loaded on its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowprep.api import ExtractionResult as ExtractionResult
    from flowprep.api import make_corpus as make_corpus
    from flowprep.clips.epochs import ClipBatches as ClipBatches
    from flowprep.clips.source import ClipSource as ClipSource
    from flowprep.codec.quantise import Encoded as Encoded
    from flowprep.codec.quantise import decode as decode
    from flowprep.codec.quantise import encode as encode
    from flowprep.corpus.reader import Corpus as Corpus
    from flowprep.corpus.reader import open_corpus as open_corpus
    from flowprep.corpus.video import Clip as Clip
    from flowprep.corpus.video import Video as Video
    from flowprep.engines import tvl1 as tvl1
    from flowprep.errors import ClusterError as ClusterError
    from flowprep.errors import CorpusDamaged as CorpusDamaged
    from flowprep.errors import CorpusError as CorpusError
    from flowprep.errors import CorpusFormatError as CorpusFormatError
    from flowprep.errors import EngineError as EngineError
    from flowprep.errors import FileUnsuitable as FileUnsuitable
    from flowprep.errors import FlowprepError as FlowprepError
    from flowprep.errors import ListMismatch as ListMismatch
    from flowprep.errors import NotACorpus as NotACorpus
    from flowprep.errors import OutOfRange as OutOfRange
    from flowprep.errors import SettingsConflict as SettingsConflict
    from flowprep.errors import SettingsError as SettingsError
    from flowprep.errors import UsageError as UsageError
    from flowprep.errors import VideoDamaged as VideoDamaged
    from flowprep.errors import VideoError as VideoError
    from flowprep.errors import VideoMissing as VideoMissing
    from flowprep.errors import VideoUnreadable as VideoUnreadable
    from flowprep.errors import VideoUnsuitable as VideoUnsuitable
    from flowprep.executors.base import RunOptions as RunOptions
    from flowprep.settings import Settings as Settings
    from flowprep.video.suffixes import VIDEO_SUFFIXES as VIDEO_SUFFIXES

__version__ = "0.1.0"

# Module -> its public names.
_PUBLIC = {
    "flowprep.api": ("ExtractionResult", "make_corpus"),
    "flowprep.clips.epochs": ("ClipBatches",),
    "flowprep.clips.source": ("ClipSource",),
    "flowprep.codec.quantise": ("Encoded", "decode", "encode"),
    "flowprep.corpus.reader": ("Corpus", "open_corpus"),
    "flowprep.corpus.video": ("Clip", "Video"),
    "flowprep.engines": ("tvl1",),
    "flowprep.errors": (
        "ClusterError",
        "CorpusDamaged",
        "CorpusError",
        "CorpusFormatError",
        "EngineError",
        "FileUnsuitable",
        "FlowprepError",
        "ListMismatch",
        "NotACorpus",
        "OutOfRange",
        "SettingsConflict",
        "SettingsError",
        "UsageError",
        "VideoDamaged",
        "VideoError",
        "VideoMissing",
        "VideoUnreadable",
        "VideoUnsuitable",
    ),
    "flowprep.executors.base": ("RunOptions",),
    "flowprep.settings": ("Settings",),
    "flowprep.video.suffixes": ("VIDEO_SUFFIXES",),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'flowprep' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
