"""Folders of JPEGs as other tools write and read them: a table that export and import share.

Each was read in the sources of the tool it is named after:

=========  =============================================================================================
tsn        dense_flow's `extract_gpu`, for Temporal Segment Networks: `<video>/flow_x_00001.jpg`, numbers
           from 1; image n is the frame that flow n leads TO, so the first frame is not there
denseflow  open-mmlab's denseflow: numbers from 0, image n is the frame that flow n starts FROM; the name
           says the step where it is not 1: `flow_x_p2_00000.jpg`
gpu_flow   feichtenhofer's gpu_flow: `u/<video>/frame000001.jpg` and `v/`, numbers from 1, images apart in
           `jpegs_256/`, image n is the frame that flow n starts FROM
mmaction2  its raw frames: `<class>/<video>/`, numbers from 1 as its configurations expect
           (`start_index=1`), image n is the frame that flow n starts FROM
=========  =============================================================================================

All store round(255 (v + R) / (2 R)), the `tsn` codes, u as x and v as y.
"""

from __future__ import annotations

from dataclasses import dataclass

CODES = "tsn"


@dataclass(frozen=True)
class Layout:
    """How a layout names the files of a video.

    Attributes:
        rgb, u, v: path of an image, as a format with `video`, `step` ("" or "_p2") and `number`.
        first: number of the first pair.
        leads_to: an image has the number of the pair that leads to it, not of the one that starts there.
        flat: video folders stand side by side and not in the folders of their ids.
        lists: it comes with lists of `folder count class`, classes numbered from 0.
        others: other names of u and v that are met.
    """

    rgb: str
    u: str
    v: str
    first: int = 1
    leads_to: bool = False
    flat: bool = False
    lists: bool = False
    others: tuple[tuple[str, str], ...] = ()

    def first_frame(self, step: int) -> int:
        """The frame, counted from 0, whose image has the number of the first pair."""
        return step if self.leads_to else 0


_SHORT_NAMES = (("{video}/x_{number:05d}.jpg", "{video}/y_{number:05d}.jpg"),)

LAYOUTS = {
    "tsn": Layout(
        rgb="{video}/img_{number:05d}.jpg",
        u="{video}/flow_x_{number:05d}.jpg",
        v="{video}/flow_y_{number:05d}.jpg",
        leads_to=True,
        flat=True,
        lists=True,
        others=_SHORT_NAMES,
    ),
    "denseflow": Layout(
        rgb="{video}/img_{number:05d}.jpg",
        u="{video}/flow_x{step}_{number:05d}.jpg",
        v="{video}/flow_y{step}_{number:05d}.jpg",
        first=0,
        others=_SHORT_NAMES,
    ),
    "gpu_flow": Layout(
        rgb="jpegs_256/{video}/frame{number:06d}.jpg",
        u="u/{video}/frame{number:06d}.jpg",
        v="v/{video}/frame{number:06d}.jpg",
    ),
    "mmaction2": Layout(
        rgb="{video}/img_{number:05d}.jpg",
        u="{video}/flow_x_{number:05d}.jpg",
        v="{video}/flow_y_{number:05d}.jpg",
        lists=True,
        others=_SHORT_NAMES,
    ),
}


def step_mark(step: int) -> str:
    """What denseflow writes for a step other than 1."""
    return "" if step == 1 else f"_p{step}"
