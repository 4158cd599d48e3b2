"""The clips of a set of samples, their scenes and frames, and their video files."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from flowprep.synthetic.drawing import (
    BACKGROUND_SIDE,
    CELL,
    CELLS,
    FIGURES,
    HEIGHT,
    WIDTH,
    Image,
    Plane,
    colour,
    draw_background,
    draw_endless_sheet,
    draw_sheet,
    sample_tile,
)
from flowprep.synthetic.motion import MOTIONS, Pose, PoseAtFrame
from flowprep.system.atomic import atomic_path

FRAME_RATE = 25  # frames per second
NUM_FRAMES = (30, 36)  # of a clip, least and greatest: 1.2 to 1.4 s
TEST_SHARE = 0.3  # of the groups
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))  # steps of it keep any number of hues well apart


@dataclass(frozen=True)
class Clip:
    """The parameters of one clip. Everything in it follows from them.

    Attributes:
        path: of its file, relative to the folder of samples.
        label: its class.
        figure: a key of FIGURES.
        motion: a key of MOTIONS.
        is_test: whether it is in the test list.
        group_key: seeds the random numbers that all clips of its group share.
        clip_key: seeds the random numbers of the clip alone.
    """

    path: str
    label: str
    figure: str
    motion: str
    is_test: bool
    group_key: tuple[int, ...]
    clip_key: tuple[int, ...]


def plan_clips(classes: int, clips: int, seed: int) -> Iterator[Clip]:
    """All clips of a set of samples, by label.

    Args:
        classes: number of classes.
        clips: number of clips of each class.
        seed: of all random numbers.
    """
    groups = max(2, clips // 2)
    test_groups = max(1, round(TEST_SHARE * groups))
    motions = list(MOTIONS)[: (classes + 1) // 2]
    textures = [name for name in FIGURES if name != "Dots"][: classes // 2]
    kinds: list[tuple[str, str, tuple[str, ...]]]
    kinds = [("Dots" + motion, "Dots", (motion,)) for motion in motions]
    # Each texture starts with another motion, so that all motions are about equally frequent.
    kinds += [
        (name, name, (*motions[i % len(motions) :], *motions[: i % len(motions)]))
        for i, name in enumerate(textures)
    ]
    for index, (label, figure, moves) in sorted(enumerate(kinds), key=lambda kind: kind[1][0]):
        members = sorted((i % groups, i // groups) for i in range(clips))
        for i, (group, member) in enumerate(members):
            yield Clip(
                path=f"{label}/v_{label}_g{group + 1:02}_c{member + 1:02}.mp4",
                label=label,
                figure=figure,
                motion=moves[i % len(moves)],
                is_test=group < test_groups,  # as in UCF-101, the first groups are for testing
                group_key=(seed, 0, group),
                clip_key=(seed, 1, index, group, member),
            )


@dataclass(frozen=True)
class Scene:
    """The random choices of one clip.

    Attributes:
        background: from `draw_background`.
        light: factor of brightness.
        noise: standard deviation, grey levels.
        radius, centre: the window, pixels.
        motion: pose of the sheet in each frame, relative to the first one.
        angle, octave: pose of the sheet in the first frame.
        tile: from `draw_sheet`.
        starts: (64, 2) origin of each octave of the sheet, pixels.
        figure_colour, ground_colour: (3,) of the sheet.
        drift, drift_angle: speed of the background in pixels per frame, and its direction.
        corner: (2,) origin of the background, pixels.
        num_frames: length of the clip.
        rng: draws the noise.
    """

    background: Image
    light: float
    noise: float
    radius: float
    centre: list[float]
    motion: PoseAtFrame
    angle: float
    octave: float
    tile: Plane
    starts: NDArray[np.float64]
    figure_colour: Plane
    ground_colour: Plane
    drift: float
    drift_angle: float
    corner: NDArray[np.float64]
    num_frames: int
    rng: np.random.Generator

    def pose_at(self, t: int) -> Pose:
        """The pose of the sheet in frame t."""
        moved = self.motion(t)
        return Pose(moved.right, moved.down, self.angle + moved.angle, self.octave + moved.octave)

    def frames(self) -> Iterator[Image]:
        """Draw the frames: (120, 160, 3), RGB. The noise differs if this is called again."""
        y, x = np.indices((HEIGHT, WIDTH), np.float32)
        inside = self.radius - np.hypot(x - self.centre[0], y - self.centre[1])
        window = np.clip(inside + 0.5, 0, 1)[..., None]
        rim = np.clip(1.5 - np.abs(inside - 1), 0, 1)[..., None]
        direction = np.array([math.cos(self.drift_angle), math.sin(self.drift_angle)])
        for t in range(self.num_frames):
            corner = self.corner + self.drift * t * direction
            shift = np.array([[1, 0, corner[0]], [0, 1, corner[1]]])
            background = sample_tile(self.background, shift, 1)
            mask = draw_endless_sheet(self.tile, self.starts, self.centre, self.pose_at(t))[..., None]
            sheet = self.ground_colour + (self.figure_colour - self.ground_colour) * mask
            frame = background + (sheet - background) * window
            frame += (25 - frame) * rim  # a dark rim, visible on any background
            frame = frame * self.light + self.noise * self.rng.standard_normal(frame.shape, np.float32)
            yield np.clip(frame + 0.5, 0, 255).astype(np.uint8)


def draw_scene(clip: Clip, draw_sheet: Callable[[np.random.Generator, str], Plane] = draw_sheet) -> Scene:
    """Make the random choices of a clip. The same clip gives the same scene."""
    group_rng = np.random.default_rng(clip.group_key)
    light, noise = group_rng.uniform(0.85, 1.1), group_rng.uniform(1, 3)
    # The order of all following lines is fixed, because each draws from one generator.
    rng = np.random.default_rng(clip.clip_key)
    radius = rng.uniform(40, 52)
    centre = [rng.uniform(radius + 3, side - radius - 3) for side in (WIDTH, HEIGHT)]
    motion = MOTIONS[clip.motion](rng, radius)
    angle, octave = rng.uniform(0, 2 * math.pi), rng.uniform(0, 1)
    tile = draw_sheet(rng, clip.figure)
    starts = rng.uniform(0, CELLS * CELL, (64, 2))
    hue = _GOLDEN_ANGLE * list(FIGURES).index(clip.figure) + rng.uniform(-0.15, 0.15)
    figure_colour = colour(rng.uniform(195, 225), hue, 40)
    ground_colour = colour(rng.uniform(45, 75), hue + 0.8, 30)
    drift, drift_angle = rng.uniform(0, 0.5), rng.uniform(0, 2 * math.pi)
    corner = rng.uniform(0, BACKGROUND_SIDE, 2)
    num_frames = int(rng.integers(NUM_FRAMES[0], NUM_FRAMES[1] + 1))
    return Scene(
        background=draw_background(clip.group_key),
        light=light,
        noise=noise,
        radius=radius,
        centre=centre,
        motion=motion,
        angle=angle,
        octave=octave,
        tile=tile,
        starts=starts,
        figure_colour=figure_colour,
        ground_colour=ground_colour,
        drift=drift,
        drift_angle=drift_angle,
        corner=corner,
        num_frames=num_frames,
        rng=rng,
    )


def encode_mp4(path: Path, frames: Iterator[Image], codecs: Collection[str] = av.codecs_available) -> None:
    """Encode frames as an .mp4 file. The file appears only when it is whole.

    Args:
        path: the file.
        frames: (120, 160, 3) each, RGB.
        codecs: names of FFmpeg's codecs. PyAV's own builds have x264, and other builds at least FFmpeg's
            encoder of MPEG-4.
    """
    h264 = "libx264" in codecs
    # The bytes must not depend on the number of cores, so there is one thread. They must not differ from run
    # to run either, as they do with x264's macroblock tree.
    options = {"crf": "18", "preset": "veryfast", "x264-params": "mbtree=0"} if h264 else {"b": "2M"}
    options["threads"] = "1"
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264" if h264 else "mpeg4", rate=Fraction(FRAME_RATE), options=options
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
