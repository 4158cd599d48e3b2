"""Films, read back as a player reads them."""

import av
import numpy as np
import pytest

from flowprep.errors import UsageError
from flowprep.viz import distance_to_rgb, film_frames, save_film
from tests.support.clips import Clip, Twice, blocks, colour_of


def read(path):
    """Codec, pixel format, times in seconds, and (N, H, W, 3) RGB."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        pictures = [f.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for f in frames]
        return stream.codec_context, [f.time for f in frames], np.stack(pictures)


def test_a_film_has_frame_flow_and_arrows_at_the_times_of_the_video(tmp_path):
    times = np.array([0.5, 0.54, 0.58, 1.0, 1.04, 1.08])
    clip = Clip(num_frames=6, times=times)
    calls = []

    def progress(done, total, note=""):
        calls.append((done, total))

    film = save_film(film_frames(clip, width=601), tmp_path / "f.mp4", progress, total=5)
    assert calls == [(n, 5) for n in range(1, 6)]
    context, played, pictures = read(tmp_path / "f.mp4")
    assert (film.frames, film.width, film.height) == (5, 600, pictures.shape[1])
    assert context.name == "h264" if film.encoder == "libx264" else context.name
    assert context.pix_fmt == "yuv420p" and pictures.shape[1] % 2 == 0
    np.testing.assert_allclose(played, times[:5] - 0.5, atol=1e-4)  # ticks of 1/60000 s
    (frame,) = blocks(next(iter(film_frames(clip, width=601)))[1], (10, 90, 10))
    x, y, w, h = frame
    step = (600 - 2 * x + 5) // 3
    assert w > 150
    inside = pictures[:, y + 9 : y + h - 9]
    # Encoding (4:2:0, crf 18) changes the drawn colours by at most 8 levels.
    for left, colour in ((x, (10, 90, 10)), (x + step, colour_of((1, 0), 1))):
        panel = inside[:, :, left + 9 : left + w - 9]
        assert np.abs(panel - np.array(colour, int)).max() <= 8
    assert (inside[:, :, x + 2 * step :].max(axis=(1, 2))[:, 0] > 150).all()  # arrows on the dark copy
    assert [p.name for p in tmp_path.iterdir()] == ["f.mp4"]


def test_a_comparing_film_has_both_flows_and_their_distance():
    (_, picture), *rest = film_frames(Clip(num_frames=4), Twice(num_frames=4), ("a", "b"), 800)
    assert len(rest) == 2
    black = blocks(picture, tuple(distance_to_rgb(np.array([[0.5]]), 0.5)[0, 0].tolist()))
    (frame,) = blocks(picture, (10, 90, 10))
    assert [b[1:] for b in black] == [frame[1:]] and black[0][0] > frame[0]


def test_a_part_of_a_video_without_a_clock():
    clip = Clip(num_frames=30, times=np.full(30, np.nan), frame_rate=0.0)
    times = [seconds for seconds, _ in film_frames(clip, width=300, first=10, count=12)]
    np.testing.assert_allclose(times, np.arange(12) / 25, atol=1e-9)
    assert len(list(film_frames(clip, width=300, first=20, count=100))) == 9


def test_a_corpus_without_frames_has_arrows_on_grey():
    (_, picture), *_ = film_frames(Clip(num_frames=3, has_rgb=False), width=400)
    assert not blocks(picture, (10, 90, 10)) and blocks(picture, colour_of((1, 0), 1))


@pytest.mark.parametrize(
    ("clip", "options", "message"),
    [
        (Clip(has_flow=False), {}, "no flow to play"),
        (Clip(num_frames=5), {"first": 4}, "pairs 0 to 3"),
        (Clip(), {"width": 100}, "pixels from 200"),
    ],
)
def test_bad_arguments_of_a_film_are_refused(clip, options, message):
    with pytest.raises(UsageError, match=message):
        next(film_frames(clip, **options))


def test_a_film_that_cannot_be_written_gives_an_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        save_film(film_frames(Clip(num_frames=3), width=300), tmp_path / "missing" / "f.mp4")
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_ffmpeg_does_not_have_is_skipped(tmp_path):
    encoders = {"no_such_encoder": {}, "mpeg4": {"b": "6000000"}}
    film = save_film(film_frames(Clip(num_frames=3), width=300), tmp_path / "f.mp4", encoders=encoders)
    assert film.encoder == read(tmp_path / "f.mp4")[0].name == "mpeg4"
