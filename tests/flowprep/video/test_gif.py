"""The end of a GIF: what follows it, what stands before it, and where it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowprep.errors import VideoDamaged, VideoUnsuitable
from flowprep.video.container import estimate_frames
from flowprep.video.decode import read_frames
from tests.support.mutations import write_kind

COMMENT = b"!\xfe\5hello\0"


@pytest.fixture
def gif(tmp_path: Path) -> bytes:
    """12 pictures."""
    return write_kind(tmp_path, "gif", "gif", "rgb8").read_bytes()


def count(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    return len(list(read_frames(path, "source")))


@pytest.mark.parametrize(
    "more",
    [bytes(1), bytes(500), b"\n", b"text; and more;", b",", b"!", b"\xff" * 7, b"GIF89a", bytes(70000)],
)
def test_bytes_after_the_end_are_no_damage(tmp_path, gif, more):
    assert count(tmp_path / "a.gif", gif + more) == 12


def test_the_beginning_of_another_gif_after_the_end_is_no_damage(tmp_path, gif):
    assert count(tmp_path / "a.gif", gif + gif[: len(gif) // 50]) == 12


def test_comments_between_pictures_and_zeros_before_the_end_are_no_damage(tmp_path, gif):
    second = gif.index(b"!\xf9", gif.index(b"!\xf9") + 1)
    assert count(tmp_path / "a.gif", gif[:second] + COMMENT + gif[second:]) == 12
    assert count(tmp_path / "b.gif", gif[:-1] + COMMENT + gif[-1:]) == 12
    assert count(tmp_path / "c.gif", gif[:-1] + bytes(9) + gif[-1:]) == 12


@pytest.mark.parametrize("junk", [bytes(5), b"\xff" * 5, b"hello"])
def test_pictures_after_other_bytes_are_not_lost_silently(tmp_path, gif, junk):
    """FFmpeg reads no further than such bytes, and reports nothing."""
    third = [i for i in range(len(gif)) if gif[i : i + 3] == b"!\xf9\4"][2]
    with pytest.raises(VideoDamaged, match="no block of a GIF at byte"):
        count(tmp_path / "a.gif", gif[:third] + junk + gif[third:])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.99])
@pytest.mark.parametrize("more", [b"", bytes(100)])
def test_a_truncated_gif_is_found_even_if_it_is_filled_up(tmp_path, gif, share, more):
    with pytest.raises(VideoDamaged, match=r"cut short|decoding stops"):
        count(tmp_path / "a.gif", gif[: int(len(gif) * share)] + more)
    with pytest.raises(VideoDamaged, match="the mark that ends every GIF is missing"):
        count(tmp_path / "b.gif", gif[:-1])


@pytest.mark.parametrize("keep", ["whole", "cut"])
def test_a_sparse_gif_of_a_terabyte_is_planned_and_refused_at_once(tmp_path, gif, keep):
    path = tmp_path / "a.gif"
    path.write_bytes(gif if keep == "whole" else gif[: len(gif) // 2])
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    assert estimate_frames(path) <= 12
    with pytest.raises(VideoUnsuitable, match="follow the last block of the GIF"):
        next(read_frames(path, "source"))
