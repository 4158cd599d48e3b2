"""Reading files that a user or a corpus names: regular files only, at once, of bounded size.

A name may stand for anything: a pipe, on which opening waits for ever; a device such as `/dev/zero`, which
has no end; a sparse file of a terabyte; a link to a file elsewhere. `open_regular` opens none of these.

`is_machine_error` tells errors of the machine from those of a file's content. A file that the machine could
not read is not damaged: nothing may be counted as damage, removed or moved for such an error.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from flowprep.errors import FileUnsuitable
from flowprep.system.units import format_bytes

TEXT_BYTES = 1 << 28  # of a list, a recipe or a table: a million lines of 256 bytes

# These tell about a name, or about numbers in a damaged file: not about the machine.
_OF_NAMES_AND_NUMBERS = {
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EOVERFLOW,
}
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(
    path: str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
    inside: str | os.PathLike[str] | None = None,
) -> os.stat_result:
    """Check that a name stands for a regular file, for a library that opens files itself. Nothing is opened.

    Args:
        path: the file. Links are followed.
        max_bytes: the largest size allowed; None for any.
        inside: a folder that the file must be in, after all links are followed; None for any place.

    Returns:
        The facts of the file, as `os.stat` gives them.

    Raises:
        FileUnsuitable: the name stands for something else, the file is too large, or not in `inside`.
        OSError: there is no such file, or it cannot be looked at.
    """
    facts = Path(_checked_name(path)).stat()
    _check(path, facts, max_bytes)
    if inside is not None and not Path(path).resolve().is_relative_to(Path(inside).resolve()):
        raise FileUnsuitable(f"{path} is a link to a file outside {inside}; only files inside it are read")
    return facts


def open_regular(
    path: str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
    inside: str | os.PathLike[str] | None = None,
) -> BinaryIO:
    """Open a regular file for reading, without waiting.

    Args:
        path: the file. Links are followed.
        max_bytes: the largest size allowed; None for any.
        inside: a folder that the file must be in, after all links are followed; None for any place.

    Raises:
        FileUnsuitable: the name stands for something else, the file is too large, or not in `inside`.
        OSError: the file cannot be opened.
    """
    check_regular(path, max_bytes=max_bytes, inside=inside)  # first: opening a device may do something
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(path, os.fstat(handle), max_bytes)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(
    path: str | os.PathLike[str],
    *,
    max_bytes: int = TEXT_BYTES,
    inside: str | os.PathLike[str] | None = None,
) -> bytes:
    """Read a regular file as a whole.

    Args:
        path: the file. Links are followed.
        max_bytes: the largest size allowed.
        inside: a folder that the file must be in, after all links are followed; None for any place.

    Raises:
        FileUnsuitable: the name stands for something else, the file is too large, or not in `inside`.
        OSError: the file cannot be opened or read.
    """
    with open_regular(path, max_bytes=max_bytes, inside=inside) as file:
        data = file.read(max_bytes + 1) or b""
    if len(data) > max_bytes:  # it grows, or it is a file of /proc, whose size says nothing
        raise FileUnsuitable(f"{path} is larger than {format_bytes(max_bytes)}, the most that is read of it")
    return data


def is_machine_error(exc: BaseException) -> bool:
    """Whether an error is one of the machine: no locks, no rights, no memory, no space, a failed disk.

    The error does not tell that the file is damaged. HDF5 and other libraries report some errors of the
    system as text only, and with another error as the cause; both count.
    """
    if isinstance(exc, MemoryError):
        return True
    number = exc.errno if isinstance(exc, OSError) else None
    if number is None and (told := re.search(r"errno = (\d+)", str(exc))):
        number = int(told.group(1))
    if number in errno.errorcode:
        return number not in _OF_NAMES_AND_NUMBERS
    return exc.__cause__ is not None and is_machine_error(exc.__cause__)


def _checked_name(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    if "\0" in os.fspath(path):
        raise FileUnsuitable(f"{os.fspath(path)!r} has a zero byte, which no file name has")
    return path


def _check(path: str | os.PathLike[str], facts: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "something else")
        raise FileUnsuitable(f"{path} is {kind}; allowed is a regular file")
    if max_bytes is not None and facts.st_size > max_bytes:
        size, most = format_bytes(facts.st_size), format_bytes(max_bytes)
        raise FileUnsuitable(f"{path} has {size}; at most {most} are read of such a file")
