"""Malicious files: each fails as a video, soon and in little memory, and opens no other file."""

from __future__ import annotations

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
from tests.support.videos import write_video

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
