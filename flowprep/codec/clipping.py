"""How much flow the fixed range of a quantiser clips, and a warning if that is too much."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowprep.settings import MAX_RANGE, Settings

WARNING_SHARE = 0.01  # of a video's values: a warning is given if more are clipped
SUGGESTED_SHARE = 0.001  # of the values: the suggested range clips at most these


def count_clipped(flow: npt.NDArray[np.float32], settings: Settings) -> npt.NDArray[np.int64]:
    """Count the values that the codes fixed and tsn clip.

    Args:
        flow: displacements in pixels, of any shape.
        settings: those that the flow is encoded with.

    Returns:
        (MAX_RANGE + 1,): element r counts the clipped values that range r holds and range r - 1 does not.
        All are 0 for adaptive codes.
    """
    if settings.codes == "adaptive":
        return np.zeros(MAX_RANGE + 1, np.int64)
    size = np.abs(flow)
    needed_range = np.ceil(np.minimum(size[size > settings.range], MAX_RANGE)).astype(np.int64)
    return np.bincount(needed_range, minlength=MAX_RANGE + 1)


def clipping_warning(counts: npt.NDArray[np.int64], values: int, settings: Settings) -> str:
    """A warning that names a better range, if over 1% of a video's values are clipped; else "".

    Args:
        counts: sum of `count_clipped` over the video.
        values: number of all values of the video.
        settings: those that the video was encoded with.
    """
    if counts.sum() <= WARNING_SHARE * values:
        return ""
    # Element r: values that a range of r - 1 pixels clips.
    clipped = counts[::-1].cumsum()[::-1]
    suggested = int(np.argmax(np.append(clipped[1:], 0) <= SUGGESTED_SHARE * values))
    return (
        f"{counts.sum() / values:.1%} of its displacements are clipped to +-{settings.range:g} px;"
        f" range {suggested} would clip at most 0.1%"
    )
