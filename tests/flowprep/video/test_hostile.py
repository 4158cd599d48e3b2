"""Malicious files: each fails as a video, soon and in little memory, and opens no other file."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import flowprep
from flowprep.errors import VideoDamaged, VideoError, VideoUnreadable, VideoUnsuitable
from flowprep.settings import Settings
from flowprep.video.container import estimate_frames, limit_decoder, open_video
from flowprep.video.decode import read_frames
from flowprep.video.frames import decode_image, read_image
from flowprep.video.suffixes import IMAGE_SUFFIXES
from tests.support.videos import write_frames, write_video

NO_FLOW = Settings(size="source", flow=False)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A video that no other file may make FFmpeg open."""
    return write_video(tmp_path / "secret.ts", 5)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {name}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/{name}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
        "<Representation><BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    ],
    ids=["hls", "concat", "http", "sdp", "dash"],
)
def test_playlists_open_nothing(tmp_path, secret, text):
    path = tmp_path / "list.mp4"
    path.write_text(text.format(name=secret.name))
    assert estimate_frames(path) == 0
    with pytest.raises(VideoUnreadable, match="not a video"):
        next(read_frames(path, "source"))


def test_without_the_restriction_a_playlist_would_be_followed(tmp_path, secret):
    """The test above could not fail if FFmpeg did not know the format."""
    path = tmp_path / "list.mp4"
    path.write_text(f"ffconcat version 1.0\nfile {secret.name}\n")
    with open_video(path, options={}) as container:
        assert len(list(container.decode(video=0))) == 5
    with pytest.raises(av.FFmpegError):
        open_video(path)


@pytest.mark.parametrize(
    "suffix", ["3gp", "asf", "avi", "m2ts", "m4v", "mkv", "mov", "mp4", "mpg", "ts", "vob", "wmv"]
)
def test_videos_of_every_kind_are_still_read(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", 5)
    assert len(list(read_frames(path, "source"))) == 5


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "a.mp4"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(VideoUnreadable):
        next(read_frames(path, "source"))


def test_a_declared_size_is_bounded(tmp_path):
    path = write_video(tmp_path / "a.mp4", 5, size=(64, 48))
    assert len(list(read_frames(path, "source", max_pixels=1024 * 1024))) == 5
    with pytest.raises(VideoUnsuitable, match="64x48 pixels are declared; allowed: at most 3071"):
        next(read_frames(path, "source", max_pixels=64 * 48 - 1))


def test_the_decoder_refuses_a_size_that_only_the_stream_declares(tmp_path):
    path = write_video(tmp_path / "a.mp4", 5, size=(64, 48))
    with open_video(path) as container:
        limit_decoder(container.streams.video[0], max_pixels=64 * 48 - 1)
        with pytest.raises(av.FFmpegError):
            list(container.decode(video=0))


def test_a_y4m_of_100000_by_100000_pixels(tmp_path):
    path = tmp_path / "bomb.y4m"
    path.write_bytes(b"YUV4MPEG2 W100000 H100000 F25:1 Ip C420\nFRAME\n" + bytes(1000))
    with pytest.raises(VideoError):
        list(read_frames(path, "source"))


def test_damage_is_still_reported(tmp_path):
    """The restriction of formats hides no damage."""
    path = write_video(tmp_path / "a.avi", 40, size=(64, 48))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(VideoDamaged):
        list(read_frames(path, "source"))


@pytest.fixture
def large_frames(tmp_path: Path) -> Path:
    """A folder of two frames of 8300x8300 pixels, which is more than MAX_PIXELS."""
    folder = tmp_path / "frames"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.zeros((8300, 8300), np.uint8))
    shutil.copy(folder / "0.png", folder / "1.png")
    return folder


def test_make_corpus_refuses_frames_that_are_too_large(tmp_path, large_frames):
    flowprep.make_corpus([large_frames], tmp_path / "c", Settings(flow=False), jobs=1)
    reason = flowprep.open_corpus(tmp_path / "c").failures["frames"]
    assert reason == f"0.png cannot be read: 8300x8300 pixels are declared; allowed: at most {2**26}"


