"""Common corruptions of photographs at five severities (Hendrycks & Dietterich 2019, "Benchmarking
neural network robustness to common corruptions and perturbations"), for whole batches at once.

Strengths are those of the authors' CIFAR-10-C. What is computed differs from their code where that
calls ImageMagick, OpenCV or one image at a time: motion is a straight line of Gaussian weight,
turned to any angle; fog and snow are sums of smoothed noise; defocus is a disk drawn at an eighth
of a pixel. Every image's draws are those of its own row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.random import Rows
from assay.errors import AssayError, unknown

SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(name: str, x: Tensor, severity: int, rng: Rows) -> Tensor:
    """Return images corrupted: float32 (N, C, H, W) in [0, 1].

    Args:
        name: one of `CORRUPTIONS`, or `mixed`: each in turn, by the row's own index.
        x: images float32 (N, C, H, W) in [0, 1], C 1 or 3.
        severity: from 1 (slight) to 5 (severe).
        rng: a generator per row; the same row is corrupted in the same way in any batch.

    Raises:
        AssayError: for another name or severity.
    """
    if severity not in SEVERITIES:
        raise AssayError(f"severities of corruptions are 1 to 5, not {severity}")
    if name == "mixed":
        made = torch.empty_like(x)
        kinds = rng.ids % len(CORRUPTIONS)
        for kind, one in enumerate(CORRUPTIONS):
            some = (kinds == kind).nonzero()[:, 0]
            if len(some):
                made[some] = corrupt(one, x[some], severity, rng[some])
        return made
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, ["mixed", *CORRUPTIONS])
    return CORRUPTIONS[name](x, severity - 1, rng).clamp(0, 1)


# -- noise -------------------------------------------------------------------------------------


def _gaussian_noise(x: Tensor, level: int, rng: Rows) -> Tensor:
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[level] * rng.normal(x.shape[1:])


def _shot_noise(x: Tensor, level: int, rng: Rows) -> Tensor:
    """Poisson counts of light, by their normal approximation: at 50 and more per unit it is close,
    and each row has draws of its own."""
    count = (500, 250, 100, 75, 50)[level]
    drawn = x * count + (x * count).sqrt() * rng.normal(x.shape[1:])
    return drawn.round().clamp_min(0) / count


def _impulse_noise(x: Tensor, level: int, rng: Rows) -> Tensor:
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[level]
    hit, white = rng.uniform((2, *x.shape[1:])).unbind(1)
    return torch.where(hit < amount, (white < 0.5).to(x.dtype), x)


# -- blur --------------------------------------------------------------------------------------


def _gaussian_blur(x: Tensor, level: int, rng: Rows) -> Tensor:
    del rng
    return _smoothed(x, (0.4, 0.6, 0.7, 0.8, 1.0)[level])


def _defocus_blur(x: Tensor, level: int, rng: Rows) -> Tensor:
    del rng
    radius, soft = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[level]
    fine, reach = 8, 2
    at = (torch.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    disk = (at[:, None].square() + at.square() <= max(radius, 0.5) ** 2).to(x.dtype)
    kernel = F.avg_pool2d(disk[None, None], fine)[0, 0]
    return _smoothed(_filtered(x, (kernel / kernel.sum()).expand(len(x), -1, -1)), soft)


def _motion_blur(x: Tensor, level: int, rng: Rows) -> Tensor:
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[level]
    angle = rng.uniform((), -math.pi / 4, math.pi / 4)
    return _filtered(x, _lines(angle, radius, sigma, x))


# -- weather-like ------------------------------------------------------------------------------


def _fog(x: Tensor, level: int, rng: Rows) -> Tensor:
    thick, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[level]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + thick * _clouds(x, decay, rng)) * brightest / (brightest + thick)


def _snow(x: Tensor, level: int, rng: Rows) -> Tensor:
    mean, spread, least, radius, sigma, pale = (
        (0.1, 0.2, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 0.65, 14, 12.0, 0.8),
    )[level]
    drawn = mean + spread * rng.normal((1, *x.shape[2:]))
    flakes = torch.where(drawn < least, 0.0, drawn.clamp(0, 1))
    angle = rng.uniform((), math.pi / 4, 3 * math.pi / 4)
    falling = _filtered(flakes, _lines(angle, radius, sigma, x))
    bright = x.mean(1, keepdim=True) * 1.5 + 0.5
    return pale * x + (1 - pale) * x.maximum(bright) + falling + falling.flip((2, 3))


def _brightness(x: Tensor, level: int, rng: Rows) -> Tensor:
    """The greatest channel of a pixel rises, and the others in proportion: hue and saturation (of
    HSV) stay."""
    del rng
    value = x.amax(1, keepdim=True)
    risen = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[level]).clamp_max(1)
    return torch.where(value > 0, x * risen / value.clamp_min(1e-6), risen)


# -- digital -----------------------------------------------------------------------------------


def _contrast(x: Tensor, level: int, rng: Rows) -> Tensor:
    del rng
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[level] + mean


def _pixelate(x: Tensor, level: int, rng: Rows) -> Tensor:
    del rng
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[level]
    height, width = x.shape[2:]
    small = F.adaptive_avg_pool2d(x, (max(1, int(height * share)), max(1, int(width * share))))
    return F.interpolate(small, (height, width), mode="nearest")


def _jpeg(x: Tensor, level: int, rng: Rows) -> Tensor:
    del rng
    from assay.data.codec import jpeg

    levels = x.mul(255).round().to(torch.uint8)
    return jpeg(levels, (80, 65, 58, 50, 40)[level]).to(x.dtype) / 255


CORRUPTIONS: Mapping[str, Callable[[Tensor, int, Rows], Tensor]] = {
    "gaussian-noise": _gaussian_noise,
    "shot-noise": _shot_noise,
    "impulse-noise": _impulse_noise,
    "gaussian-blur": _gaussian_blur,
    "defocus-blur": _defocus_blur,
    "motion-blur": _motion_blur,
    "fog": _fog,
    "snow": _snow,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
"""By name: (x, severity - 1, rng) → images that may leave [0, 1]."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "noise": ("gaussian-noise", "shot-noise", "impulse-noise"),
    "blur": ("gaussian-blur", "defocus-blur", "motion-blur"),
    "weather": ("fog", "snow", "brightness"),
    "digital": ("contrast", "pixelate", "jpeg"),
}


