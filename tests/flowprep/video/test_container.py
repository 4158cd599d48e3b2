"""Opening a file: text of any encoding, the choice of the stream, headers that would fill the memory."""

from __future__ import annotations

import os
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from flowprep.errors import VideoUnreadable, VideoUnsuitable
from flowprep.video.container import BoundedFile, estimate_frames, open_video
from flowprep.video.decode import read_frames
from flowprep.video.suffixes import VIDEO_SUFFIXES
from tests.support.videos import texture, write_video


def read(path: Path) -> list:
    return list(read_frames(path, "source"))


# Text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "flv", "ts"])
@pytest.mark.parametrize("text", [b"\xcf\xf0\xe8\xe2\xe5\xf2!", b"\xff\xfeA\0B\0!", b"caf\xe9 \x80!"])
def test_text_need_not_be_utf8(tmp_path, suffix, text):
    path = tmp_path / f"a.{suffix}"
    codecs = {"webm": "libvpx", "flv": "flv"}
    plain = "Title!!"[: len(text)].ljust(len(text), "!")
    with av.open(str(path), "w") as container:
        container.metadata.update(title=plain, artist=plain, comment=plain, service_name=plain)
        stream = container.add_stream(codecs.get(suffix, "mpeg4"), rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.metadata.update(title=plain, handler_name=plain, language="eng")
        for i in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(texture(32, 48, i), "rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    if suffix != "ts":  # it has checksums
        assert plain.encode() in data
        path.write_bytes(data.replace(plain.encode(), text).replace(b"eng", b"\xe9ng"))
    assert len(read(path)) == 5
    assert estimate_frames(path) in (0, 5)


# The stream -----------------------------------------------------------------------------------------------


def write_streams(path: Path, *streams: tuple[int, int, Disposition], frames: int = 5) -> Path:
    """A video with several streams of these sizes and dispositions."""
    with av.open(str(path), "w") as container:
        outputs = []
        for width, height, disposition in streams:
            is_cover = disposition & Disposition.attached_pic
            stream = container.add_stream("mjpeg" if is_cover else "mpeg4", rate=25)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if is_cover else "yuv420p"
            stream.codec_context.time_base = Fraction(1, 25)
            stream.disposition = disposition
            outputs.append(stream)
        for i in range(frames):
            for stream, (width, height, disposition) in zip(outputs, streams, strict=True):
                if i == 0 or not disposition & Disposition.attached_pic:
                    frame = av.VideoFrame.from_ndarray(texture(height, width, i), "rgb24")
                    frame.pts = i
                    container.mux(stream.encode(frame))
        for stream in outputs:
            container.mux(stream.encode(None))
    return path


NONE, DEFAULT, COVER = Disposition(0), Disposition.default, Disposition.attached_pic


def test_an_attached_picture_is_not_the_video(tmp_path):
    path = write_streams(tmp_path / "a.mp4", (64, 64, COVER), (48, 32, NONE))
    frames = read(path)
    assert len(frames) == 5 == estimate_frames(path)
    assert frames[0][0][:2] == (48, 32)
    assert frames[0][0].warning == ""


def test_a_file_with_nothing_but_an_attached_picture_is_no_video(tmp_path):
    path = write_streams(tmp_path / "a.mp4", (64, 64, COVER))
    with pytest.raises(VideoUnreadable, match=r"no video stream \(streams: attached picture\)"):
        read(path)
    assert estimate_frames(path) == 0


@pytest.mark.parametrize(
    ("suffix", "streams", "chosen"),
    [
        ("ts", [(48, 32, NONE), (64, 48, NONE)], 1),  # the larger one
        ("ts", [(64, 48, NONE), (48, 32, NONE)], 0),
        ("ts", [(48, 32, NONE), (48, 32, NONE)], 0),  # the first of equals
        ("mkv", [(48, 32, DEFAULT), (64, 48, NONE)], 0),  # the default one
        ("mkv", [(64, 48, NONE), (48, 32, DEFAULT)], 1),
        ("mkv", [(48, 32, DEFAULT), (64, 48, DEFAULT)], 1),
    ],
)
def test_of_several_streams_the_one_of_ffmpeg_is_read_with_a_warning(tmp_path, suffix, streams, chosen):
    source, frame = read(write_streams(tmp_path / f"a.{suffix}", *streams))[0]
    width, height, _ = streams[chosen]
    assert (source.width, source.height) == (width, height)
    other = streams[1 - chosen]
    assert source.warning == (
        f"stream {chosen} ({width}x{height}) is stored;"
        f" other video streams: {1 - chosen} ({other[0]}x{other[1]})"
    )
    assert np.abs(frame.rgb.astype(int) - texture(height, width)).mean() < 9


# Bounds ---------------------------------------------------------------------------------------------------


def compressed_header(path: Path, declared: int | None = None, nested: bool = False) -> Path:
    """A QuickTime file whose header is compressed, and declares a length when it is not."""

    def atom(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, "big") + kind + content

    def compressed(content: bytes, length: int) -> bytes:
        data = atom(b"dcom", b"zlib") + atom(b"cmvd", length.to_bytes(4, "big") + zlib.compress(content))
        return atom(b"moov", atom(b"cmov", data))

    data = write_video(path, 5).read_bytes()
    at = data.index(b"moov") - 4
    header = data[at:]  # the header is the last atom
    if nested:
        header = compressed(header, len(header))
    path.write_bytes(data[:at] + compressed(header, declared or len(header)))
    return path


def test_a_compressed_header_is_read(tmp_path):
    path = compressed_header(tmp_path / "a.mov")
    assert len(read(path)) == 5 == estimate_frames(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"declared": 2**31 - 1}, r"declares 2\.15 GB; allowed: at most 67\.1 MB"),
        ({"nested": True}, "contains another compressed header"),
    ],
)
@pytest.mark.parametrize("first", [b"", b"\0\0\0\x0cabcdefgh", b"\0\0\0\x08junk"])
def test_a_compressed_header_that_would_fill_the_memory_is_refused(tmp_path, options, message, first):
    path = compressed_header(tmp_path / "a.mov", **options)
    path.write_bytes(first + path.read_bytes())
    with pytest.raises(VideoUnsuitable, match=message):
        read(path)
    assert estimate_frames(path) == 0


