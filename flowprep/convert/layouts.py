"""Folders of JPEGs as other tools write and read them: one table for export and import.

Each layout was read in the source code of the tool that it is named after:

=========  =============================================================================================
tsn        dense_flow's `extract_gpu`, for Temporal Segment Networks: `<video>/flow_x_00001.jpg`. Numbers
           begin at 1. Image n is the frame that flow n leads TO, so the first frame is not there.
denseflow  open-mmlab's denseflow. Numbers begin at 0. Image n is the frame that flow n starts FROM. The
           name contains the step if it is not 1: `flow_x_p2_00000.jpg`.
gpu_flow   feichtenhofer's gpu_flow: `u/<video>/frame000001.jpg` and `v/`. Numbers begin at 1. The images
           are in `jpegs_256/`. Image n is the frame that flow n starts FROM.
mmaction2  raw frames of mmaction2: `<class>/<video>/`. Numbers begin at 1, as its configurations expect
           (`start_index=1`). Image n is the frame that flow n starts FROM.
=========  =============================================================================================

All store the `tsn` codes, round(255 (v + R) / (2 R)), with u as x and v as y.
"""

from __future__ import annotations

from dataclasses import dataclass

CODES = "tsn"


@dataclass(frozen=True)
class Layout:
    """The names and numbers of the files of a video.

    Attributes:
        rgb, u, v: path of an image, a format string with `video`, `step` ("" or "_p2") and `number`.
        first: number of the first pair.
        leads_to: whether an image has the number of the pair that leads to it, and not of the pair that
            starts at it.
        flat: whether all video folders are side by side, and not in the folders of their ids.
        lists: whether there are lists of `folder count class`, with classes numbered from 0.
        others: alternative paths of u and v, for import.
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
        """Index of the frame whose image has the number of the first pair."""
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
    """The part of a file's name that contains the step, as denseflow writes it; "" for step 1."""
    return "" if step == 1 else f"_p{step}"
