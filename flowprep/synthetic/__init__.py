"""Synthetic sample clips with known classes, to try all steps from videos to a trained classifier.

Each clip shows a round window with a patterned sheet, in front of a slowly drifting background. There are two
kinds of classes:

* by motion: the pattern is always dots, and only the motion of the sheet differs (DotsSliding, ...);
* by appearance: the pattern differs (Rings, Stars, ...), and each has the motions of the first kind in turn.

The spatial stream can at best tell the patterns and guess the motions. The temporal stream can at best tell
the motions and guess the patterns. Both together can tell all classes.

This holds because a single frame of a sheet has the same distribution for every motion and at every time:

* the sheet repeats in both directions and starts anywhere;
* its angle is uniform on the circle;
* its scale is uniform on a circle, too. The sheet is an endless zoom: octaves of one pattern fade in small
  and fade out large, as in the tones of Shepard, "Circularity in judgments of relative pitch", 1964.

The figures of every pattern cover the same area at the same brightness. So grey levels, from which flow is
computed, tell little about the pattern. A group of clips has its own background, light and noise, which all
classes share, and is in only one of the two lists.

A class does not change in a mirror (Sliding goes left or right, and Spinning either way). So training with
horizontal flips, which negate u, is sound.
"""

from __future__ import annotations

from flowprep.synthetic.samples import Samples as Samples
from flowprep.synthetic.samples import write_samples as write_samples
