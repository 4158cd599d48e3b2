"""Decoding: every kind of input, every kind of damage."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from flowprep.errors import VideoDamaged, VideoError, VideoUnreadable, VideoUnsuitable
from flowprep.video.container import estimate_frames
from flowprep.video.decode import read_frames
from flowprep.video.frame_folder import numbered_frames
from flowprep.video.frames import resize, to_grey
from flowprep.video.truncation import describe_truncation
from tests.support.videos import texture, write_frames, write_video


def read(path: Path, size: str = "source") -> list:
    return list(read_frames(path, size))


def test_frames_come_in_order_with_their_times(tmp_path):
    items = read(write_video(tmp_path / "a.mp4", 9))
    assert len(items) == 9
    assert [f.pts_seconds for _, f in items] == pytest.approx([i / 25 for i in range(9)])
    for i, (source, frame) in enumerate(items):
        assert (source.width, source.height, source.frame_rate) == (48, 32, 25)
        assert frame.rgb.shape == (32, 48, 3) and frame.rgb.dtype == np.uint8
        # The codec costs a few levels; the frame beside it is 4 times further away.
        assert np.abs(frame.rgb.astype(int) - texture(32, 48, i)).mean() < 4


def test_reading_from_a_later_frame_gives_the_same_frames(tmp_path):
    folder = write_frames(tmp_path / "f", 9)
    for path in (write_video(tmp_path / "a.mkv", 9, times=[0, 1, 2, 5, 6, 12, 13, 14, 20]), folder):
        whole = read(path)
        for start in (1, 4, 8, 9, 20):
            rest = list(read_frames(path, "source", start))
            assert len(rest) == max(0, 9 - start)
            for (source, frame), (source_, frame_) in zip(whole[start:], rest, strict=True):
                assert source == source_ and np.array_equal(frame.rgb, frame_.rgb)
                assert frame.pts_seconds == frame_.pts_seconds or path is folder


def test_variable_frame_rate_keeps_its_time_stamps(tmp_path):
    times = [0, 1, 2, 5, 6, 12, 13]
    items = read(write_video(tmp_path / "a.mkv", len(times), times=times))
    assert [f.pts_seconds for _, f in items] == pytest.approx([t / 25 for t in times], abs=1e-3)


def test_stored_size_is_exact_for_every_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3, size=(320, 240))
    assert {f.rgb.shape for _, f in read(path, "short:256")} == {(256, 341, 3)}  # 341.33 rounds to 341
    assert {f.rgb.shape for _, f in read(path, "100x40")} == {(40, 100, 3)}


def test_resizing_down_averages_and_grey_is_bt601():
    checkers = np.indices((32, 32)).sum(axis=0) % 2 * 200
    assert np.all(resize(checkers.astype(np.uint8), 16, 16) == 100)  # aliasing would give 0 or 200
    red, green, blue = (
        to_grey(np.full((1, 1, 3), c, np.uint8)).item() for c in np.eye(3, dtype=np.uint8) * 255
    )
    assert (red, green, blue) == (76, 150, 29)  # .299, .587, .114 of 255, rounded


def test_a_folder_of_numbered_frames(tmp_path):
    folder = write_frames(tmp_path / "f", 12, pattern="img_{}.png")  # 2 before 10: by number, not by text
    items = read(folder)
    assert estimate_frames(folder) == len(items) == 12
    for i, (_, frame) in enumerate(items):
        assert np.array_equal(frame.rgb, texture(32, 48, i))
        assert math.isnan(frame.pts_seconds)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "img_00003.png").unlink(), "frame 3 is missing: the images run from 1 to 5"),
        (lambda f: write_frames(f, 2, pattern="img_{:03d}.png"), "frame 1 is there twice"),
        (lambda f: write_frames(f, 2, pattern="x_{}.png"), "found: img_<number>.png, x_<number>.png"),
    ],
)
def test_a_folder_that_is_no_sequence_says_why(tmp_path, spoil, message):
    folder = write_frames(tmp_path / "f", 5)
    spoil(folder)
    with pytest.raises(VideoUnreadable, match=message):
        numbered_frames(folder)


def test_a_bad_image_in_a_folder_is_damage_at_its_place(tmp_path):
    folder = write_frames(tmp_path / "f", 5)
    path = folder / "img_00004.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(VideoDamaged, match=r"img_00004\.png") as caught:
        read(folder)
    assert caught.value.frames_before == 3
    cv2.imwrite(str(path), np.zeros((30, 48, 3), np.uint8))
    with pytest.raises(VideoDamaged, match="frame 3 is 48x30, the first is 48x32") as caught:
        read(folder)
    assert caught.value.frames_before == 3


def test_a_video_that_is_too_small_is_refused_unless_enlarged(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3, size=(8, 8))
    with pytest.raises(VideoUnsuitable, match="too small: 8x8"):
        read(path)
    assert len(read(path, "short:16")) == 3


def test_a_size_that_is_too_large_for_one_video_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3, size=(256, 16))
    with pytest.raises(VideoUnsuitable, match="too large: 65536x4096 pixels at size short:4096"):
        read(path, "short:4096")


def test_a_truncated_avi_is_detected_although_ffmpeg_reports_nothing(tmp_path):
    whole = write_video(tmp_path / "a.avi", 60)
    assert len(read(whole)) == 60
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(VideoDamaged, match="of 60 declared frames") as caught:
        read(cut)
    assert 5 < caught.value.frames_before < 60


def test_a_truncated_matroska_file_is_detected_by_its_length(tmp_path):
    whole = write_video(tmp_path / "a.mkv", 60)
    assert len(read(whole)) == 60
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(VideoDamaged, match="bytes of the declared length are missing"):
        read(cut)


def write_as(path: Path, codec: str, pixels: str, frames: int = 8) -> Path:
    """A video with another codec than MPEG-4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        for i in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(texture(32, 48, i), "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels", "message"),
    [
        ("gif", "gif", "rgb8", "the mark that ends every GIF is missing"),
        ("y4m", "wrapped_avframe", "yuv420p", "are no whole frame"),
        ("mxf", "mpeg2video", "yuv422p", "of 8 declared frames"),
    ],
)
def test_truncated_files_of_other_formats_are_detected(tmp_path, suffix, codec, pixels, message):
    whole = write_as(tmp_path / f"a.{suffix}", codec, pixels)
    assert len(read(whole)) == 8
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(VideoDamaged, match=message):
        read(cut)


