"""Flow as colours of the Middlebury wheel, distances as heat, and motion as arrows."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from flowprep.errors import UsageError

Image = NDArray[np.uint8]
Flow = NDArray[np.float32]
Colour = tuple[int, int, int]

ARROW: Colour = (255, 214, 64)
DARK: Colour = (20, 20, 24)
GREY_DOT: Colour = (150, 150, 150)


def flow_to_rgb(flow: NDArray[np.floating], max_px: float | None = None) -> Image:
    """Colour each displacement: its direction is the hue, and its length is the saturation.

    The colours are those of the Middlebury benchmark, with its wheel of 55 hues (Baker, Scharstein, Lewis,
    Roth, Black, Szeliski: "A database and evaluation methodology for optical flow", IJCV 2011). No motion is
    white, right is red, down is yellow, left is blue, and up is violet. Displacements over `max_px` are a
    quarter darker. Values that are not finite are black.

    Args:
        flow: (2, H, W), u = right and v = down, pixels.
        max_px: displacement of full colour, pixels; None for the largest one in the flow.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UsageError: the flow has another shape, or `max_px` is not above 0.
    """
    flow = np.asarray(flow, np.float32)
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise UsageError(f"flow has shape {flow.shape}; allowed: (2, H, W)")
    finite = np.isfinite(flow).all(axis=0)
    u, v = np.where(finite, flow, 0)
    length = np.hypot(u, v)
    if max_px is None:
        max_px = float(length.max(initial=0)) or 1.0  # without motion any scale gives white
    if not 0 < max_px < np.inf:
        raise UsageError(f"max_px is {max_px}; allowed: pixels above 0")
    radius = (length / max_px)[..., None]

    # In the code of the paper the first hue is at the angle -pi and the last at pi. Both mean right.
    wheel = _wheel()
    position = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1) % (len(wheel) - 1)
    lower = position.astype(np.intp)
    fraction = (position - lower)[..., None]
    hue = (1 - fraction) * wheel[lower] + fraction * wheel[lower + 1]
    colour = np.where(radius <= 1, 1 - radius * (1 - hue), 0.75 * hue)
    colour[~finite] = 0
    # Without the small sum, rounding could give a displacement of exactly max_px one level less.
    return np.asarray(colour * 255 + 1e-3, np.uint8)


@cache
def _wheel() -> Flow:
    """The 55 hues, (55, 3) RGB from 0 to 1.

    They are six ramps from corner to corner. A ramp has more hues if eyes can tell more of them.
    """
    ramps = [  # number of hues, channel that changes, whether it rises
        (15, 1, True),  # red to yellow
        (6, 0, False),  # yellow to green
        (4, 2, True),  # green to cyan
        (11, 1, False),  # cyan to blue
        (13, 0, True),  # blue to magenta
        (6, 2, False),  # magenta to red
    ]
    hues = []
    corner = np.array([255, 0, 0])
    for count, channel, rises in ramps:
        steps = np.tile(corner, (count, 1))
        ramp = 255 * np.arange(count) // count
        steps[:, channel] = ramp if rises else 255 - ramp
        hues.append(steps)
        corner[channel] = 255 if rises else 0
    return (np.concatenate(hues) / 255).astype(np.float32)


def distance_to_rgb(distance: NDArray[np.floating], max_px: float) -> Image:
    """Colour end-point distances from white over yellow and red to black, for `max_px` and more.

    Args:
        distance: (H, W), pixels, not negative. Values that are not finite are black.
        max_px: the distance that is black, pixels.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UsageError: `max_px` is not above 0.
    """
    if not 0 < max_px < np.inf:
        raise UsageError(f"max_px is {max_px}; allowed: pixels above 0")
    share = np.clip(np.nan_to_num(np.asarray(distance) / max_px, nan=1.0), 0, 1)
    levels = np.asarray(255 - 255 * share, np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_HOT)[..., ::-1])


def draw_arrows(image: Image, flow: Flow, times: float, spacing: int) -> Image:
    """Draw flow as arrows on a darkened grey copy of an image.

    An arrow starts at the pixel that moves. Arrows under one and a half pixels are drawn as dots.

    Args:
        image: (H, W, 3) uint8, RGB.
        flow: (2, H, W), u = right and v = down, pixels of the image.
        times: length of an arrow, divided by the length of the motion.
        spacing: distance between two arrows, pixels.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    canvas = cv2.cvtColor(np.asarray(grey * 0.6, np.uint8), cv2.COLOR_GRAY2RGB)
    ys = np.arange(spacing // 2, height, spacing)
    xs = np.arange(spacing // 2, width, spacing)
    smooth = cv2.blur(flow.transpose(1, 2, 0), (spacing // 2, spacing // 2))  # mean motion around the arrow
    fixed = 1 << 4  # OpenCV draws in sixteenths of a pixel
    for y in ys:
        for x in xs:
            u, v = smooth[y, x] * times
            length = float(np.hypot(u, v))
            start = (int(x) * fixed, int(y) * fixed)
            if not length >= 1.5:
                cv2.circle(canvas, start, fixed, GREY_DOT, -1, cv2.LINE_AA, 4)
                continue
            end = (round((x + u) * fixed), round((y + v) * fixed))
            tip = min(0.45, 5 / length)
            for colour, thickness in ((DARK, 3), (ARROW, 1)):
                cv2.arrowedLine(canvas, start, end, colour, thickness, cv2.LINE_AA, 4, tip)
    return np.asarray(canvas, np.uint8)
