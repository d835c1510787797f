"""Augmentation of whole batches on tensors, each image drawn from its own generator.

An augmentation is a config that is called with images float32 (N, C, H, W) in [0, 1] and `Rows`,
one generator per image, and returns images of the same shape and range. What happens to an image
depends on its own generator alone, not on the batch it is in.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional as F

from assay.config import Config, Number
from assay.core.random import Rows

Share = Annotated[Number, Field(ge=0, le=1)]


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if not 0 < span[0] <= span[1]:
        raise ValueError("a range is [least, greatest], both above 0")
    return span


Span = Annotated[tuple[Number, Number], AfterValidator(_ordered)]


class NoAugmentation(Config):
    """The images as they are.

    >>> rng = assay.Stream(0).rows(range(12))
    >>> torch.equal(assay.data.NoAugmentation()(x, rng), x)
    True
    """

    name: Literal["none"] = "none"

    def __call__(self, x: Tensor, rng: Rows) -> Tensor:  # noqa: ARG002
        return x


class CropFlip(Config):
    """A random crop of the padded image, a mirror, and a hole: what CIFAR networks train with.

    >>> rng = assay.Stream(0).rows(range(12))
    >>> assay.data.CropFlip(padding=1)(x, rng).shape
    torch.Size([12, 1, 8, 8])
    """

    name: Literal["crop-flip"] = "crop-flip"
    padding: int = Field(4, ge=0)
    """How far the image may shift, in pixels; the border is filled by reflection."""
    flip: Share = 0.5
    """The probability of a left-right mirror; 0 for sets where left and right differ."""
    cutout: int = Field(0, ge=0)
    """Side of a grey square at a random place, in pixels; 0: none (DeVries & Taylor 2017)."""

    def __call__(self, x: Tensor, rng: Rows) -> Tensor:
        height, width = x.shape[2:]
        shift = rng.integers(2 * self.padding + 1, (2,)) - self.padding
        mirror = rng.uniform() < self.flip
        x = crop_flip(x, shift, mirror)
        if self.cutout:
            # the middle may be anywhere, so that part of the square may lie outside
            middle = torch.stack([rng.integers(height), rng.integers(width)], 1)
            corner = middle - self.cutout // 2
            x = erase(x, corner, torch.full_like(corner, self.cutout), value=0.5)
        return x


class Simple(Config):
    """A slight turn, shift and zoom, and sometimes a slight blur.

    >>> rng = assay.Stream(0).rows(range(12))
    >>> assay.data.Simple(degrees=5)(x, rng).shape
    torch.Size([12, 1, 8, 8])
    """

    name: Literal["simple"] = "simple"
    degrees: Number = Field(10.0, ge=0, le=180)
    """The greatest rotation to either side, in degrees."""
    translate: Share = 0.05
    """The greatest shift along each axis, as a share of the image's width or height."""
    scale: Span = (0.95, 1.05)
    """The least and greatest zoom."""
    blur: Span = (0.1, 0.5)
    """The least and greatest standard deviation of the Gaussian blur, in pixels."""
    blur_p: Share = 0.3
    """The probability of a blur."""

    def __call__(self, x: Tensor, rng: Rows) -> Tensor:
        maps = random_affine(rng, x, self.degrees, self.translate, self.scale)
        return random_blur(resample(x, maps), rng, self.blur, self.blur_p)


class Heavy(Config):
    """Strong turns, shifts, zooms and shears, perspective, elastic bending, blur and holes.

    The geometric parts are composed and the image is sampled once.

    >>> rng = assay.Stream(0).rows(range(12))
    >>> assay.data.Heavy()(x, rng).shape
    torch.Size([12, 1, 8, 8])
    """

    name: Literal["heavy"] = "heavy"
    degrees: Number = Field(25.0, ge=0, le=180)
    """The greatest rotation to either side, in degrees."""
    translate: Share = 0.15
    """The greatest shift along each axis, as a share of the image's width or height."""
    scale: Span = (0.8, 1.2)
    """The least and greatest zoom."""
    shear: Number = Field(10.0, ge=0, lt=90)
    """The greatest horizontal shear to either side, in degrees."""
    perspective: Share = 0.2
    """How far each corner may move inwards, as a share of half the width or height."""
    perspective_p: Share = 0.5
    """The probability of a change of perspective."""
    elastic: Number = Field(50.0, ge=0)
    """The factor on the displacements of Simard et al. 2003, in half pixels; 0: none."""
    elastic_sigma: Number = Field(5.0, gt=0)
    """The standard deviation that smooths the displacements, in pixels."""
    blur: Span = (0.5, 2.0)
    """The least and greatest standard deviation of the Gaussian blur, in pixels."""
    blur_p: Share = 0.3
    """The probability of a blur."""
    erase: Span = (0.02, 0.15)
    """The least and greatest area of the erased rectangle, as a share of the image's."""
    erase_p: Share = 0.3
    """The probability that a rectangle is erased (Zhong et al. 2020)."""

    def __call__(self, x: Tensor, rng: Rows) -> Tensor:
        maps = random_affine(rng, x, self.degrees, self.translate, self.scale, self.shear)
        maps = maps @ random_perspective(rng, x, self.perspective, self.perspective_p)
        bend = random_bend(rng, x, self.elastic, self.elastic_sigma) if self.elastic else None
        x = random_blur(resample(x, maps, bend), rng, self.blur, self.blur_p)
        return random_erase(x, rng, self.erase, self.erase_p)


