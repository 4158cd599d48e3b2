"""The five networks of "Large-scale Video Classification with Convolutional Neural Networks" (Karpathy et al.
2014, section 3). `Single` sees one frame; the others are built from its layers:

    170 -> conv1 96@11x11/3 -> 54 -> LRN, pool -> 27 -> conv2 256@5x5 -> LRN, pool -> 14
        -> conv3, conv4 384@3x3, conv5 256@3x3 -> pool -> 7 -> fc6 4096 -> fc7 4096 -> fc8

Pools are 2x2 with stride 2 and round up. The paper states that both towers of `Fovea` end in 7x7 cells, and
only rounding up gives that. All convolutions but the first keep the size.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from trainer.models.layers import fold, initialise, unfold
from trainer.models.spec import ModelSpec

_spec = partial(
    ModelSpec,
    paper="Karpathy, Toderici, Shetty, Leung, Sukthankar, Fei-Fei 2014: Large-scale Video Classification "
    "with Convolutional Neural Networks, CVPR",
    streams=("spatial",),
    size=170,
    min_size=170,
    first_layer="features.conv1",
    last_layers=("head.fc8",),
)


class Features(nn.Module):
    """The convolutions: (N, C, 170, 170) to (N, 256, 7, 7).

    Args:
        channels: Channels of the input.
        width: Channels of the first layer. All others scale with it.
        last_pool: Whether a pool follows conv5.
    """

    def __init__(self, channels: int, width: int, *, last_pool: bool = True) -> None:
        super().__init__()
        c256, c384 = 256 * width // 96, 384 * width // 96
        # The paper's constants: k = 2, n = 5, alpha = 1e-4 per element (torch divides by n), beta = 0.5.
        self.lrn = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.5, k=2.0)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.conv1 = nn.Conv2d(channels, width, 11, 3)
        self.conv2 = nn.Conv2d(width, c256, 5, padding=2)
        self.conv3 = nn.Conv2d(c256, c384, 3, padding=1)
        self.conv4 = nn.Conv2d(c384, c384, 3, padding=1)
        self.conv5 = nn.Conv2d(c384, c256, 3, padding=1)
        self.last_pool = last_pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 170, 170) to (N, 256, 7, 7)."""
        x = self.pool(self.lrn(F.relu(self.conv1(x))))
        x = self.pool(self.lrn(F.relu(self.conv2(x))))
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        x = F.relu(self.conv5(x))
        return self.pool(x) if self.last_pool else x


class SlowFeatures(Features):
    """The convolutions of `Slow`: (N, C, 10, 170, 170) to (N, 256, 7, 7)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        c256, c384 = self.conv2.out_channels, self.conv3.out_channels
        self.conv1 = nn.Conv3d(channels, width, (4, 11, 11), (2, 3, 3))  # type: ignore[assignment]
        self.conv2 = nn.Conv3d(width, c256, (2, 5, 5), (2, 1, 1), (0, 2, 2))  # type: ignore[assignment]
        self.conv3 = nn.Conv3d(c256, c384, (2, 3, 3), (2, 1, 1), (0, 1, 1))  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 10, 170, 170) to (N, 256, 7, 7)."""
        x = self._normalise_and_pool(F.relu(self.conv1(x)))  # (N, 96, 4, 27, 27)
        x = self._normalise_and_pool(F.relu(self.conv2(x)))  # (N, 256, 2, 14, 14)
        x = F.relu(self.conv3(x)).squeeze(2)  # (N, 384, 14, 14)
        x = F.relu(self.conv5(F.relu(self.conv4(x))))
        return self.pool(x)  # type: ignore[no-any-return]

    def _normalise_and_pool(self, x: torch.Tensor) -> torch.Tensor:
        """The normalisation and the pool of each time step alone."""
        return unfold(self.pool(self.lrn(fold(x))), x.shape[2])


