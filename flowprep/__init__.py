"""flowprep: videos to a corpus of RGB frames and TV-L1 optical flow, stored as JPEG in HDF5 shards.

The public names. Importing this module loads no heavy library: each name is looked up on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowprep.api import make_corpus as make_corpus
    from flowprep.codec.quantise import Encoded as Encoded
    from flowprep.codec.quantise import decode as decode
    from flowprep.codec.quantise import encode as encode
    from flowprep.corpus.reader import Corpus as Corpus
    from flowprep.corpus.reader import open_corpus as open_corpus
    from flowprep.corpus.video import Video as Video
    from flowprep.engines import tvl1 as tvl1
    from flowprep.errors import FlowprepError as FlowprepError
    from flowprep.settings import Settings as Settings
    from flowprep.video.suffixes import VIDEO_SUFFIXES as VIDEO_SUFFIXES

__version__ = "0.1.0"

_HOME = {
    "Corpus": "flowprep.corpus.reader",
    "Encoded": "flowprep.codec.quantise",
    "FlowprepError": "flowprep.errors",
    "Settings": "flowprep.settings",
    "VIDEO_SUFFIXES": "flowprep.video.suffixes",
    "Video": "flowprep.corpus.video",
    "decode": "flowprep.codec.quantise",
    "encode": "flowprep.codec.quantise",
    "make_corpus": "flowprep.api",
    "open_corpus": "flowprep.corpus.reader",
    "tvl1": "flowprep.engines",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'flowprep' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
