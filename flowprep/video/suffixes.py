"""Which files count as videos and as images: the one list for both packages."""

from __future__ import annotations

from pathlib import PurePath

# The usual suffixes of the formats that `flowprep.video.decode` opens, in the order of its formats.
# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".3gpp", ".f4v", ".ismv", ".m4v", ".mj2", ".mov", ".mp4", ".qt",
    ".mk3d", ".mkv", ".webm",
    ".avi", ".divx", ".xvid",
    ".asf", ".wmv",
    ".flv",
    ".gif",
    ".m2t", ".m2ts", ".mts", ".tp", ".trp", ".ts",
    ".m2p", ".mod", ".mpe", ".mpeg", ".mpg", ".vob",
    ".m1v", ".m2v", ".mp2v", ".mpv",
    ".mxf",
    ".ogg", ".ogm", ".ogv", ".ogx",
    ".y4m",
    ".264", ".avc", ".h264",
    ".265", ".h265", ".hevc",
    ".dif", ".dv",
    ".ivf",
    ".mjpeg", ".mjpg",
    ".apng",
})
# fmt: on
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Folders that systems and programs create beside the files of a user. Names that begin with a dot, too.
_SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}
)


def is_system_name(name: str) -> bool:
    """Whether a file or folder is not the user's own.

    Examples: `._clip.mp4` and `__MACOSX` of macOS, `.git`, `.Trash-1000`, `@eaDir` of Synology.
    """
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def suffix_of(name: str) -> str:
    """The suffix of a file's name or path, in lower case: ".mp4" or ""."""
    return PurePath(name).suffix.lower()
