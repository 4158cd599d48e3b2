"""The parameters of TV-L1 optical flow."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from flowprep.errors import SettingsError
from flowprep.validation import check, check_types

WARPS = ("cubic", "spline")
# The first versions of flowprep had no parameter from here on. Corpora of those versions have the defaults.
FIRST_ADDED = "coupled"


@dataclass(frozen=True)
class Tvl1Settings:
    """Parameters of TV-L1; symbols as in Sanchez Perez, Meinhardt-Llopis, Facciolo (IPOL 2013).

    The defaults are those of OpenCV's `DualTVL1OpticalFlow` (CPU), on grey levels 0-255.

    Attributes:
        tau: time step of the dual update. Stable up to 0.25.
        lambda_: weight of the data term. Smaller values give smoother flow.
        theta: coupling of the flow and its auxiliary variable.
        scales: maximum number of pyramid levels. Levels under 16 pixels are left out.
        scale_step: size of a level relative to the next finer one, in (0, 1).
        warps: number of times that the second image is warped, per level.
        outer_iterations: number of times that the flow is median-filtered, per warp.
        inner_iterations: maximum solver iterations, per outer iteration.
        epsilon: stop when the mean square update is at most epsilon^2 (pixels); 0 never stops early.
        median: side of the median filter in pixels: 1 for none, 3, 5, or 7 for a weighted one.
        median_grey: makes the median weighted (Sun, Roth, Black, CVPR 2010). The weight of a pixel falls with
            its difference from the central pixel in the first image. It is a half at about 1.1 times this
            many grey levels. 0 gives equal weights.
        median_after: filter after the iterations of a block instead of before them.
        blur: sigma of a Gaussian that smooths each image first, pixels; 0 for none.
        structure: share of the structure (the total-variation denoised image) to subtract from each image,
            0 to 1. The texture remains, which changes less with the light (Wedel et al. 2008).
        structure_theta: allowed distance of structure and image, grey levels.
        structure_iterations: solver iterations of the structure.
        antialias: the Gaussian before a pyramid level has sigma antialias * sqrt(1 / scale_step^2 - 1)
            pixels.
        warp: interpolation of the second image: "cubic" (cubic convolution, centred differences as gradient,
            0 outside) or "spline" (cubic B-spline with its own gradient, the border pixel outside; Unser
            1999).
        blend: share of the first image's gradient in the gradient of the data term, 0 to 1.
        mask: leave out the data term where the flow points outside the image.
        coupled: one total variation for both components of the flow, which then have their edges in the same
            places (vectorial total variation; Bresson, Chan 2008; Goldluecke, Strekalovskiy, Cremers 2012).
            Otherwise each component has its own.
        huber: gradient of the flow up to which the regulariser is quadratic, pixels per pixel (Huber-L1;
            Werlberger et al., BMVC 2009); 0 for total variation everywhere. Only with `coupled`.
        edge: how much edges of the first image weaken the regulariser (Werlberger et al., BMVC 2009). Its
            weight is about exp(-edge |grad I0|), with |grad I0| in grey levels per pixel; 0 gives equal
            weights.
        edge_least: the least of these weights, in (0, 1].
        median_stride: distance of the pixels in the window of a weighted median, pixels.
        median_occlusion: lowers the weight of a pixel in a weighted median, where the first image and the
            warped second one differ, as `median_grey` does with differences inside the first image (occlusion
            weights; Sun, Roth, Black, CVPR 2010). 0 for no such weights.
        median_levels: number of finest levels with a weighted median; 0 for all. The others have a plain one,
            of at most 5 pixels.
        median_warps: number of last warps of a level with a weighted median; 0 for all. The others have a
            plain one.
        still: largest noise of still regions, grey levels (root mean square). Where both images agree but for
            noise, the flow is exactly 0. A least-squares motion (Lucas, Kanade 1981) decides, as
            `flowprep.engines.tiles` explains. 0 turns it off.
        settle: tiles whose updates are smaller than this are left out, until a neighbour moves again. Pixels,
            root mean square of an iteration; 0 turns it off. Only with epsilon 0.
        keep_dual: begin a level with the dual variables of the coarser level, instead of zeros.
        finest_warps: number of warps at the finest level; 0 for `warps`.
        finest_iterations: inner iterations at the finest level; 0 for `inner_iterations`.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    scale_step: float = 0.8
    warps: int = 5
    outer_iterations: int = 10
    inner_iterations: int = 30
    epsilon: float = 0.01
    median: int = 5
    median_grey: float = 0.0
    median_after: bool = False
    blur: float = 0.0
    structure: float = 0.0
    structure_theta: float = 16.0
    structure_iterations: int = 50
    antialias: float = 0.0
    warp: str = "cubic"
    blend: float = 0.0
    mask: bool = False
    coupled: bool = False
    huber: float = 0.0
    edge: float = 0.0
    edge_least: float = 0.1
    median_stride: int = 1
    median_occlusion: float = 0.0
    median_levels: int = 0
    median_warps: int = 0
    still: float = 0.0
    settle: float = 0.0
    keep_dual: bool = False
    finest_warps: int = 0
    finest_iterations: int = 0

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            SettingsError: a value is not allowed.
        """
        check_types(self)
        check(0 < self.tau <= 0.25, "tau", self.tau, "a number in (0, 0.25]")
        check(self.lambda_ > 0, "lambda_", self.lambda_, "a number above 0")
        check(self.theta > 0, "theta", self.theta, "a number above 0")
        check(0 < self.scale_step < 1, "scale_step", self.scale_step, "a number in (0, 1)")
        for name in ("scales", "warps", "outer_iterations", "inner_iterations", "structure_iterations"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "a whole number from 1")
        check(self.epsilon >= 0, "epsilon", self.epsilon, "a number from 0")
        sides = (1, 3, 5, 7) if self.median_grey else (1, 3, 5)
        check(self.median in sides, "median", self.median, f"{sides} with median_grey {self.median_grey}")
        check(self.median_grey >= 0, "median_grey", self.median_grey, "grey levels from 0")
        check(0 <= self.blur <= 5, "blur", self.blur, "pixels in [0, 5]")
        check(self.structure_theta > 0, "structure_theta", self.structure_theta, "a number above 0")
        check(0 <= self.antialias <= 5, "antialias", self.antialias, "a number in [0, 5]")
        check(self.warp in WARPS, "warp", self.warp, " or ".join(WARPS))
        for name in ("structure", "blend"):
            check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share in [0, 1]")
        self._check_regulariser()

    def _check_regulariser(self) -> None:
        check(0 <= self.huber <= 1, "huber", self.huber, "pixels per pixel in [0, 1]")
        check(self.coupled or not self.huber, "huber", self.huber, "above 0 only with coupled")
        check(0 <= self.edge <= 10, "edge", self.edge, "a number in [0, 10]")
        check(0 < self.edge_least <= 1, "edge_least", self.edge_least, "a weight in (0, 1]")
        check(1 <= self.median_stride <= 3, "median_stride", self.median_stride, "pixels from 1 to 3")
        check(self.median_occlusion >= 0, "median_occlusion", self.median_occlusion, "grey levels from 0")
        for name in ("median_stride", "median_occlusion", "median_levels", "median_warps"):
            value, default = getattr(self, name), getattr(type(self), name)
            check(bool(self.median_grey) or value == default, name, value, f"{default} without median_grey")
        for name in ("median_levels", "median_warps", "finest_warps", "finest_iterations"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "a whole number from 0")
        check(0 <= self.still <= 20, "still", self.still, "grey levels in [0, 20]")
        check(0 <= self.settle <= 1, "settle", self.settle, "pixels in [0, 1]")
        check(not (self.settle and self.epsilon), "settle", self.settle, "above 0 only with epsilon 0")

    def warps_of(self, level: int) -> int:
        """The number of warps at a level; level 0 is the finest."""
        return self.finest_warps if level == 0 and self.finest_warps else self.warps

    def iterations_of(self, level: int) -> int:
        """The inner iterations of a warp at a level; level 0 is the finest."""
        return self.finest_iterations if level == 0 and self.finest_iterations else self.inner_iterations

    def weights_median(self, level: int, warp: int) -> bool:
        """Whether the median is weighted at warp 0, 1, ... of a level; level 0 is the finest."""
        last = self.warps_of(level) - warp <= self.median_warps or not self.median_warps
        return bool(self.median_grey) and last and (level < self.median_levels or not self.median_levels)

    def digested(self) -> dict[str, Any]:
        """The values that count in a digest of settings.

        Those from `FIRST_ADDED` on count if they are not the defaults. So the same settings have the same
        digest in all versions of flowprep.
        """
        values = dataclasses.asdict(self)
        names = list(values)
        for name in names[names.index(FIRST_ADDED) :]:
            if values[name] == getattr(Tvl1Settings, name):
                del values[name]
        return values

    def beyond_opencv(self) -> list[str]:
        """Names of the parameters with values that OpenCV's solver does not support."""
        names = [f.name for f in dataclasses.fields(self)]
        additional = names[names.index("median_grey") :]
        return [name for name in additional if getattr(self, name) != getattr(Tvl1Settings, name)]


def check_engine(engine: str, tvl1: Tvl1Settings) -> None:
    """Refuse parameters that an engine does not support.

    Raises:
        SettingsError: the message names them.
    """
    if engine == "opencv" and (beyond := tvl1.beyond_opencv()):
        raise SettingsError(
            f"engine opencv does not have {', '.join(beyond)}; allowed: preset opencv, or engine cpu"
        )