Augmentation = Annotated[NoAugmentation | CropFlip | Simple | Heavy, Field(discriminator="name")]


# -- what is done ------------------------------------------------------------------------------


def crop_flip(x: Tensor, shift: Tensor, mirror: Tensor) -> Tensor:
    """Shift each image by whole pixels, reflecting its border, and mirror some.

    Args:
        x: (N, C, H, W).
        shift: int64 (N, 2), rows and columns: output (i, j) is taken from (i + s0, j + s1).
        mirror: bool (N,), which are mirrored left to right, after the shift.
    """
    _, channels, height, width = x.shape
    rows = _reflected(shift[:, :1], height)
    columns = _reflected(shift[:, 1:], width)
    columns = torch.where(mirror[:, None], columns.flip(1), columns)
    x = x.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return x.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def _reflected(shift: Tensor, length: int) -> Tensor:
    """Return positions 0 .. length - 1 moved by `shift` (N, 1) and reflected: (N, length)."""
    position = torch.arange(length, device=shift.device) + shift
    period = max(2 * (length - 1), 1)
    position = position.remainder(period)
    return torch.minimum(position, period - position) if length > 1 else torch.zeros_like(position)


def resample(x: Tensor, maps: Tensor, bend: Tensor | None = None) -> Tensor:
    """Return the images seen through homographies; bilinear, black outside.

    Args:
        x: (N, C, H, W).
        maps: float32 (N, 3, 3), from an output position to an input position, both in units in
            which the image spans [-1, 1] along each axis (x to the right, y down).
        bend: float32 (N, H, W, 2), added to the output position before it is mapped; in the same
            units.
    """
    count, _, height, width = x.shape
    place = torch.stack(
        torch.meshgrid(_middles(width, x), _middles(height, x), indexing="xy"), dim=2
    ).expand(count, -1, -1, -1)
    if bend is not None:
        place = place + bend
    flat = F.pad(place.reshape(count, -1, 2), (0, 1), value=1.0) @ maps.transpose(1, 2)
    grid = (flat[..., :2] / flat[..., 2:]).view(count, height, width, 2)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _middles(length: int, like: Tensor) -> Tensor:
    """Return the middles of the pixels, in [-1, 1]: (length,)."""
    return (2 * torch.arange(length, device=like.device, dtype=like.dtype) + 1) / length - 1


def affine(
    x: Tensor, degrees: Tensor, shift: Tensor, scale: Tensor, shear: Tensor | None = None
) -> Tensor:
    """Return maps for `resample` that shear, zoom, turn and shift images, in that order.

    Args:
        x: the images (N, C, H, W), for their size.
        degrees: (N,), clockwise as seen, about the middle of the image.
        shift: (N, 2), to the right and down, in pixels.
        scale: (N,), above 1 enlarges.
        shear: (N,), horizontal, in degrees: the lower rows move to the left; None: none.
    """
    height, width = x.shape[2:]
    angle = torch.deg2rad(degrees)
    cos, sin = torch.cos(angle), torch.sin(angle)
    lean = torch.zeros_like(cos) if shear is None else torch.tan(torch.deg2rad(shear))
    # in pixels about the middle: output = R(angle) · scale · S(lean) · input + shift
    forward = (
        torch.stack(
            [cos, -sin - lean * cos, sin, cos - lean * sin],
            dim=1,
        ).view(-1, 2, 2)
        * scale[:, None, None]
    )
    inverse = torch.linalg.inv(forward)
    half = torch.tensor([width / 2, height / 2], device=x.device, dtype=x.dtype)
    maps = torch.eye(3, device=x.device, dtype=x.dtype).repeat(len(x), 1, 1)
    maps[:, :2, :2] = inverse * half[None, None, :] / half[None, :, None]
    maps[:, :2, 2] = -(inverse @ shift[:, :, None])[:, :, 0] / half
    return maps