def test_an_image_is_bounded_by_its_header_before_it_is_decoded(large_frames):
    data = (large_frames / "0.png").read_bytes()
    with pytest.raises(VideoUnsuitable, match="8300x8300"):
        read_image(large_frames / "0.png")
    with pytest.raises(VideoUnsuitable, match="8300x8300"):
        decode_image(data[:1000])  # the header alone: decoding would say that it is no whole image
    header = bytearray(data[:1000])
    header[16:24] = (200_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    with pytest.raises(VideoUnsuitable, match=f"allowed: at most {2**26} pixels"):
        decode_image(bytes(header))


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_images_of_every_kind_are_bounded(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.zeros((30, 40, 3), np.uint8))
    assert read_image(path, 1200).shape == (30, 40, 3)
    with pytest.raises(VideoUnsuitable, match="40x30 pixels are declared; allowed: at most 1199"):
        read_image(path, 1199)


@pytest.mark.parametrize("kind", ["pipe", "device", "sparse", "outside"])
def test_an_image_that_is_no_image_file_ends_its_video_only(tmp_path, kind):
    """A pipe would hang for ever, a device has no end, a sparse file fills the memory."""
    good = write_frames(tmp_path / "in" / "good", 5)
    bad = write_frames(tmp_path / "in" / "bad", 5)
    image = bad / "img_00004.png"
    if kind == "outside":
        image.rename(tmp_path / "secret.png")
        image.symlink_to(tmp_path / "secret.png")
    elif kind == "sparse":
        os.truncate(image, 100 << 30)
    else:
        image.unlink()
        os.mkfifo(image) if kind == "pipe" else image.symlink_to("/dev/zero")
    (tmp_path / "in" / "list.txt").write_text("good\nbad\n")
    flowprep.make_corpus([tmp_path / "in" / "list.txt"], tmp_path / "c", NO_FLOW, jobs=1)
    corpus = flowprep.open_corpus(tmp_path / "c")
    assert corpus[good.name].num_frames == 5
    assert set(corpus.failures) == {bad.name}
    expected = {
        "pipe": "it is a pipe; allowed is a regular file",
        "device": "it is a device",
        "sparse": "at most 537 MB are read",
        "outside": "it is a link to a file outside",
    }
    assert corpus.failures[bad.name].startswith("img_00004.png cannot be read: it ")
    assert expected[kind] in corpus.failures[bad.name]


def test_a_link_to_an_image_inside_the_input_is_read(tmp_path):
    first = write_frames(tmp_path / "in" / "a" / "first", 5)
    second = write_frames(tmp_path / "in" / "b" / "second", 5)
    (second / "img_00004.png").unlink()
    (second / "img_00004.png").symlink_to(first / "img_00003.png")
    flowprep.make_corpus([tmp_path / "in"], tmp_path / "c", NO_FLOW, jobs=1)
    assert flowprep.open_corpus(tmp_path / "c")["b/second"].num_frames == 5


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENAMETOOLONG, errno.ESTALE, errno.ENOTDIR])
def test_a_video_that_the_machine_cannot_read_fails_alone(tmp_path, monkeypatch, number):
    good, bad = (write_video(tmp_path / f"{name}.mp4", 5) for name in ("good", "bad"))
    stat_of = Path.stat

    def broken(path: Path, **options: bool) -> os.stat_result:
        if path.name == bad.name:
            raise OSError(number, os.strerror(number))
        return stat_of(path, **options)

    (tmp_path / "list.txt").write_text("good.mp4\nbad.mp4\n")
    monkeypatch.setattr(Path, "stat", broken)
    assert estimate_frames(bad) == 0
    with pytest.raises(VideoUnreadable, match=os.strerror(number)):
        next(read_frames(bad, "source"))
    flowprep.make_corpus([tmp_path / "list.txt"], tmp_path / "c", NO_FLOW, jobs=1)
    corpus = flowprep.open_corpus(tmp_path / "c")
    assert corpus[good.name].num_frames == 5
    assert corpus.failures == {bad.name: os.strerror(number)}


def test_a_path_that_is_too_long_fails_alone(tmp_path):
    write_video(tmp_path / "good.mp4", 5)
    long = "/".join(["y" * 200] * 30) + "/a.mp4"
    (tmp_path / "list.txt").write_text(f"good.mp4\n{long}\n")
    flowprep.make_corpus([tmp_path / "list.txt"], tmp_path / "c", NO_FLOW, jobs=1)
    corpus = flowprep.open_corpus(tmp_path / "c")
    assert corpus["good.mp4"].num_frames == 5
    assert corpus.failures == {long: "File name too long"}


@pytest.mark.parametrize(
    "error", [IndexError("list index"), RuntimeError("a bug"), MemoryError(), OSError(5, "I/O")]
)
def test_any_error_while_a_video_is_read_fails_that_video(tmp_path, monkeypatch, error):
    path = write_video(tmp_path / "a.mp4", 5)

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("flowprep.video.decode.orientation_of", broken)
    with pytest.raises(VideoDamaged, match="decoding stops after 1 frames"):
        list(read_frames(path, "source"))
    monkeypatch.setattr("flowprep.video.container.check_movie_header", broken)
    with pytest.raises(VideoUnreadable):
        list(read_frames(path, "source"))
    assert estimate_frames(path) == 0
