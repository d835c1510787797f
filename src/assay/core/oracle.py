"""What a model may be queried for: the contracts that attacks, detectors and explainers rest on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar, get_args

import torch
from torch import Tensor, nn

from assay.core.user_code import user_code
from assay.errors import AssayError

X = TypeVar("X", contravariant=True)

Access = Literal["labels", "scores", "logits", "gradient"]
"""What an oracle answers: a label; probabilities; logits; logits that can be differentiated."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, K), y (N,)) → (N,), one loss per row; attackers make it rise."""


@dataclass(frozen=True)
class Encoded:
    """What gradients are taken by.

    Attributes:
        values: pixels (N, C, H, W) in [0, 1], or token embeddings (N, T, D).
        mask: bool (N, T), true where there is a token; None for images.
        spans: per row, the (start, end) characters of each token; None for images.
    """

    values: Tensor
    mask: Tensor | None = None
    spans: tuple[tuple[tuple[int, int], ...], ...] | None = None


class Oracle(Protocol[X]):
    """A model that can be queried, and no more. X: Tensor (N, C, H, W) in [0, 1], or list[str]."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the outputs."""
        ...

    @property
    def access(self) -> Access:
        """What `query` answers, and whether gradients can be had."""
        ...

    @property
    def queries(self) -> int:
        """How many rows have been evaluated since the oracle was made."""
        ...

    def query(self, x: X) -> Tensor:
        """Answer for every row: labels int64 (N,), or scores or logits float32 (N, K)."""
        ...


class Differentiable(Oracle[X], Protocol):
    """An oracle with gradients; a `Classifier` is one."""

    def encode(self, x: X) -> Encoded:
        """Return what gradients are taken by."""
        ...

    def logits(self, e: Encoded) -> Tensor:
        """Return logits float32 (N, K), differentiable with respect to `e.values`."""
        ...


def granted(oracle: Oracle[Any], need: Access) -> bool:
    """Return whether an oracle allows what needs `need`; each access holds those before it."""
    order = get_args(Access)
    return bool(order.index(oracle.access) >= order.index(need))


def labels(answer: Tensor) -> Tensor:
    """Return the labels int64 (N,) in an oracle's answer, whatever its access.

    A row that holds NaN or +inf, or nothing but -inf, has no answer: its label is -1, which equals
    no class. Of several -inf beside a finite number, that number's class is the answer.
    """
    if answer.ndim == 1:
        return answer
    top, said = answer.max(1)  # a NaN is the greatest
    return said.masked_fill(~top.isfinite(), -1)


def gradient(
    model: Differentiable[Tensor], x: Tensor, y: Tensor, loss: Loss
) -> tuple[Tensor, Tensor]:
    """Return (logits (N, K), d loss / d x (N, C, H, W)) in one forward and backward pass.

    Gradients of the parameters are neither computed nor touched.

    Raises:
        AssayError: the logits have none, or the model fails on the way back.
    """
    return gradient_by(model, Encoded(x), y, loss)


def gradient_by(
    model: Differentiable[Any], e: Encoded, y: Tensor, loss: Loss
) -> tuple[Tensor, Tensor]:
    """Return (logits (N, K), d loss / d e.values), of images or of texts; see `gradient`."""
    with torch.enable_grad():
        values = e.values.detach().requires_grad_(True)
        logits = differentiable(model.logits(replace(e, values=values)), model)
        rising = loss(logits, y).sum()
        with user_code(e.values):
            (slope,) = torch.autograd.grad(rising, values, allow_unused=True)
    if slope is None:
        raise no_gradient(model)
    return logits.detach(), slope


def differentiable(logits: Tensor, model: Differentiable[Any] | None = None) -> Tensor:
    """Return the logits of a model that was evaluated with gradients.

    Raises:
        AssayError: they have none with respect to the images.
    """
    if not logits.requires_grad:
        raise no_gradient(model)
    return logits


def no_gradient(model: Differentiable[Any] | None) -> AssayError:
    """Return the error for outputs that cannot be differentiated by what the model was given."""
    if torch.is_inference_mode_enabled():
        return AssayError(
            "there are no gradients inside torch.inference_mode(): call the attack outside of it"
        )
    module = getattr(model, "model", None)
    if isinstance(module, nn.Module) and (integers := quantized(module)):
        return AssayError(
            f"the model has no gradient: its quantized layers ({', '.join(integers)}) compute in "
            "integers. Give the float network that it was made from, or query it: "
            "BlackBox(function, ...), --access logits"
        )
    return AssayError(
        "the model's outputs have no gradient with respect to its images, which the attacks "
        "follow: take detach(), no_grad() or numpy out of its forward"
    )


def quantized(model: nn.Module) -> list[str]:
    """Return the kinds of the model's layers that compute in integers, each once."""
    kinds = {type(module) for module in model.modules()}
    integers = (k.__name__ for k in kinds if re.match(r"torch\..*\.quantized", k.__module__))
    return sorted(name for name in integers if not name.endswith("PackedParams"))


def unwrapped(model: nn.Module) -> AssayError:
    """Return the error for a module that is given where a `Classifier` is needed."""
    name = type(model).__name__
    return AssayError(
        f"{name} is a bare torch.nn.Module: wrap it in assay.Classifier({name.lower()}, mean=..., "
        "std=...), which knows how its inputs are normalised"
    )