class Head(nn.Module):
    """The three fully connected layers: (N, inputs) to logits (N, classes)."""

    def __init__(self, inputs: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        hidden = 4096 * width // 96
        self.fc6 = nn.Linear(inputs, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, classes)
        self.drop6, self.drop7 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs) to logits (N, classes)."""
        x = self.drop6(F.relu(self.fc6(x)))
        x = self.drop7(F.relu(self.fc7(x)))
        return self.fc8(x)  # type: ignore[no-any-return]


class Network(nn.Module):
    """Base class of the five networks.

    Args:
        channels: Channels of a frame.
        classes: Number of classes.
        dropout: Probability of dropping a unit after fc6 and after fc7.
        width: Channels of the first layer. All others scale with it.
    """

    SPEC: ClassVar[ModelSpec]

    @classmethod
    def build(cls, in_channels: int, num_classes: int, *, dropout: float, width: int) -> nn.Module:
        """A new network. `width` is the number of channels of the first layer; 0 is the published number."""
        return cls(in_channels, num_classes, dropout, width or 96)


class Single(Network):
    """The network of a single frame (Karpathy et al. 2014, section 3.1)."""

    SPEC = _spec(published={"Sports-1M, hit@1 by video": 59.3})

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.features = Features(channels, width)
        self.head = Head(256 * width // 96 * 7 * 7, classes, dropout, width)
        initialise(self, self.head.fc8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 170, 170) to logits (N, classes)."""
        return self.head(self.features(x).flatten(1))  # type: ignore[no-any-return]


class Early(Single):
    """Early fusion (Karpathy et al. 2014, section 3.1): the first layer spans ten frames, 11x11x10 pixels.

    The time steps of a filter are channels: the colours of frame 1, of frame 2, and so on.
    """

    SPEC = _spec(frames=(10,), published={"Sports-1M, hit@1 by video": 57.7})

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__(10 * channels, classes, dropout, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 10, 170, 170) to logits (N, classes)."""
        return super().forward(x.transpose(1, 2).flatten(1, 2))


class Late(Network):
    """Late fusion (Karpathy et al. 2014, section 3.1): the same convolutions read two frames, 15 frames
    apart.

    The first fully connected layer joins the two.
    """

    SPEC = _spec(frames=(2,), spacing=(15, 15), published={"Sports-1M, hit@1 by video": 59.3})

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.features = Features(channels, width)
        self.head = Head(2 * (256 * width // 96) * 7 * 7, classes, dropout, width)
        initialise(self, self.head.fc8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 2, 170, 170) to logits (N, classes)."""
        cells = self.features(fold(x))  # (2 N, 256, 7, 7)
        return self.head(cells.reshape(x.shape[0], -1))  # type: ignore[no-any-return]


class Slow(Single):
    """Slow fusion (Karpathy et al. 2014, section 3.1): each layer sees more of ten frames than the one
    before.

    conv1 spans 4 frames with a stride of 2 and gives 4 time steps. conv2 and conv3 span 2 steps with a stride
    of 2 and give 2 steps and 1. A layer has the same filters at all steps.
    """

    SPEC = _spec(frames=(10,), published={"Sports-1M, hit@1 by video": 60.9})

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__(channels, classes, dropout, width)
        self.features = SlowFeatures(channels, width)
        initialise(self.features)


class Fovea(Network):
    """Context and fovea (Karpathy et al. 2014, section 3.2): one tower sees the frame, another its centre.

    The frame has 178 pixels. The context tower sees all of it at half the size. The fovea tower sees the
    central 89 pixels at full size. Together they are two to four times as fast as `Single`. Each tower is
    `Single` without its last pool, so both end in 7x7 cells. The first fully connected layer joins them.
    """

    SPEC = _spec(
        size=178,
        min_size=178,
        published={"Sports-1M, hit@1 by video": 60.0},
        first_layer="context.conv1",
    )

    def __init__(self, channels: int, classes: int, dropout: float, width: int) -> None:
        super().__init__()
        self.context = Features(channels, width, last_pool=False)
        self.fovea = Features(channels, width, last_pool=False)
        self.head = Head(2 * (256 * width // 96) * 7 * 7, classes, dropout, width)
        initialise(self, self.head.fc8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, 178, 178) to logits (N, classes)."""
        context = self.context(F.avg_pool2d(x, 2))  # from (N, C, 89, 89) to (N, 256, 7, 7)
        fovea = self.fovea(x[:, :, 44:133, 44:133])  # from (N, C, 89, 89) to (N, 256, 7, 7)
        return self.head(torch.cat([context, fovea], 1).flatten(1))  # type: ignore[no-any-return]
