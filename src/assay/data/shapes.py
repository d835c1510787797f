"""Shapes: a synthetic 32×32 RGB set whose objects are known pixel by pixel.

An image is one object on a background. Kind, place, size, rotation, both colours and both textures
are drawn independently, so that nothing but the outline tells the class. Every number comes from
the image's own generator, and the arithmetic is +, -, ×, ÷, √ and comparisons, which IEEE 754
rounds the same way everywhere: a seed gives the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from assay.core.random import Rows, Stream
from assay.data.dataset import Dataset, in_memory

SIZE = 32
COUNTS = {"train": 4000, "validation": 800, "test": 1600}
FINE = 3  # sub-pixels along each axis: outlines are smoothed over 9 samples

Plane = NDArray[np.float64]
Inside = NDArray[np.bool_]


def _disc(u: Plane, v: Plane) -> Inside:
    return u * u + v * v <= 0.9


def _ring(u: Plane, v: Plane) -> Inside:
    square = u * u + v * v
    return (square <= 1.0) & (square >= 0.36)


def _square(u: Plane, v: Plane) -> Inside:
    return np.maximum(np.abs(u), np.abs(v)) <= 0.82


def _frame(u: Plane, v: Plane) -> Inside:
    reach = np.maximum(np.abs(u), np.abs(v))
    return (reach <= 0.88) & (reach >= 0.52)


def _triangle(u: Plane, v: Plane) -> Inside:
    return (v >= -0.55) & (1.7320508 * np.abs(u) + v <= 1.1)


def _cross(u: Plane, v: Plane) -> Inside:
    a, b = np.abs(u), np.abs(v)
    return (np.minimum(a, b) <= 0.3) & (np.maximum(a, b) <= 1.0)


def _star(u: Plane, v: Plane) -> Inside:
    """A pentagram: the points inside at least four of the five lines that bound its pentagon."""
    normals = (
        (0.0, -1.0),
        (0.9510565, -0.309017),
        (0.5877853, 0.809017),
        (-0.5877853, 0.809017),
        (-0.9510565, -0.309017),
    )
    sides = [(a * u + b * v <= 0.33).astype(np.uint8) for a, b in normals]
    return sides[0] + sides[1] + sides[2] + sides[3] + sides[4] >= 4


def _crescent(u: Plane, v: Plane) -> Inside:
    w = u - 0.45
    return (u * u + v * v <= 1.0) & (w * w + v * v >= 0.5)


OUTLINES: dict[str, Callable[[Plane, Plane], Inside]] = {
    "circle": _disc,
    "ring": _ring,
    "square": _square,
    "frame": _frame,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "crescent": _crescent,
}


@lru_cache(maxsize=4)
def shapes(split: str, seed: int = 0) -> Dataset:
    """Return the synthetic set: uint8 (N, 3, 32, 32), 8 kinds equally often, with masks.

    4,000 train, 800 validation, 1,600 test. `masks` holds the pixels of which the object covers at
    least half. The splits and the seeds are independent of one another.
    """
    count = COUNTS[split]
    stream = Stream(seed).child("shapes", split)
    kinds = torch.arange(count) % len(OUTLINES)
    labels = kinds[stream.child("order").rows(range(count)).integers(2**31 - 1).argsort()]
    images = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    masks = torch.empty(count, SIZE, SIZE, dtype=torch.bool)
    for label, outline in enumerate(OUTLINES.values()):
        for ids in torch.split((labels == label).nonzero()[:, 0], 32):  # fits the L2 cache
            drawn, covered = _draw(outline, stream.child("image").rows(ids))
            images[ids], masks[ids] = torch.from_numpy(drawn), torch.from_numpy(covered)
    return in_memory("shapes", split, tuple(OUTLINES), images, labels, masks)


def _draw(outline: Callable[[Plane, Plane], Inside], rng: Rows) -> tuple[NDArray[np.uint8], Inside]:
    """Draw one object per row: images uint8 (N, 3, 32, 32), masks bool (N, 32, 32)."""
    cover = _cover(outline, rng)
    contrast = 0.35  # the least distance of the two colours in one channel
    paint = _uniform(rng, 3)
    sign = np.where(_uniform(rng, 3) < 0.5, -1.0, 1.0)
    ground = paint + sign * (contrast + (1 - contrast) * _uniform(rng, 3))
    ground = np.where((ground < 0) | (ground > 1), paint - sign * contrast, ground)
    front = _textured(np.clip(paint, 0, 1), rng)
    back = _textured(np.clip(ground, 0, 1), rng)
    mix = cover[:, None]
    image = mix * front + (1 - mix) * back
    image = image + 0.1 * (_uniform(rng, 3, SIZE, SIZE) - 0.5)
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), cover >= 0.5


def _cover(outline: Callable[[Plane, Plane], Inside], rng: Rows) -> Plane:
    """Return the share of each pixel that lies inside the object: (N, 32, 32) in [0, 1]."""
    radius = 5 + 6 * _uniform(rng)
    room = SIZE - 2 * radius
    x0, y0 = radius + room * _uniform(rng), radius + room * _uniform(rng)
    cos, sin = _direction(rng)
    # the middles of the sub-pixels, in pixels
    grid = (np.arange(SIZE * FINE) + 0.5) / FINE
    x = (grid[None, None, :] - x0[:, None, None]) / radius[:, None, None]
    y = (grid[None, :, None] - y0[:, None, None]) / radius[:, None, None]
    cos, sin = cos[:, None, None], sin[:, None, None]
    inside = outline(cos * x + sin * y, cos * y - sin * x)
    cells = inside.reshape(-1, SIZE, FINE, SIZE, FINE)
    return np.asarray(cells.sum(axis=(2, 4)) / FINE**2)


def _textured(colour: Plane, rng: Rows) -> Plane:
    """Return (N, 3, 32, 32): each row's colour (N, 3) with a texture of its own on it.

    The texture is plain, stripes, a checkerboard or a slope of light, at a random scale, angle and
    strength, and moves the colour by at most 0.15.
    """
    kind = np.floor(4 * _uniform(rng))[:, None, None]
    period = (3 + 5 * _uniform(rng))[:, None, None]
    phase = _uniform(rng)[:, None, None]
    strength = (0.05 + 0.1 * _uniform(rng))[:, None, None]
    cos, sin = _direction(rng)
    cos, sin = cos[:, None, None], sin[:, None, None]
    x, y = np.arange(SIZE)[None, None, :] - 15.5, np.arange(SIZE)[None, :, None] - 15.5
    a, b = cos * x + sin * y, cos * y - sin * x
    stripe = np.floor(2 * (a / period + phase)) % 2 * 2 - 1
    check = (np.floor(a / period + phase) + np.floor(b / period + phase)) % 2 * 2 - 1
    slope = a / 16
    wave = np.select([kind == 1, kind == 2, kind == 3], [stripe, check, slope], 0.0)
    return np.asarray(colour[:, :, None, None] + (strength * np.clip(wave, -1, 1))[:, None])


def _direction(rng: Rows) -> tuple[Plane, Plane]:
    """Return a random direction (cos, sin), each (N,): a point of the square over its length.

    Diagonals come up to twice as often per angle as the axes, which does no harm here.
    """
    x, y = _uniform(rng) * 2 - 1, _uniform(rng) * 2 - 1
    length = np.sqrt(np.maximum(x * x + y * y, 1e-9))
    return x / length, y / length


def _uniform(rng: Rows, *shape: int) -> Plane:
    return rng.uniform(shape).numpy().astype(np.float64)