def test_a_codec_without_a_decoder_is_reported(tmp_path):
    path = write_video(tmp_path / "a.avi", 3)
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"QQQQ"))
    with pytest.raises(VideoUnreadable, match="no decoder for the codec"):
        read(path)


def test_an_estimate_is_at_most_the_size_of_the_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3)
    assert estimate_frames(path) == 3
    assert estimate_frames(path, lambda _: 10**12) == path.stat().st_size
    assert estimate_frames(path, lambda _: -3) == 0


def test_flipped_bits_are_detected(tmp_path):
    data = bytearray(write_video(tmp_path / "a.avi", 40, size=(160, 128)).read_bytes())
    for i in np.random.default_rng(1).integers(len(data) // 4, len(data) * 3 // 4, 30):
        data[i] ^= 1 << int(i) % 8
    (tmp_path / "b.avi").write_bytes(data)
    with pytest.raises(VideoDamaged):
        read(tmp_path / "b.avi")


def test_no_video_at_all(tmp_path):
    (tmp_path / "empty.avi").touch()
    with pytest.raises(VideoUnreadable, match="0 bytes"):
        read(tmp_path / "empty.avi")
    (tmp_path / "text.mp4").write_text("not a video" * 100)
    with pytest.raises(VideoUnreadable, match="not a video"):
        read(tmp_path / "text.mp4")
    with pytest.raises(VideoUnreadable, match="No such file"):
        read(tmp_path / "none.mp4")


# Numbers of frames, by FFmpeg's own tools and the number of packets.
WHOLE = {
    "-video-with-dash-.mp4": 5,
    "animated.gif": 4,
    "av1_video.mkv": 125,
    "discard_first_keyframe.mp4": 25,
    "fire2.mp4": 25,
    "h264_10bits.mp4": 30,
    "h265_video.mp4": 10,
    "nasa_13013_rotated.mp4": 17,
    "no_duration.webm": 74,
    "sine_stereo_mp2.mpg": 100,
    "test_non_zero_start.mp4": 12,
    "testsrc2_mpeg4.avi": 30,
    "testsrc2_odd_height_and_width_vp9.mp4": 25,
    "transparent.webm": 150,
    "unordered.mov": 4,
    "video_180.mov": 3,
    "video_90.mov": 3,
}


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_odd_videos_are_read_to_the_end(shared_data, name):
    items = read(shared_data / "odd_videos" / name, "short:32")
    assert len(items) == WHOLE[name]
    times = [f.pts_seconds for _, f in items]
    assert all(a < b for a, b in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("corrupted.mp4", 28),
        ("truncated_ucf.avi", 78),
        ("truncated_nasa.mp4", None),
        ("zero_length.avi", None),
    ],
)
def test_odd_videos_that_are_damaged_fail_with_a_reason(shared_data, name, clean):
    frames = []
    with pytest.raises(VideoError) as caught:
        for item in read_frames(shared_data / "odd_videos" / name, "short:32"):
            frames.append(item)
    assert len(str(caught.value)) > 10
    assert getattr(caught.value, "frames_before", None) == clean
    assert len(frames) == (clean or 0)


