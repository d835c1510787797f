"""The fast copy of a classifier: what screens, while the original decides.

Eval mode, frozen parameters, batch norm folded into the convolutions before it (torch.fx), sums
and ReLUs done by the convolutions too (`fused`), channels_last, and bfloat16 on request. The copy
is checked against the original on a few images, logits and input gradients both; where it cannot
be made or differs, or the original answers differently each time, the original serves.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from assay.core.classifier import Classifier
from assay.core.folding import Folds, folded
from assay.core.fused import can_fuse, is_fused
from assay.core.images import check_channels
from assay.core.memory import Tally, in_parts
from assay.core.oracle import Access, Encoded, gradient
from assay.core.user_code import user_code
from assay.errors import AssayError, one_line, told

Precision = Literal["float32", "bfloat16"]

VERSION = 3
"""Of the copy in bfloat16, whose results differ from the original's: 2 ends in float32, 3 rounds a
sum only once."""

CHECKED_ROWS = 8
ASKED_AGAIN, FEW = 2, 2
"""How often the original is evaluated again, on how many rows, to see whether it draws: what
Python draws in a forward pass, a graph would hold for good."""
RANDOMISED = "the model is randomised"


@dataclass(frozen=True)
class FastReport:
    """How the fast copy was made, or why there is none."""

    used: bool
    precision: Precision
    folded: int
    """Batch norms folded into a convolution."""
    difference: float
    """Largest difference of a logit on the checked rows, over the spread of the logits."""
    why: str
    """Why the original serves instead; empty when the copy is used."""


class FastCopy:
    """A classifier's stand-in for gradients and screening queries; same classes, same inputs."""

    def __init__(
        self, original: Classifier, model: nn.Module, precision: Precision, folds: Folds
    ) -> None:
        self.original = original
        self.model = model
        self.precision = precision
        self._folds = folds
        self._dtype = torch.bfloat16 if precision == "bfloat16" else original.dtype
        self.tally = Tally()
        device = original.device
        std = torch.ones(1) if original.std is None else original.std
        mean = torch.zeros(1) if original.mean is None else original.mean
        self._scale = (1.0 / std).view(1, -1, 1, 1).to(device)
        self._shift = (-mean / std).view(1, -1, 1, 1).to(device)
        self._normalises = original.mean is not None or original.std is not None
        self._spread = self._scale, self._shift

    @property
    def classes(self) -> tuple[str, ...]:
        return self.original.classes

    @property
    def access(self) -> Access:
        return "gradient"

    @property
    def queries(self) -> int:
        return self.tally.queries

    def query(self, x: Tensor) -> Tensor:
        """Return logits float32 (N, K); these screen, and do not decide."""
        with torch.no_grad():
            rows = self.original.rows_per_batch(x)
            answer = in_parts(lambda part: self.logits(Encoded(part)), rows, x, tally=self.tally)
        return answer.to(x.device)

    def encode(self, x: Tensor) -> Encoded:
        return Encoded(x)

    def logits(self, e: Encoded) -> Tensor:
        self.tally.queries += len(e.values)
        x = e.values.to(self._scale.device)
        if self.original.preprocess is not None:
            with user_code(x, "preprocess"):
                x = self.original.preprocess(x.clone())
        check_channels(x, self._scale, self._shift)
        # Either way the model gets a tensor of its own: it may work in place.
        if self._normalises:
            scale, shift = self._like(x)
            x = torch.addcmul(shift, x, scale)
        else:
            x = x.clone()
        x = x.to(self._dtype).contiguous(memory_format=torch.channels_last)
        return self.original.as_logits(self.original.answered(self.model, x))

    def _like(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift to broadcast over `x`: in channels_last in the size of an image,
        since one number per channel takes three times as long there."""
        if x.stride(1) != 1:
            return self._scale, self._shift
        size = torch.Size((1, *x.shape[1:]))
        if self._spread[0].shape != size:
            scale, shift = (
                values.expand(size).contiguous(memory_format=torch.channels_last)
                for values in (self._scale, self._shift)
            )
            self._spread = scale, shift
        return self._spread


def versions(config: Any) -> dict[str, int]:
    """Return what a trial's address says of the copy that is used in a config's `precision`: of
    float32, and for a config that has none, nothing."""
    return {"FastCopy": VERSION} if getattr(config, "precision", None) == "bfloat16" else {}


def fast_copy(
    classifier: Classifier, x: Tensor, precision: Precision = "float32"
) -> tuple[FastCopy | Classifier, FastReport]:
    """Return a checked fast copy, or the classifier itself, and a report of which and why.

    Args:
        classifier: the original; it is not changed.
        x: images float32 (N, C, H, W) in [0, 1] to check on; the first 8 are used.
        precision: "bfloat16" halves the traffic; worth it on processors that have it.
    """
    rows = x[:CHECKED_ROWS]
    with classifier.borrowed():
        for fused in (True, False) if can_fuse(classifier.device) else (False,):
            try:
                model, folds = folded(classifier, bfloat16=precision == "bfloat16", fused=fused)
            except Exception as error:  # whatever a user's module may raise when copied
                why = f"the model cannot be copied: {type(error).__name__}: {error}"
                return classifier, FastReport(False, precision, 0, float("nan"), one_line(why, 300))
            made, report = _checked(FastCopy(classifier, model, precision, folds), rows)
            if report.used or not is_fused(model) or report.why.startswith(RANDOMISED):
                break
    return made, report


class Copies:
    """The fast copies of one classifier: one for each precision, made when it is first wanted.

    Whoever runs several things on one model hands these down, so that it is copied, traced and
    checked once and not by each of them. The model's weights must not change in between.

    Args:
        classifier: the original; it is not changed.
        x: images float32 (N, C, H, W) in [0, 1] to check on, as for `fast_copy`.
    """

    def __init__(self, classifier: Classifier, x: Tensor) -> None:
        self.classifier = classifier
        self._rows = x[:CHECKED_ROWS]
        self._made: dict[Precision, tuple[FastCopy | Classifier, FastReport]] = {}

    def checked(self, classifier: Classifier) -> Copies:
        """Return these copies, if they are those of `classifier`.

        Raises:
            AssayError: they are of another model, whose answers would be taken for its own.
        """
        if classifier is not self.classifier:
            raise AssayError("copies= are those of another classifier: make Copies of this one")
        return self

    def of(self, precision: Precision) -> tuple[FastCopy | Classifier, FastReport]:
        """Return what `fast_copy` does, the same object every time."""
        if precision not in self._made:
            self._made[precision] = fast_copy(self.classifier, self._rows, precision)
        return self._made[precision]


def renewed(fast: FastCopy, x: Tensor) -> tuple[FastCopy | Classifier, FastReport]:
    """Return the copy with the weights that its original has by now, as `fast_copy` would.

    For a network in training, whose weights change at every step: nothing is copied or traced anew,
    and the logits of two rows are enough to check on, since what is computed is as it was. Where
    they differ, all is checked that `fast_copy` checks.

    Args:
        fast: what `fast_copy` returned; it is changed.
        x: images to check on, as for `fast_copy`.
    """
    original, few = fast.original, x[:FEW]
    with original.borrowed():
        _take_weights(fast)
        with suppress(Exception), redirect_stderr(io.StringIO()):  # then the check says it
            difference = _apart(original.query(few), fast.query(few))
            if difference <= _allowed(fast):
                fast.tally.queries = 0
                return fast, FastReport(True, fast.precision, len(fast._folds), difference, "")
        return _checked(fast, x[:CHECKED_ROWS])


def _checked(fast: FastCopy, rows: Tensor) -> tuple[FastCopy | Classifier, FastReport]:
    """Return the copy where it agrees with its original on `rows`, otherwise the original."""
    try:
        with redirect_stderr(io.StringIO()):  # torch.fx prints what a graph of it raises
            difference, why = _compare(fast.original, fast, rows)
    except Exception as error:
        difference, why = float("nan"), f"the copy fails: {told(error)}"
    fast.tally.queries = 0
    report = FastReport(not why, fast.precision, len(fast._folds), difference, one_line(why, 300))
    return (fast.original if why else fast), report


@torch.no_grad()
def _take_weights(fast: FastCopy) -> None:
    """Give the copy the weights of its original, every batch norm folded again."""
    model = fast.original.model
    now: dict[str, Any] = dict(_tensors(model))
    for conv, norm in fast._folds.items():
        module, after = model.get_submodule(conv), model.get_submodule(norm)
        assert isinstance(module, nn.Conv2d)
        assert isinstance(after, nn.BatchNorm2d)
        assert after.running_mean is not None
        assert after.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            module.weight, module.bias, after.running_mean, after.running_var, after.eps,
            after.weight, after.bias,
        )  # fmt: skip
        now |= {f"{conv}.weight": weight, f"{conv}.bias": bias}
    for name, tensor in _tensors(fast.model):
        if name in now:  # a graph also holds tensors that are no parameters: they do not change
            tensor.copy_(now[name])


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Return parameters and buffers by every name that they have."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _compare(classifier: Classifier, candidate: FastCopy, x: Tensor) -> tuple[float, str]:
    """Return the relative difference of the logits, and what is wrong ("" when nothing is)."""
    loose = candidate.precision == "bfloat16"
    rows = min(len(x), classifier.rows_per_batch(x))
    own = partial(gradient, classifier, loss=lambda logits, _: _lead(logits, logits.argmax(1)))
    expected, slope = in_parts(own, rows, x, x, tally=classifier.tally, kind="gradient")
    said, copied = expected.argmax(1), partial(gradient, candidate, loss=_lead)
    seen, fast_slope = in_parts(copied, rows, x, said, tally=candidate.tally, kind="gradient")
    difference, allowed = _apart(expected, seen), _allowed(candidate)
    if not difference <= allowed:
        return difference, f"its logits differ by {difference:.3g} of their spread"
    cosine = float(F.cosine_similarity(slope.flatten(), fast_slope.flatten(), dim=0))
    vanished = float(slope.abs().max()) == 0
    if not vanished and not cosine >= (0.9 if loose else 0.999):
        return difference, f"its input gradients differ (cosine {cosine:.4f})"
    if isinstance(candidate.model, GraphModule):
        few = x[:FEW]
        again = (classifier.query(few) for _ in range(ASKED_AGAIN))
        wavers = max(_furthest(expected[:FEW], said) / _spread(expected) for said in again)
        if not wavers <= allowed:
            return difference, f"{RANDOMISED}: its logits differ by {wavers:.3g} of their spread"
    return difference, ""


def _allowed(candidate: FastCopy) -> float:
    """Return by how much the logits of a copy may differ, over their spread."""
    return 0.25 if candidate.precision == "bfloat16" else 1e-3


def _apart(expected: Tensor, seen: Tensor) -> float:
    """Return the largest difference of a logit, over the spread of those expected."""
    return _furthest(expected, seen) / _spread(expected)


def _spread(logits: Tensor) -> float:
    finite = logits[logits != -torch.inf]  # -inf is what a class is given that is masked
    return float(finite.std().clamp_min(1e-6))


def _furthest(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of two sets of logits; 0 where both are -inf."""
    return float((a - b).masked_fill((a == b) & a.isinf(), 0.0).abs().max())


def _lead(logits: Tensor, y: Tensor) -> Tensor:
    """Return by how much the logit of `y` leads the mean of its row: a loss that, unlike the cross
    entropy, keeps its gradient where the model is confident."""
    return logits.gather(1, y[:, None])[:, 0] - logits.mean(1)
