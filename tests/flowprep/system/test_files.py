"""Regular files are opened at once; nothing else is; errors of the machine are told from damage."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from flowprep.errors import FileUnsuitable
from flowprep.system.files import check_regular, is_machine_error, open_regular, read_regular


def test_a_regular_file_and_a_link_to_one_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "a") == b"content"
    assert read_regular(tmp_path / "link", inside=tmp_path) == b"content"
    assert check_regular(tmp_path / "a").st_size == 7
    with open_regular(tmp_path / "a", max_bytes=7) as file:
        assert file.read(3) == b"con"


def pipe(path):
    os.mkfifo(path)
    return path


def listening_socket(path):
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(str(path))
    return path


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (pipe, "a pipe"),
        (listening_socket, "a socket"),
        (lambda path: path.mkdir() or path, "a folder"),
        (lambda path: "/dev/zero", "a device"),
        (lambda path: path.symlink_to("/dev/zero") or path, "a device"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path, make, kind):
    path = make(tmp_path / "x")
    for open_it in (check_regular, open_regular, read_regular):
        with pytest.raises(FileUnsuitable, match=f"{path} is {kind}; allowed is a regular file"):
            open_it(path)


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(100 * 10**9)
    with pytest.raises(FileUnsuitable, match="has 100 GB; at most 268 MB"):
        read_regular(tmp_path / "x")
    with pytest.raises(FileUnsuitable, match="has 100 GB; at most 1 kB"):
        check_regular(tmp_path / "x", max_bytes=1000)


def test_a_file_whose_size_says_nothing_is_bounded_too():
    assert Path("/proc/self/maps").stat().st_size == 0
    with pytest.raises(FileUnsuitable, match="larger than 10 B"):
        read_regular("/proc/self/maps", max_bytes=10)


@pytest.mark.parametrize("target", ["../secret", "{outside}"])
def test_a_link_to_the_outside_is_refused(tmp_path, target):
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    (inside / "link").symlink_to(target.format(outside=tmp_path / "secret"))
    with pytest.raises(FileUnsuitable, match="outside"):
        read_regular(inside / "link", inside=inside)
    assert read_regular(inside / "link") == b"x"  # named by the user


def test_a_zero_byte_in_a_name_is_refused_in_words():
    with pytest.raises(FileUnsuitable, match="zero byte"):
        read_regular("a\0b")


def test_a_file_that_is_missing_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")


def test_no_file_stays_open(tmp_path):
    os.mkfifo(tmp_path / "x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(FileUnsuitable):
            open_regular(tmp_path / "x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


MACHINE = "ENOLCK EIO ESTALE EACCES EPERM ENOMEM EMFILE ENFILE ENOSPC EDQUOT ETIMEDOUT ENOTCONN EROFS EAGAIN"


@pytest.mark.parametrize("name", MACHINE.split())
def test_errors_of_the_machine(name):
    number = getattr(errno, name)
    assert is_machine_error(OSError(number, os.strerror(number)))
    assert is_machine_error(OSError(f"Can't read data (file read failed: errno = {number}, offset = 0)"))
    wrapped = RuntimeError("a library")
    wrapped.__cause__ = OSError(number, os.strerror(number))
    assert is_machine_error(wrapped)


@pytest.mark.parametrize(
    "exc",
    [
        OSError("truncated file: eof = 3000"),
        OSError("Can't read data (file read failed: errno = 22, error message = 'Invalid argument')"),
        FileNotFoundError(errno.ENOENT, "none"),
        OSError(1094995529, "invalid data"),  # a number of FFmpeg
        ValueError("no JPEG"),
        KeyError("bytes"),
    ],
)
def test_errors_of_content_and_names(exc):
    assert not is_machine_error(exc)


def test_no_memory_is_of_the_machine():
    assert is_machine_error(MemoryError())