def perspective(x: Tensor, corners: Tensor) -> Tensor:
    """Return maps for `resample` that draw the whole image into a quadrilateral.

    Args:
        x: the images (N, C, H, W).
        corners: (N, 4, 2), where the corners (left upper, right upper, right lower, left lower)
            come to lie, in units in which the image spans [-1, 1].
    """
    target = torch.tensor(
        [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], device=x.device, dtype=x.dtype
    ).expand(len(x), 4, 2)
    # eight linear equations in the entries of the homography that takes `corners` to `target`
    u, v = corners[..., 0], corners[..., 1]
    p, q = target[..., 0], target[..., 1]
    one, nil = torch.ones_like(u), torch.zeros_like(u)
    left = torch.stack([u, v, one, nil, nil, nil, -p * u, -p * v], dim=2)
    right = torch.stack([nil, nil, nil, u, v, one, -q * u, -q * v], dim=2)
    entries = torch.linalg.solve(torch.cat([left, right], 1), torch.cat([p, q], 1))
    return F.pad(entries, (0, 1), value=1.0).view(-1, 3, 3)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Return the images blurred by a Gaussian of `sigma` (N,) pixels; 0 leaves an image alone.

    Near the border the weights of the pixels that are there are scaled to add up to 1. Blurring an
    axis is one product with a (length, length) matrix per image.
    """
    height, width = x.shape[2:]
    down, across = _gaussian(sigma, height), _gaussian(sigma, width)
    return down[:, None] @ x @ across[:, None].transpose(2, 3)


def _gaussian(sigma: Tensor, length: int) -> Tensor:
    """Return the matrices that blur an axis: (N, length, length), rows adding up to 1."""
    place = torch.arange(length, device=sigma.device, dtype=sigma.dtype)
    distance = (place[:, None] - place[None, :]).square()
    # below 0.05 pixels every weight but the middle one is 0 in float32
    weights = torch.exp(-distance / (2 * sigma.clamp_min(0.05).square()[:, None, None]))
    return weights / weights.sum(2, keepdim=True)


def erase(x: Tensor, corner: Tensor, extent: Tensor, value: float = 0.0) -> Tensor:
    """Return the images with a rectangle set to `value`.

    Args:
        x: (N, C, H, W).
        corner: int64 (N, 2), first row and column; may lie outside.
        extent: int64 (N, 2), height and width; 0 erases nothing.
    """
    inside = []
    for axis, length in enumerate(x.shape[2:]):
        place = torch.arange(length, device=x.device)
        first, size = corner[:, axis : axis + 1], extent[:, axis : axis + 1]
        inside.append((place >= first) & (place < first + size))
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return x.masked_fill(hole, value)


# -- how it is drawn ---------------------------------------------------------------------------


def random_affine(
    rng: Rows, x: Tensor, degrees: float, translate: float, scale: Span, shear: float = 0.0
) -> Tensor:
    """Draw maps for `resample`: all settings uniform in their range."""
    size = torch.tensor([x.shape[3], x.shape[2]], device=x.device, dtype=x.dtype)
    return affine(
        x,
        degrees=rng.uniform((), -degrees, degrees),
        shift=rng.uniform((2,), -translate, translate) * size,
        scale=rng.uniform((), *scale),
        shear=rng.uniform((), -shear, shear) if shear else None,
    )


def random_perspective(rng: Rows, x: Tensor, strength: float, p: float) -> Tensor:
    """Draw maps for `resample` that move each corner inwards by up to `strength`, with chance p."""
    signs = torch.tensor(
        [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], device=x.device, dtype=x.dtype
    )
    corners = signs * (1 - rng.uniform((4, 2), 0.0, strength))
    maps = perspective(x, corners)
    still = torch.eye(3, device=x.device, dtype=x.dtype)
    return torch.where((rng.uniform() < p)[:, None, None], maps, still)


def random_bend(rng: Rows, x: Tensor, strength: float, sigma: float) -> Tensor:
    """Draw smooth displacements for `resample`: (N, H, W, 2) (Simard et al. 2003)."""
    height, width = x.shape[2:]
    noise = rng.uniform((2, height, width), -1.0, 1.0)
    smooth = blur(noise, torch.full((len(x),), sigma, device=x.device))
    size = torch.tensor([width, height], device=x.device, dtype=x.dtype)
    return strength * smooth.permute(0, 2, 3, 1) / size


def random_blur(x: Tensor, rng: Rows, span: Span, p: float) -> Tensor:
    """Blur each image with chance p, by a standard deviation uniform in `span` pixels."""
    sigma = rng.uniform((), *span)
    x = blur(x, torch.where(rng.uniform() < p, sigma, 0.0))
    return x.clamp_(0, 1)  # weights add up to 1 only up to rounding


def random_erase(x: Tensor, rng: Rows, span: Span, p: float) -> Tensor:
    """Blacken one rectangle with chance p: area uniform in `span`, height : width 0.3 to 3.3."""
    height, width = x.shape[2:]
    area = rng.uniform((), *span) * height * width
    ratio = torch.exp(rng.uniform((), math.log(0.3), math.log(3.3)))
    extent = torch.stack([torch.sqrt(area * ratio), torch.sqrt(area / ratio)], 1).round().long()
    room = torch.tensor([height, width], device=x.device)
    extent = torch.minimum(extent, room)
    corner = (rng.uniform((2,)) * (room - extent + 1)).long()
    return erase(x, corner, extent * (rng.uniform() < p)[:, None])
