"""What an explainer is: a frozen config whose author writes one method, `maps`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal, Self

import torch
from pydantic import PrivateAttr
from torch import Tensor, nn
from torch.nn import functional as F

from assay.config import Config
from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.fast import Copies
from assay.core.images import check_images
from assay.core.oracle import unwrapped
from assay.errors import AssayError
from assay.explain.passes import eagerly

Targets = int | Tensor | None
"""The class to explain: one for all images, one per image int64 (N,), or None: the predicted."""


class Explainer(Config):
    """A method that says which parts of an image speak for a class.

    To add one: derive from this, tag it with `name: Literal["..."] = "..."` and write `maps`.
    Checking the inputs, holding the model and scaling are done here.

    >>> explainer = assay.explain.GradCAM(upsample="nearest")
    >>> maps = explainer(clf, x)  # of the predicted classes
    >>> maps.values.shape, int(maps.empty.sum())
    (torch.Size([12, 8, 8]), 0)
    """

    class_specific: ClassVar[bool] = True
    """Whether the map depends on the class that is to be explained."""
    of_attention: ClassVar[bool] = False
    """Whether it reads attention weights: it then explains transformers alone."""

    name: str
    """The method's name in configs."""
    upsample: Literal["bilinear", "nearest"] = "bilinear"
    """How a map is brought to the size of the image; nearest shows its own resolution."""

    _copies: Copies | None = PrivateAttr(default=None)

    def using(self, copies: Copies | None) -> Self:
        """Return the same explainer, which works with copies of the classifier that were made
        already. None: it makes its own where it needs one."""
        lent = self.model_copy()
        lent._copies = copies
        return lent

    def copies(self, clf: Classifier, x: Tensor) -> Copies:
        """Return the fast copies that were lent, or new ones checked on `x`.

        Raises:
            AssayError: those that were lent are of another classifier.
        """
        return Copies(clf, x) if self._copies is None else self._copies.checked(clf)

    def __call__(self, clf: Classifier, x: Tensor, targets: Targets = None) -> Attribution:
        """Explain every image.

        `values` is the positive part of `raw`, brought to the size of the image and divided by its
        largest value, so that 0 keeps its meaning: nothing here speaks for the class. A map that
        is positive nowhere, or the same everywhere, explains nothing: it is flagged in `empty`,
        and its values are 0. So is one that holds NaN or infinity, which `undefined` flags too.

        Args:
            clf: the classifier; its model comes back as it was, also after an exception.
            x: float32 (N, C, H, W) in [0, 1].
            targets: the class to explain: an int, int64 (N,), or None for the predicted class.

        Returns:
            values float32 (N, H, W) in [0, 1]; raw float32 (N, h, w), both where `x` is.

        Raises:
            AssayError: for images or targets that do not fit the classifier, none at all, or maps
                none of which is finite.
        """
        if isinstance(clf, nn.Module):
            raise unwrapped(clf)
        x, wanted = checked(x, targets)
        with held(clf):
            raw, explained, layer = self.maps(clf, x, wanted)
        return self.finished(raw, explained, layer, x)

    def finished(self, raw: Tensor, explained: Tensor, layer: str, x: Tensor) -> Attribution:
        """Return what `maps` gave for the images `x` as an attribution, scaled and checked."""
        raw = raw.to(x.device)
        bad = ~raw.isfinite().flatten(1).all(1)
        if bool(bad.all()):
            where = f"layer {layer!r}" if layer else "the input"
            raise AssayError(
                f"{self.name} is NaN or infinite for all of {len(x)} images at {where}: what the "
                "model returns there, or its gradients, is not finite; such maps mean nothing"
            )
        raw = raw.masked_fill(bad[:, None, None], 0.0)
        height, width = x.shape[2:]
        values, empty = scaled(raw, (height, width), self.upsample)
        undefined = bad if bool(bad.any()) else None
        return Attribution(values, raw, empty, layer, explained.to(x.device), undefined=undefined)

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        """Return the unscaled maps, the classes they explain and the layer: an author's part.

        It runs in eval mode, with frozen parameters and with gradients enabled. It evaluates `x` in
        parts (`in_parts`, of `clf.rows_per_batch(x)` rows), checks `targets` by `chosen`, takes
        gradients by `slopes_by`, which says whose code fails on the way back, and leaves no hook
        behind.

        Args:
            clf: the classifier.
            x: float32 (N, C, H, W) in [0, 1], checked.
            targets: int64 (N,), or None for the predicted class.

        Returns:
            float32 (N, h, w) at the resolution the method works in, signed where it is;
            int64 (N,); the name of the layer ("" for the input itself).
        """
        raise NotImplementedError


