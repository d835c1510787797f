"""The head of a classifier: the last linear layer, with what lies between it and the logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from assay.core.oracle import Encoded
from assay.core.random import Stream
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.core.classifier import Classifier

TRIALS = 8
"""Rows by which it is seen what a model makes of its last linear layer."""
ROUNDING = 64.0
"""Units in the last place, of the sum of the absolute products, that logits may be off by."""


@dataclass(frozen=True)
class Head:
    """An affine map from features (N, D) to logits (N, K).

    Attributes:
        weight: float32 (K, D).
        bias: float32 (K,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return the logits float32 (N, K) of features float32 (N, D)."""
        return features @ self.weight.mT + self.bias

    def reproduces(self, features: Tensor, logits: Tensor, eps: float) -> bool:
        """Return whether the logits are those of the features, but for rounding.

        Rows with NaN or +inf are ignored; -inf must be -inf.

        Args:
            features: (N, D).
            logits: float32 (N, K).
            eps: the rounding of one operation, that of the least precise type on the way.
        """
        features = features.float()
        known = features.isfinite().all(1) & (logits < torch.inf).all(1)
        made = self(features)
        size = features.abs() @ self.weight.abs().mT + self.bias.abs().masked_fill(
            self.bias.isinf(), 0
        )
        near = (made == logits) | ((made - logits).abs() <= ROUNDING * eps * size)
        return bool(near[known].all())


@dataclass(frozen=True)
class Read:
    """What a linear layer was given in its last call.

    Attributes:
        values: (N, D), the model's own type.
        eps: the rounding of the least precise of its types.
    """

    values: Tensor
    eps: float


@contextmanager
def watching(model: nn.Module) -> Iterator[Watch]:
    """Note in the block what the linear layers of the model read."""
    watch = Watch(model)
    try:
        yield watch
    finally:
        watch.only()


class Watch:
    """What each linear layer has read of a batch (N, D), in the order of the last calls."""

    def __init__(self, model: nn.Module) -> None:
        self.reads: dict[nn.Linear, Read] = {}
        self._handles = {
            module: module.register_forward_hook(self._note, with_kwargs=True)
            for module in model.modules()
            if isinstance(module, nn.Linear)
        }

    def only(self, *kept: nn.Module | None) -> None:
        """Stop watching all layers but these."""
        for module in [module for module in self._handles if module not in kept]:
            self._handles.pop(module).remove()
            self.reads.pop(module, None)

    def _note(
        self, module: nn.Linear, inputs: tuple[Any, ...], named: dict[str, Any], output: Any
    ) -> None:
        values = inputs[0] if inputs else named.get("input")
        self.reads.pop(module, None)
        whole = module.weight.shape == (module.out_features, module.in_features)  # not packed
        if whole and isinstance(values, Tensor) and isinstance(output, Tensor) and values.ndim == 2:
            types = (torch.float32, values.dtype, output.dtype, module.weight.dtype)
            eps = max(torch.finfo(kind).eps for kind in types if kind.is_floating_point)
            kept = values.detach().clone()  # what follows may work in place
            self.reads[module] = Read(kept, eps)


def find_head(
    classifier: Classifier, reads: Mapping[nn.Linear, Read], x: Tensor, logits: Tensor
) -> tuple[nn.Linear, Head] | None:
    """Return the last linear layer whose output, scaled and shifted class by class, is the logits.

    Scale and shift, such as a temperature or a mask, are part of the `Head`. Where the layer alone
    does not give the logits, they are found by letting it return other outputs, on `TRIALS` other
    images: whatever else the logits may depend on then shows.

    The model must be in eval mode, without gradients.

    Args:
        classifier: whose model it is.
        reads: what its linear layers read of the images.
        x: the images (N, C, H, W).
        logits: float32 (N, K), what the classifier returned.
    """
    if classifier.outputs == "probabilities":
        return None  # logits are then log p: known but for a number per row
    for module, read in reversed(list(reads.items())):
        if module.out_features != logits.shape[1] or len(read.values) != len(logits):
            continue
        plain = _affine(module, torch.ones(()), torch.zeros(()))
        if plain.reproduces(read.values, logits, read.eps):
            return module, plain
        found = _scale_and_shift(classifier, module, x, plain(read.values.float()), read.eps)
        if found is None:
            continue
        head = _affine(module, *found)
        if head.reproduces(read.values, logits, read.eps):
            return module, head
    return None


def plain_head(reads: Mapping[nn.Linear, Read], logits: Tensor) -> tuple[nn.Linear, Head] | None:
    """Return the last linear layer whose output is the logits (N, K) as it is, if there is one."""
    for module, read in reversed(list(reads.items())):
        if module.out_features == logits.shape[1] and len(read.values) == len(logits):
            plain = _affine(module, torch.ones(()), torch.zeros(()))
            if plain.reproduces(read.values, logits, read.eps):
                return module, plain
    return None


def _affine(module: nn.Linear, scale: Tensor, shift: Tensor) -> Head:
    """Return the layer with its outputs scaled and shifted, class by class."""
    weight = module.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().double()
    scale, shift = (values.to(weight).expand(len(weight)) for values in (scale, shift))
    return Head((scale[:, None] * weight).float(), (scale * bias + shift).float())


def _scale_and_shift(
    classifier: Classifier, module: nn.Linear, x: Tensor, outputs: Tensor, eps: float
) -> tuple[Tensor, Tensor] | None:
    """Return what the logits are of a layer's outputs, scale (K,) and shift (K,) in float64, or
    None where they are not that, or the model does not take these images."""
    draws = Stream(0).child("embedding", "head").rows(range(TRIALS))
    images = draws.uniform(x.shape[1:]).to(x)
    spread = outputs[outputs.isfinite()].abs().amax().clamp_min(1e-3)
    given = draws.normal((outputs.shape[1],)).to(outputs) * spread
    found: list[Tensor] = []
    rows = classifier.rows_per_batch(x)
    for part, instead in zip(torch.split(images, rows), torch.split(given, rows), strict=True):
        handle = module.register_forward_hook(lambda *call, some=instead: some.to(call[2]).clone())
        try:
            with suppress(AssayError):
                found.append(classifier.logits(Encoded(part)).double())
        finally:
            handle.remove()
    if sum(map(len, found)) < TRIALS:
        return None
    seen, given = torch.cat(found), given.double()
    masked = (seen == -torch.inf).all(0)
    seen = seen.masked_fill(masked, 0.0)
    centred = given - given.mean(0)
    scale = (centred * seen).sum(0) / (centred * centred).sum(0)
    shift = (seen - scale * given).mean(0)
    off = (seen - scale * given - shift).abs()
    if not bool((off <= ROUNDING * eps * (scale * given).abs().amax(0)).all()):
        return None
    return scale, shift.masked_fill(masked, -torch.inf)