def test_samples_that_only_the_header_has_are_not_counted(tmp_path):
    """Of a file of 1 kB, FFmpeg made a table of 4 GB in 40 s."""
    path = write_video(tmp_path / "a.mp4", 5)
    data = bytearray(path.read_bytes())
    for name, numbers in ((b"stsz", (0, 1, 50_000_000)), (b"stts", (0, 1, 50_000_000, 512))):
        at = data.index(name) + 4
        data[at : at + 4 * len(numbers)] = b"".join(number.to_bytes(4, "big") for number in numbers)
    at = data.index(b"stsc") + 12
    data[at : at + 8] = (1).to_bytes(4, "big") + (50_000_000).to_bytes(4, "big")
    path.write_bytes(data)
    assert estimate_frames(path) == 0
    with pytest.raises(VideoUnsuitable, match="its header declares 50000000 samples of equal size"):
        read(path)


def test_a_fragment_declares_no_more_samples_than_a_file_has_bytes(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_every_frame+empty_moov"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(texture(32, 48, i), "rgb24")))
        container.mux(stream.encode(None))
    assert len(read(path)) == 5
    data = bytearray(path.read_bytes())
    at = data.index(b"trun")
    data[at + 6] &= 0xF0  # no table
    data[at + 8 : at + 12] = (2**31 - 1).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(VideoUnsuitable, match="declares 2147483647 samples"):
        read(path)


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8"])
def test_sound_whose_samples_have_equal_size_is_no_fault(tmp_path, monkeypatch, codec):
    """FFmpeg makes no table of them. An hour has 172,800,000."""
    monkeypatch.setattr("flowprep.video.quicktime._MAX_SAMPLES", 10)
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("mpeg4", rate=25), container.add_stream(codec, rate=48000)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound.layout = "mono"
        for i in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(texture(32, 48, i), "rgb24")))
        pixels = "s16" if codec == "pcm_s16le" else "u8"
        silence = np.zeros((1, 48000), np.int16 if pixels == "s16" else np.uint8)
        frame = av.AudioFrame.from_ndarray(silence, format=pixels, layout="mono")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    assert len(read(path)) == 5


def test_a_header_of_a_terabyte_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", 5)
    data = path.read_bytes()
    at = data.index(b"moov") - 4
    path.write_bytes(data[:at] + b"\0\0\0\1moov" + (1 << 40).to_bytes(8, "big") + data[at + 8 :])
    os.truncate(path, 1 << 40)
    with pytest.raises(VideoUnsuitable, match="header moov is larger than"):
        read(path)
    assert estimate_frames(path) == 0


@pytest.mark.parametrize(
    "suffix", ["avi", "mkv", "flv", "mpg", "ts", "wmv", "y4m", "mxf", "h264", "m2v", "ogg"]
)
def test_planning_reads_a_bounded_part_of_a_sparse_file(tmp_path, monkeypatch, suffix):
    """A file that begins like a video and goes on with nothing: FFmpeg looks for the next packet."""
    path = write_video(tmp_path / "a.mkv", 9) if suffix == "mkv" else tmp_path / f"a.{suffix}"
    start = {
        "avi": b"RIFF\xff\xff\xff\xffAVI LIST",
        "flv": b"FLV\1\1\0\0\0\x09\0\0\0\0",
        "mpg": b"\0\0\1\xba\x44\0\4\0\4\1\0\0\3\xf8",
        "y4m": b"YUV4MPEG2 W8000 H8000 F25:1 Ip C420\nFRAME\n",
    }
    path.write_bytes(start.get(suffix) or path.read_bytes()[:700] if path.exists() else b"\0\0\0\1\x67")
    os.truncate(path, 1 << 40)
    monkeypatch.setattr("flowprep.video.container.PLANNING_BYTES", 1 << 20)
    assert 0 <= estimate_frames(path) < 1 << 40


def test_a_bounded_file_ends_after_the_bytes_that_were_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    with BoundedFile(path, 30) as file:
        assert file.read(20) == bytes(range(20))
        assert file.seek(90) == 90 == file.tell()
        assert file.read(20) == bytes(range(90, 100))
        assert file.seek(0) == 0
        assert file.read(20) == b""


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_a_suffix_changes_nothing(tmp_path, suffix):
    """The content of a file decides, as the names of real files often lie."""
    path = write_video(tmp_path / "a.mp4", 5).rename(tmp_path / f"b{suffix}")
    assert len(read(path)) == 5


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        ("ivf", "libvpx", "yuv420p"),
        ("mjpeg", "mjpeg", "yuvj420p"),
        ("apng", "apng", "rgb24"),
        ("h264", "libx264", "yuv420p"),
        ("hevc", "libx265", "yuv420p"),
        ("m2v", "mpeg2video", "yuv420p"),
        ("m1v", "mpeg1video", "yuv420p"),
    ],
)
def test_streams_without_a_common_container_are_read(tmp_path, suffix, codec, pixels):
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for i in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(texture(48, 64, i), "rgb24")))
        container.mux(stream.encode(None))
    assert len(read(path)) == 12
    with open_video(path) as container:
        assert container.streams.video
