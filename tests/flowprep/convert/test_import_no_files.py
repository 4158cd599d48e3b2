"""Images that are no files, too large, or elsewhere: they fail their video, and the others are imported."""

from __future__ import annotations

import errno
import os
import shutil
import struct

import pytest

from flowprep import open_corpus
from flowprep.convert.export import export
from flowprep.convert.import_folders import import_folders

FIRST, THIRD = "img_00000.jpg", "img_00002.jpg"


@pytest.fixture
def folder(corpus, tmp_path):
    """An export with five videos."""
    export(corpus, tmp_path / "x", "denseflow")
    return tmp_path / "x"


def pipe(path, whole):
    os.mkfifo(path)


def device(path, whole):
    path.symlink_to("/dev/zero")


def sparse(path, whole):
    with path.open("wb") as file:
        file.truncate(100 * 10**9)


def outside(path, whole):
    secret = path.parents[3] / "secret.jpg"
    secret.write_bytes(whole)
    path.symlink_to(secret)


def nowhere(path, whole):
    path.symlink_to("nothing")


def subfolder(path, whole):
    path.mkdir()


def huge(path, whole):
    """A JPEG that declares 65,000 pixels square."""
    at = whole.index(b"\xff\xc0") + 5
    path.write_bytes(whole[:at] + struct.pack(">HH", 65_000, 65_000) + whole[at + 4 :])


def header_only(path, whole):
    path.write_bytes(b"\xff\xd8\xff\xe0\0\x02\xff\xc0\0\x03\x08")


def nothing(path, whole):
    path.write_bytes(b"")


KINDS = {
    pipe: "is a pipe",
    device: "is a device",
    sparse: "has 100 GB",
    outside: "is a link to a file outside",
    nowhere: "could not be read: No such file",
    subfolder: "is a folder",
    huge: "cannot be read: ",
    header_only: "is not a complete JPEG",
    nothing: "is not a complete JPEG",
}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", [FIRST, THIRD])
def test_a_bad_picture_fails_its_video_only(folder, tmp_path, make, name):
    path = folder / "left" / "long" / name
    whole = path.read_bytes()
    path.unlink()
    make(path, whole)
    status = import_folders(folder, tmp_path / "c", "denseflow", range=8)
    assert status.videos.total == 5 and status.videos.pending == 0
    found = {**status.failures, **status.partial}
    assert list(found) == ["left/long"]
    assert found["left/long"].startswith(f"{name} {KINDS[make]}"), found
    assert len(open_corpus(tmp_path / "c")) == (4 if name == FIRST else 5)
    if name == THIRD:
        assert open_corpus(tmp_path / "c")["left/long"].num_frames == 2


def test_a_link_within_the_import_is_read(folder, tmp_path):
    path = folder / "left" / "long" / THIRD
    (tmp_path / "x" / "images").mkdir()
    path.rename(tmp_path / "x" / "images" / "a.jpg")
    path.symlink_to("../../images/a.jpg")
    status = import_folders(folder, tmp_path / "c", "denseflow", range=8)
    assert not status.failures and not status.partial


def test_an_error_of_the_machine_stores_nothing_of_the_video(folder, tmp_path, monkeypatch):
    """It is not known whether the image is sound. So no beginning is stored as if it were damaged."""
    from flowprep.convert import imported_video

    read = imported_video.read_regular

    def failing(path, **options):
        if path.name == THIRD and path.parent.name == "long":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path, **options)

    monkeypatch.setattr(imported_video, "read_regular", failing)
    status = import_folders(folder, tmp_path / "c", "denseflow", range=8)
    assert not status.partial and "could not be read: Input/output error" in status.failures["left/long"]
    monkeypatch.undo()
    status = import_folders(folder, tmp_path / "c", "denseflow", range=8, retry_failed=True)
    assert status.videos.ok == 5 and not status.failures


def test_folders_of_systems_are_passed_over(folder, tmp_path):
    for name in (".Trash-1000", "__MACOSX", ".ipynb_checkpoints", "@eaDir"):
        shutil.copytree(folder / "left" / "long", folder / "left" / name / "long")
    (folder / "left" / "long" / f"._{FIRST}").write_bytes(b"\0\5\26\7")
    assert import_folders(folder, tmp_path / "c", "denseflow", range=8).videos.total == 5
