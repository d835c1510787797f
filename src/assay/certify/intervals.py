"""How many images are certified: no perturbation within eps changes their class."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay import stats
from assay.certify.bounds import Bounds
from assay.core.classifier import Classifier
from assay.core.images import check_images
from assay.core.memory import in_parts, is_out_of_memory
from assay.core.threats import NormBall
from assay.core.user_code import user_code
from assay.errors import AssayError, told

SLACK = 1e-5
"""By how much of the greatest difference of two logits a certified class has to lead: bounds are of
real numbers, computed in float64, and the network rounds to float32."""

CHECKED_ROWS = 8
SAME = 1e-6
"""By how much of its greatest logit a network may differ from the graph that is bounded, both in
float64."""


@dataclass(frozen=True)
class Certified:
    """What interval bounds prove of each image.

    Attributes:
        eps: the L∞ radius, in pixel units of [0, 1].
        certified: bool (N,), true where the image is classified correctly, and so is every image
            within eps of it.
        margin: float64 (N,), the most by which any other class can lead: negative where certified.
        accuracy: the share that is certified, with Wilson's interval.

    >>> found = assay.certify.ibp(clf, x, y, eps=0.0001)
    >>> found.certified.shape, found.accuracy.n
    (torch.Size([12]), 12)
    """

    eps: float
    certified: Tensor
    margin: Tensor
    accuracy: stats.Estimate


def ibp(clf: Classifier, x: Tensor, y: Tensor, *, eps: float) -> Certified:
    """Certify by interval bound propagation (Gowal et al. 2018): two passes, no attack.

    It is sound and loose: a network that was not trained by it has next to no image certified at
    budgets that matter, however robust it is.

    Certified is the network as it computes in float32. On CUDA, PyTorch's convolutions round to
    TF32 unless `torch.backends.cudnn.allow_tf32 = False`, which is coarser than the bounds allow.

    Args:
        clf: the classifier; without `preprocess`, which no bound is known of.
        x: float32 (N, C, H, W) in [0, 1].
        y: int64 (N,), the true classes.
        eps: L∞ radius in pixel units of [0, 1]; the box is cut at [0, 1].

    Raises:
        AssayError: for an eps that is none; a layer that no bound is known for, which is named; a
            network that does not answer as the graph of its layers does, or that computes in less
            than float32.

    >>> assay.certify.ibp(clf, x, y, eps=0.0).accuracy.value
    1.0
    """
    NormBall(norm="linf", eps=eps)
    check_bounded(clf)
    if clf.dtype not in (torch.float32, torch.float64):
        raise AssayError(
            f"bounds are of real numbers, and what {str(clf.dtype).removeprefix('torch.')} rounds "
            "them to may be another class: certify the model in float32 (model.float())"
        )
    x = check_images(x)
    if y.shape != (len(x),):
        raise AssayError(f"y is one class per image, ({len(x)},), not {tuple(y.shape)}")
    device = torch.device("cpu") if clf.device.type == "mps" else clf.device  # which has no float64
    wide = _widened(clf, device)
    bounds = Bounds(wide)

    def lead(part: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = box_of(clf, part.to(device).double(), eps)
        own = of.to(device)
        most = bounds.margins(lower, upper, own)
        scale = most.abs().amax(1)
        return most.scatter(1, own[:, None], -torch.inf).amax(1).cpu(), scale.cpu()

    def strays(part: Tensor, of: Tensor) -> Tensor:
        at, _ = box_of(clf, part.to(device).double(), 0.0)
        own = of.to(device)
        with user_code(part):
            logits: Tensor = wide(at)
        leads = logits - logits.gather(1, own[:, None])
        apart: Tensor = (bounds.margins(at, at, own) - leads).abs().amax(1)
        strayed = apart > SAME * logits.abs().amax(1)
        return strayed.cpu()

    with torch.no_grad():
        rows = max(1, clf.rows_per_batch(x) // 4)
        few = x[:CHECKED_ROWS], y[:CHECKED_ROWS]
        if len(x) and bool(in_parts(strays, rows, *few, tally=clf.tally, kind="bounds").any()):
            raise AssayError(
                f"no bound is known of {type(clf.model).__name__}: it does not answer as the graph "
                "of its layers does, which holds no hooks, no work in place on what is read again, "
                "and no inputs but images; certify by smoothing instead"
            )
        margin, scale = in_parts(lead, rows, x, y, tally=clf.tally, kind="bounds")
    certified = margin < -SLACK * scale
    share = stats.proportion(int(certified.sum()), len(certified), "images")
    return Certified(eps, certified, margin, share)


def _widened(clf: Classifier, device: torch.device) -> nn.Module:
    """Return a copy of the model in eval mode and float64, on a device."""
    try:
        with clf.borrowed() as model:
            return copy.deepcopy(model).to(device).double().eval()
    except Exception as error:  # whatever a user's module may raise when it is copied
        if is_out_of_memory(error):
            raise
        raise AssayError(
            f"no bound is known of {type(clf.model).__name__}: it cannot be copied in float64 "
            f"({told(error)}); certify by smoothing instead"
        ) from error


def check_bounded(clf: Classifier) -> None:
    """Refuse a classifier that does more to images, or to logits, than bounds know of."""
    if clf.preprocess is not None:
        raise AssayError("no bound is known of preprocess: certify the model behind it")
    if clf.outputs != "logits":
        raise AssayError("bounds are of logits: give the model without its softmax")


def box_of(clf: Classifier, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest input of the model for images within `eps` of `x` in L∞
    and in [0, 1], normalised: (N, C, H, W) each, where `x` is."""
    ends = []
    for end in ((x - eps).clamp(0, 1), (x + eps).clamp(0, 1)):
        if clf.mean is not None:
            end = end - clf.mean.to(end).view(1, -1, 1, 1)
        if clf.std is not None:
            end = end / clf.std.to(end).view(1, -1, 1, 1)
        ends.append(end)
    return ends[0], ends[1]
