"""Pairs of frames with exactly known flow, made from real pictures.

Positions are computed in float64. OpenCV's `remap` rounds them to 1/32 pixel for some interpolations. That is
as much as the error that is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]  # (H, W)
Frames = npt.NDArray[np.uint8]  # (2, H, W)
Flow = npt.NDArray[np.float32]  # (2, H, W), pixels
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
# The displacement at some positions: x and y of the same shape give u and v of this shape.
Motion = Callable[[Floats, Floats], tuple[Floats, Floats]]

_TAPS = 8  # of the Lanczos filter, in each direction
_SUBPIXELS = (-0.25, 0.25)  # a pixel of a layered scene is the mean of 2 x 2 points
_FOREGROUND = 4  # layers before the background of a layered scene


def sample(image: npt.NDArray[np.floating] | Grey, x: Floats, y: Floats) -> Floats:
    """Values of an image between its pixels, by a Lanczos filter of 8 x 8 pixels. Outside it is mirrored.

    Args:
        image: (H, W).
        x, y: positions, pixels, of any shape.
    """
    height, width = image.shape
    flat = image.astype(np.float64).ravel()
    left, columns = _taps(x, width)
    top, rows = _taps(y, height)
    total = np.zeros_like(x)
    for i in range(_TAPS):
        line = np.zeros_like(x)
        for j in range(_TAPS):
            line += columns[j] * flat[top[i] * width + left[j]]
        total += rows[i] * line
    return total


def _taps(position: Floats, size: int) -> tuple[list[npt.NDArray[np.int64]], list[Floats]]:
    """The pixels of the filter around each position in one direction, and their weights, which sum to 1."""
    first = np.floor(position).astype(np.int64) - _TAPS // 2 + 1
    offsets = [position - first - i for i in range(_TAPS)]
    weights = [np.sinc(offset) * np.sinc(offset / (_TAPS // 2)) for offset in offsets]
    total = np.sum(weights, axis=0)
    period = 2 * size - 2
    pixels = [period // 2 - np.abs((first + i) % period - period // 2) for i in range(_TAPS)]
    return pixels, [weight / total for weight in weights]


def positions(height: int, width: int) -> tuple[Floats, Floats]:
    """x and y of each pixel, both (H, W)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x, y


def recorded(
    image: npt.NDArray[np.floating], rng: np.random.Generator, noise: float = 0.0, quality: int | None = None
) -> Grey:
    """A picture as a camera records it: with noise, rounded, and compressed.

    Args:
        image: (H, W) grey levels.
        rng: makes the noise.
        noise: its standard deviation, grey levels.
        quality: JPEG quality; None for no compression.
    """
    noisy = image + rng.normal(0, noise, image.shape) if noise else image
    grey = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if quality is None:
        return grey
    _, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def shift(u: float, v: float) -> Motion:
    """The same displacement everywhere."""
    return lambda x, y: (np.full_like(x, u), np.full_like(y, v))


