"""Files are written whole or not at all."""

import pytest

from trainer.files import write_atomically


class Killed(Exception):
    pass


def test_a_failed_write_leaves_the_previous_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda f: f.write(b"previous"))

    def broken(file):
        file.write(b"half of the n")
        raise Killed

    with pytest.raises(Killed):
        write_atomically(path, broken)
    assert path.read_bytes() == b"previous" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file(tmp_path):
    def full(_file):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*last.pt"):
        write_atomically(tmp_path / "last.pt", full)