# -- filters -----------------------------------------------------------------------------------


def _filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """Return images (N, C, H, W) filtered by a kernel (N, k, k) each, k odd; edges are repeated."""
    n, channels, height, width = x.shape
    reach = kernels.shape[1] // 2
    padded = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    weight = kernels.repeat_interleave(channels, 0)[:, None].to(x.dtype)
    out = F.conv2d(padded.reshape(1, n * channels, *padded.shape[2:]), weight, groups=n * channels)
    return out.reshape(n, channels, height, width)


def _smoothed(x: Tensor, sigma: float) -> Tensor:
    reach = max(1, math.ceil(4 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=x.dtype)
    line = (-at.square() / (2 * sigma**2)).exp()
    kernel = line[:, None] * line
    return _filtered(x, (kernel / kernel.sum()).expand(len(x), -1, -1))


def _lines(angle: Tensor, radius: int, sigma: float, x: Tensor) -> Tensor:
    """Return a kernel per row (N, k, k): one side of a Gaussian along a line at the row's angle, a
    pixel wide, as light smears one way."""
    reach = min(radius, max(1, min(x.shape[2:]) // 2))
    at = torch.arange(-reach, reach + 1, dtype=x.dtype)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along = cos * at[None, None, :] + sin * at[None, :, None]
    across = sin * at[None, None, :] - cos * at[None, :, None]
    weight = (-along.square() / (2 * sigma**2)).exp() * (1 - across.abs()).clamp_min(0)
    weight = torch.where((along >= -0.5) & (along <= reach), weight, 0.0)
    return weight / weight.sum((1, 2), keepdim=True)


def _clouds(x: Tensor, decay: float, rng: Rows) -> Tensor:
    """Return clouds (N, 1, H, W) from 0 to 1: noise at every scale, each finer one weaker by
    `decay`."""
    height, width = x.shape[2:]
    total, strength, cells = torch.zeros(len(rng), 1, height, width), 1.0, 2
    while cells <= max(height, width):
        coarse = rng.uniform((1, cells, cells))
        total += strength * F.interpolate(
            coarse, (height, width), mode="bilinear", align_corners=True
        )
        strength, cells = strength / decay, cells * 2
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    return (total - low) / (high - low).clamp_min(1e-6)