def smooth_motion(rng: np.random.Generator, size: float, height: int, width: int) -> Motion:
    """A random affine motion with slow waves. The mean displacement in the image is `size` pixels."""
    affine = rng.uniform(-1, 1, (2, 3))
    phases, directions = rng.uniform(0, 2 * np.pi, 2), rng.uniform(-1, 1, (2, 2))

    def unscaled(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        x, y = x / width - 0.5, y / height - 0.5
        components = [
            a[0] + a[1] * x + a[2] * y + 0.3 * np.cos(2 * np.pi * (d[0] * x + d[1] * y) + phase)
            for a, d, phase in zip(affine, directions, phases, strict=True)
        ]
        return components[0], components[1]

    scale = size / float(np.hypot(*unscaled(*positions(height, width))).mean())

    def motion(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        u, v = unscaled(x, y)
        return scale * u, scale * v

    return motion


def moved(image: Grey, motion: Motion) -> Floats:
    """The second frame of a pair: what is at p in `image` is at p + motion(p) in the result."""
    x, y = positions(*image.shape)
    from_x, from_y = x, y
    for _ in range(30):  # p = q - motion(p); converges, as neighbours move nearly alike
        u, v = motion(from_x, from_y)
        from_x, from_y = x - u, y - v
    return sample(image, from_x, from_y)


def known_flow(motion: Motion, shape: tuple[int, ...], margin: int) -> Flow:
    """A motion at each pixel of an image (H, W); NaN within `margin` pixels of the border."""
    height, width = shape
    truth = np.array(motion(*positions(height, width)), np.float32)
    inside = np.zeros((height, width), bool)
    inside[margin : height - margin, margin : width - margin] = True
    return np.where(inside, truth, np.float32(np.nan))


@dataclass(frozen=True)
class Layer:
    """A textured layer with an affine motion.

    The position p of the first frame is at c + M (p - c) + d in the second.

    Attributes:
        texture: (H, W) grey levels.
        origin: place of the scene's upper left corner in the texture, (x, y).
        centre: c; also the centre of the outline.
        matrix: M, (2, 2).
        displacement: d.
        radius: mean radius of the outline, pixels; None for a layer without one, which fills the scene.
        waves: amplitudes and phases of the outline's waves, (2, n): shares of the radius, and radians.
    """

    texture: Grey
    origin: tuple[float, float]
    centre: Floats
    matrix: Floats
    displacement: Floats
    radius: float | None
    waves: Floats

    def motion(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Displacements of positions of the first frame."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        u = self.matrix[0, 0] * dx + self.matrix[0, 1] * dy - dx + self.displacement[0]
        v = self.matrix[1, 0] * dx + self.matrix[1, 1] * dy - dy + self.displacement[1]
        return u, v

    def source(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """The positions in the first frame of positions in the second."""
        inverse = np.linalg.inv(self.matrix)
        dx, dy = x - self.centre[0] - self.displacement[0], y - self.centre[1] - self.displacement[1]
        return (
            inverse[0, 0] * dx + inverse[0, 1] * dy + self.centre[0],
            inverse[1, 0] * dx + inverse[1, 1] * dy + self.centre[1],
        )

    def covers(self, x: Floats, y: Floats) -> Mask:
        """Whether positions of the first frame are inside the outline."""
        if self.radius is None:
            return np.ones(x.shape, bool)
        dx, dy = x - self.centre[0], y - self.centre[1]
        angle = np.arctan2(dy, dx)
        waves = [a * np.cos(n * angle + phase) for n, (a, phase) in enumerate(self.waves.T, 1)]
        return np.asarray(np.hypot(dx, dy) < self.radius * (1 + np.sum(waves, axis=0)))

    def grey(self, x: Floats, y: Floats) -> Floats:
        """Grey levels at positions of the first frame."""
        return sample(self.texture, x + self.origin[0], y + self.origin[1])


def render(layers: Sequence[Layer], height: int, width: int, *, second: bool) -> Floats:
    """The first or the second frame of a scene. Later layers cover earlier ones."""
    x, y = positions(height, width)
    total = np.zeros((height, width))
    for dx in _SUBPIXELS:
        for dy in _SUBPIXELS:
            image = np.zeros((height, width))
            for layer in layers:
                px, py = layer.source(x + dx, y + dy) if second else (x + dx, y + dy)
                inside = layer.covers(px, py)
                image[inside] = layer.grey(px[inside], py[inside])
            total += image
    return total / len(_SUBPIXELS) ** 2


def scene_flow(layers: Sequence[Layer], height: int, width: int) -> Flow:
    """The flow of a scene: at each pixel, the motion of the layer at its centre in the first frame."""
    x, y = positions(height, width)
    truth = np.zeros((2, height, width), np.float32)
    for layer in layers:
        inside = layer.covers(x, y)
        truth[:, inside] = np.array(layer.motion(x, y))[:, inside]
    return truth


def random_layers(
    rng: np.random.Generator, textures: Sequence[Grey], background: float, height: int, width: int
) -> list[Layer]:
    """A background and four layers before it, with random textures, outlines and motions.

    Args:
        rng: makes all choices.
        textures: pictures to use.
        background: displacement of the background, pixels; 0 for a still one.
        height, width: size of the scene.
    """
    layers = []
    for number in range(1 + _FOREGROUND):
        front = number > 0
        size = float(np.exp(rng.uniform(np.log(0.3), np.log(12)))) if front else background
        angle, zoom = rng.normal(0, (0.02, 0.01)) * min(size, 3)
        direction = rng.uniform(0, 2 * np.pi)
        place = (rng.uniform(0.15, 0.85, 2) if front else np.array([0.5, 0.5])) * (width, height)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        layers.append(
            Layer(
                texture=textures[int(rng.integers(len(textures)))],
                origin=(rng.uniform(0, 60), rng.uniform(0, 60)),
                centre=place,
                matrix=(1 + zoom) * turn,
                displacement=size * np.array([np.cos(direction), np.sin(direction)]),
                radius=rng.uniform(0.08, 0.25) * height if front else None,
                waves=np.stack([rng.uniform(0, 0.25, 4), rng.uniform(0, 2 * np.pi, 4)]),
            )
        )
    return layers


def patch_before(
    background: Frames,
    texture: Grey,
    motion: tuple[float, float],
    centre: tuple[float, float],
    rng: np.random.Generator,
    noise: float,
) -> tuple[Frames, Mask]:
    """Draw a disc of a texture that moves before a still background.

    Args:
        background: two frames of a still scene, with their own noise.
        texture: a picture; the disc shows the part with the most texture.
        motion: displacement of the disc, pixels.
        centre: its centre in the first frame, (x, y).
        rng: makes the noise of the disc.
        noise: its standard deviation, grey levels.

    Returns:
        The frames, and the pixels of the disc that are not near its border, (H, W).
    """
    radius = background.shape[1] / 5
    origin = np.array(_most_textured(texture, radius)) - centre
    frames = []
    for second in (0, 1):
        x, y = positions(*background.shape[1:])
        x, y = x - second * motion[0], y - second * motion[1]
        disc = recorded(sample(texture, x + origin[0], y + origin[1]), rng, noise)
        share = np.clip(radius - np.hypot(x - centre[0], y - centre[1]) + 0.5, 0, 1)  # of each pixel
        frames.append(recorded(background[second] * (1 - share) + disc * share, rng))
    x, y = positions(*background.shape[1:])
    return np.stack(frames), np.hypot(x - centre[0], y - centre[1]) < 0.75 * radius


def _most_textured(texture: Grey, radius: float) -> tuple[float, float]:
    """The centre of the disc with the largest gradients, (x, y)."""
    image = texture.astype(np.float32)
    energy = cv2.Sobel(image, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(image, cv2.CV_32F, 0, 1) ** 2
    side = round(radius)
    mean = cv2.blur(np.minimum(energy, np.percentile(energy, 90)), (2 * side + 1, 2 * side + 1))
    inner = mean[side : texture.shape[0] - side, side : texture.shape[1] - side]
    if not inner.size:
        return texture.shape[1] / 2, texture.shape[0] / 2
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return float(column + side), float(row + side)