def test_half_of_a_program_stream_fails(shared_data, tmp_path):
    data = (shared_data / "odd_videos" / "sine_stereo_mp2.mpg").read_bytes()
    (tmp_path / "half.mpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoDamaged) as caught:
        read(tmp_path / "half.mpg", "short:32")
    assert 50 < caught.value.frames_before < 64


@pytest.mark.parametrize("name", ["nasa_13013_rotated.mp4", "video_90.mov", "video_180.mov", "fire2.mp4"])
def test_rotation_is_applied_as_players_do(shared_data, name):
    path = shared_data / "odd_videos" / name
    capture = cv2.VideoCapture(str(path))  # turns frames by default
    _, bgr = capture.read()
    _, frame = read(path)[0]
    assert frame.rgb.shape == bgr.shape
    assert np.abs(frame.rgb.astype(int) - bgr[..., ::-1]).mean() < 2  # two colour conversions


@pytest.mark.parametrize("step", [1, 7])
def test_matroska_segments_may_begin_anywhere(tmp_path, step):
    """Empty space before the segment moves it across each limit of a buffer of 4,096 bytes."""
    data = write_video(tmp_path / "a.mkv", 3).read_bytes()
    segment = data.index(b"\x18\x53\x80\x67")
    path = tmp_path / "b.mkv"
    for begin in range(4000, 4200, step):
        fill = begin - segment - 9  # a Void element with a length of 8 bytes
        space = b"\xec\1" + fill.to_bytes(7, "big") + bytes(fill)
        path.write_bytes(data[:segment] + space + data[segment:])
        assert path.read_bytes().index(b"\x18\x53\x80\x67") == begin
        assert describe_truncation(path, path.stat().st_size, "matroska,webm", 0) == ""
        assert "100 bytes" in describe_truncation(path, path.stat().st_size - 100, "matroska,webm", 0)
        if begin % 20 == 0 or begin in (4092, 4093, 4095):
            assert len(read(path)) == 3


@pytest.mark.parametrize("end", [*range(1, 60)])
def test_a_matroska_header_that_ends_anywhere_raises_nothing(tmp_path, end):
    path = tmp_path / "a.mkv"
    path.write_bytes(write_video(tmp_path / "whole.mkv", 3).read_bytes()[:end])
    assert isinstance(describe_truncation(path, end, "matroska,webm", 0), str)
    with pytest.raises(VideoError):
        read(path)
