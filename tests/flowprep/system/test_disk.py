"""A lack of room names the file, the bytes needed, and those free."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import sys

import av
import pytest

from flowprep.system.atomic import atomic_path
from flowprep.system.disk import DiskFull, naming_file, written_bytes


def fail(number: int):
    raise OSError(number, "of a library")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_file_bytes_and_folder(tmp_path, number):
    with pytest.raises(DiskFull) as found, naming_file(tmp_path / "x", 1234):
        fail(number)
    assert found.value.errno == number and found.value.filename == str(tmp_path / "x")
    assert re.search(rf": 1234 bytes are needed in {tmp_path}, \d+ are free", found.value.strerror)


def test_the_first_name_stays(tmp_path):
    with (
        pytest.raises(DiskFull, match="7 bytes") as found,
        naming_file(tmp_path, 9),
        naming_file(tmp_path / "x", 7),
    ):
        fail(errno.ENOSPC)
    assert found.value.filename == str(tmp_path / "x")


def test_other_errors_get_the_name_only(tmp_path):
    with pytest.raises(OSError, match="of a library") as found, naming_file(tmp_path / "x"):
        fail(errno.EIO)
    assert found.value.filename == str(tmp_path / "x") and not isinstance(found.value, DiskFull)


def test_errors_of_pyav_get_the_name_too(tmp_path):
    """Their own name cannot be set."""
    with pytest.raises(FileNotFoundError) as found, naming_file(tmp_path / "x"):
        av.open(str(tmp_path / "missing" / "x.mp4"), "w").start_encoding()
    with pytest.raises(FileNotFoundError) as nameless, naming_file(tmp_path / "x"):
        raise av.error.FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), None)
    assert nameless.value.filename == str(tmp_path / "x") and found.value.filename


def test_an_atomic_file_counts_what_was_written(tmp_path):
    with pytest.raises(DiskFull, match="more than 10 bytes"), atomic_path(tmp_path / "x") as temporary:
        temporary.write_bytes(bytes(10))
        fail(errno.ENOSPC)
    assert list(tmp_path.iterdir()) == []


def test_written_bytes_of_files_and_folders(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(bytes(3))
    (tmp_path / "y").write_bytes(bytes(4))
    assert written_bytes(tmp_path) == 7 and written_bytes(tmp_path / "none") == 0


def test_a_limit_of_the_process_is_named(tmp_path):
    code = (
        "import resource, pathlib; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from flowprep.system.disk import naming_file; p = pathlib.Path('x')\n"
        "with naming_file(p, 5000): p.write_bytes(bytes(5000))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "5000 bytes are needed, and this process may write 1000 to a file (ulimit -f): 'x'" in run.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
