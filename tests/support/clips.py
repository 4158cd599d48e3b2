"""A video with known frames and flow, and the rectangles of a picture, for tests of `flowprep.viz`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowprep.errors import OutOfRange
from flowprep.viz import flow_to_rgb

FRAME, FLOW = (10, 90, 10), (255, 0, 0)  # colours of a frame, and of the flow to the right


def colour_of(motion, max_px=None):
    """The colour of one displacement."""
    return tuple(flow_to_rgb(np.array(motion, np.float32).reshape(2, 1, 1), max_px)[0, 0].tolist())


@dataclass
class Clip:
    """A video whose frames have one colour and whose flow is one motion. `requested` lists the read pairs."""

    width: int = 160
    height: int = 120
    num_frames: int = 33
    step: int = 1
    id: str = "Punch/v_Punch_g01_c01.avi"
    label: str = "Punch"
    frame_rate: float = 25.0
    damage: str = ""
    has_rgb: bool = True
    has_flow: bool = True
    motion: tuple[float, float] = (2.0, 0.0)
    times: np.ndarray | None = None
    requested: list = field(default_factory=list)

    @property
    def num_pairs(self):
        return self.num_frames - self.step

    @property
    def times_seconds(self):
        return np.arange(self.num_frames) / 25 if self.times is None else self.times

    def rgb(self, index):
        if not self.has_rgb:
            raise OutOfRange("stored without frames")
        assert 0 <= index < self.num_frames
        return np.full((self.height, self.width, 3), (10, 90, 10), np.uint8)

    def flow(self, start, count):
        if not self.has_flow:
            raise OutOfRange("stored without flow")
        assert 0 <= start <= start + count <= self.num_pairs
        self.requested.append(start)
        flow = np.empty((count, 2, self.height, self.width), np.float32)
        flow[:, 0], flow[:, 1] = self.motion
        return flow


class Twice(Clip):
    """Moves 0.5 px further to the right, and 3 px further in one pair."""

    def flow(self, start, count):
        flow = super().flow(start, count)
        flow[:, 0] += 0.5
        flow[[i for i in range(count) if start + i == 15], 0] += 2.5
        return flow


def blocks(image, colour):
    """(x, y, width, height) of each rectangle of one colour, left to right, then top to bottom."""
    same = (image == colour).all(axis=2)
    rectangles = []
    for y, x in np.argwhere(same):
        if not same[y, x]:
            continue
        width = int(np.argmin(np.append(same[y, x:], False)))
        height = int(np.argmin(np.append(same[y:, x], False)))
        if width > 4 and height > 4:
            rectangles.append((int(x), int(y), width, height))
        same[y : y + height, x : x + width] = False
    return sorted(rectangles)
