"""An audit of images: what is taken, what is refused, and the one clean pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.watch import Tick
from assay.core.classifier import Classifier, check_gradient
from assay.core.images import check_images
from assay.core.oracle import Oracle, unwrapped
from assay.errors import AssayError

MIN_IMAGES = 20


def image_evidence(
    model: Oracle[Tensor],
    x: Tensor,
    y: Tensor,
    reference: tuple[Tensor, Tensor] | None,
    calibration: tuple[Tensor, Tensor] | None,
    masks: Tensor | None,
    metadata: Mapping[str, Sequence[Any]],
    config: AuditConfig,
    tick: Tick,
) -> Evidence:
    """Return what is audited, checked, with the one clean pass over it.

    Raises:
        AssayError: for images, labels or a model that do not fit; a network that answers with NaN,
            or anything else that answers with nothing else.
    """
    if isinstance(model, nn.Module):
        raise unwrapped(model)
    if not (hasattr(model, "query") and hasattr(model, "access")):
        raise AssayError(
            f"audit takes an assay.Classifier(model, ...), not {type(model).__name__}; or what can "
            "be queried, such as assay.BlackBox(function, classes=..., access=...)"
        )
    x, y = check_images(x).detach().float().cpu(), torch.as_tensor(y).cpu()
    _check_labels(x, y)
    y = y.long()
    reference, calibration = (_images(part) for part in (reference, calibration))
    if reference is None and calibration is not None:
        raise AssayError("calibration= goes with reference=: what detectors are fitted on")
    for part in (reference, calibration):
        if part is not None and torch.equal(part[0], x):
            raise AssayError(
                "reference and calibration are not the images that are scored: give others, or none"
            )
    if masks is not None and (masks.dtype != torch.bool or masks.shape != x[:, 0].shape):
        raise AssayError(
            f"masks must be bool {tuple(x[:, 0].shape)}, one of each image's size, got "
            f"{masks.dtype} {tuple(masks.shape)}"
        )
    masks = None if masks is None else masks.cpu()
    evidence = Evidence(model, x, y, config, reference, calibration, masks, tick, metadata)
    tick(f"evaluating the model on {len(x):,} images")
    silent = int((evidence.predictions < 0).sum())
    classes = evidence.classes
    if int(y.max()) >= len(classes):
        raise AssayError(
            f"the labels go up to {int(y.max())}, but the model has {len(classes)} outputs "
            f"(0 to {len(classes) - 1}): these data do not fit this model"
        )
    if isinstance(model, Classifier):
        if silent:
            raise AssayError(f"the model returns NaN or infinity for {silent} of {len(x)} images")
        check_gradient(model, x)
    elif silent == len(x):
        raise AssayError(
            f"the model has an answer for none of {len(x)} images: its {model.access} are NaN, "
            "infinite or missing. Is it fitted, and does it take images in [0, 1] of "
            f"{tuple(x.shape[1:])}?"
        )
    return evidence


def _check_labels(x: Tensor, y: Tensor) -> None:
    if y.ndim != 1 or len(y) != len(x):
        raise AssayError(f"y must hold one label per image ({len(x)},), got {tuple(y.shape)}")
    if y.is_floating_point() or y.dtype == torch.bool:
        raise AssayError(f"labels must be class numbers (int64), got {y.dtype}")
    if len(x) < MIN_IMAGES:
        raise AssayError(f"an audit needs at least {MIN_IMAGES} images, got {len(x)}")
    if int(y.min()) < 0:
        raise AssayError(f"labels must be 0 or more, got {int(y.min())}")


def _images(given: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """Return images and labels as the audit works with them."""
    if given is None:
        return None
    return check_images(given[0]).detach().float().cpu(), torch.as_tensor(given[1]).cpu().long()
