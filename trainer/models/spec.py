"""What a network states about itself: its paper, its inputs and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelSpec:
    """A network's paper, and the inputs and options that it accepts.

    Attributes:
        paper: Authors, year, title and address of the paper.
        streams: The streams that the network is defined for. A joint network reads all of them at once.
        joint: Whether the network reads a spatial and a temporal input together.
        size: Side of the crop in pixels. None: any side from `min_size` is allowed.
        min_size: The smallest side that leaves at least one cell for the last layer.
        frames: Allowed numbers of time steps in a clip. The first is the published number in training.
            `...` among them allows any other number.
        spacing: Smallest and largest number of frames from one time step to the next. Each training clip
            draws one number of this range, uniformly. (0, 0) spreads the steps over the whole video.
        stack: L, the published number of flows in a temporal input at each time step. Any other is allowed.
        options: Further keywords of `build`, each with its allowed values. The first value is the default.
            `...` among them means that the network checks the value itself.
        frozen_by: Name of an option that keeps layers at the weights they start from. A recipe in which it is
            true must name pretrained weights. "" if the network has no such option.
        dense: Whether the network classifies larger frames than it was trained on, at all places at once.
        features: Whether the network has a method `features`, from its input to vectors (N, num_features).
            A linear SVM can classify videos by these vectors.
        published: Accuracy in percent by a short description. Split 1 unless the description names another.
        for_training: Parts that only training uses. A network without these parts ignores their weights, and
            an exported network does not contain them.
        first_layer: Name of the convolution that reads the input. "" in a joint network, which has two.
        renamed: Names that layers have in other published files of weights, with their names here.
        last_layers: Names of the layers that give the class logits. Options of the network may leave some
            out.
    """

    paper: str
    streams: tuple[str, ...] = ("spatial", "temporal")
    joint: bool = False
    size: int | None = None
    min_size: int = 1
    frames: tuple[Any, ...] = (1,)
    spacing: tuple[int, int] = (1, 1)
    stack: int = 10
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    frozen_by: str = ""
    dense: bool = False
    features: bool = False
    published: Mapping[str, float] = field(default_factory=dict)
    for_training: tuple[str, ...] = ()
    first_layer: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    last_layers: tuple[str, ...] = ()

    def shapes(
        self, stream: str = "spatial", *, batch: int = 1, size: int = 0, frames: int = 0, stack: int = 0
    ) -> list[tuple[int, ...]]:
        """Shape of each input of the network; a number that is 0 is the published one.

        Args:
            stream: The stream of the input. A joint network ignores it.
            batch: N, clips in a batch.
            size: S, side of the crop in pixels. A network that accepts any side has 224 as its published one.
            frames: T, time steps in a clip.
            stack: L, flows at each time step.
        """
        side = size or self.size or 224
        time = () if self.frames == (1,) else (frames or self.frames[0],)
        channels = {"spatial": 3, "temporal": 2 * (stack or self.stack)}
        streams = self.streams if self.joint else (stream,)
        return [(batch, channels[s], *time, side, side) for s in streams]