def checked(x: Tensor, targets: Targets) -> tuple[Tensor, Tensor | None]:
    """Return the checked images, and the targets as int64 (N,) or None for the predicted ones."""
    x = check_images(x).float()
    if not len(x):
        raise AssayError("there is nothing to explain: x holds no images")
    return x, _one_per_row(targets, len(x))


@contextmanager
def held(clf: Classifier) -> Iterator[None]:
    """Hold the model as `maps` needs it: in eval mode, frozen, not compiled, with gradients."""
    # a caller's no_grad or inference_mode must not reach the maps, which are made by gradients
    with clf.borrowed(), eagerly(), torch.inference_mode(False), torch.enable_grad():
        yield


def _one_per_row(targets: Targets, rows: int) -> Tensor | None:
    """Return the targets as int64 (N,), or None for the predicted classes."""
    if targets is None:
        return None
    try:
        given = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AssayError(
            f"targets must be one class number, or one per image ({rows},), got {targets!r}"
        ) from error
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise AssayError(f"targets are class numbers (int64), not {given.dtype}")
    if given.ndim == 0:
        return given.long().expand(rows)
    if tuple(given.shape) != (rows,):
        raise AssayError(
            f"targets must be one class, or one per image ({rows},), got {tuple(given.shape)}"
        )
    return given.long()


def chosen(logits: Tensor, targets: Tensor | None) -> Tensor:
    """Return the class to explain for each row of `logits` (N, K): int64 (N,), on its device.

    Raises:
        AssayError: for a target that is not one of the K classes.
    """
    if targets is None:
        return logits.detach().argmax(1)
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= logits.shape[1]:
        raise AssayError(
            f"targets go from {low} to {high}, but the model has {logits.shape[1]} classes, "
            f"0 to {logits.shape[1] - 1}"
        )
    return targets.to(logits.device)


def resized(maps: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Return maps (N, C, h, w) in another size; where that is smaller, by the mean of each area:
    single values would miss most of a map."""
    if maps.shape[2] > size[0] or maps.shape[3] > size[1]:
        return F.interpolate(maps, size, mode="area")
    corners = False if mode == "bilinear" else None
    return F.interpolate(maps, size, mode=mode, align_corners=corners)


def scaled(raw: Tensor, size: tuple[int, int], mode: str) -> tuple[Tensor, Tensor]:
    """Return maps (N, H, W) in [0, 1] from signed ones (N, h, w), and which explain nothing (N,).

    A map counts as the same everywhere if its values differ by less than 1e-5 of the largest,
    which is what rounding leaves.
    """
    flat = raw.flatten(1)
    high, low = flat.amax(1), flat.amin(1)
    empty = (high <= 0) | (high - low <= 1e-5 * high)
    large = resized(raw.relu()[:, None], size, mode)
    largest = large.flatten(1).amax(1).masked_fill(empty, 1.0)
    values = large[:, 0] / largest.clamp_min(torch.finfo(raw.dtype).tiny)[:, None, None]
    return values.masked_fill(empty[:, None, None], 0.0).clamp_(0, 1), empty
