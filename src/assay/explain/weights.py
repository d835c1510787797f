"""Attention weights as a model computes them, also where a fused kernel hides them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from assay.errors import AssayError
from assay.explain.passes import eagerly

INSTEAD = "grad-cam, occlusion and smoothgrad do without attention weights"

HIDES = ("attention", "attn")
"""What torch's and others' functions are called that compute attention and show no weights."""


@contextmanager
def watching(rows: int, take: Callable[[Tensor], Tensor]) -> Iterator[AttentionWatch]:
    """Watch attention in the block, in which what is compiled runs eagerly: see AttentionWatch."""
    with eagerly(), AttentionWatch(rows, take) as watch:
        yield watch


class AttentionWatch(TorchFunctionMode):
    """While this is entered, every self-attention hands over its weights.

    It stands between a model and torch's functions, on this thread alone; the model itself, its
    hooks and torch's are left as they are. Attention that a model computes step by step is known by
    its softmax. `scaled_dot_product_attention` keeps no weights: they are computed, and then
    multiplied by the values, in its place, with equal results but for rounding. With torch's
    `MultiheadAttention`, and the transformer layers made of it, it is what they call inside; their
    own fused path torch itself avoids while someone stands between.

    Args:
        rows: images in the batch that the model is run on.
        take: from weights (rows, heads, T, T) to those the model goes on with. The weights are the
            model's own tensor, or a view of it.

    Raises:
        AssayError: on the way, for attention whose weights cannot be seen (a kernel of another
            kind), or that is not among all tokens of an image (windows, cross-attention).
    """

    def __init__(self, rows: int, take: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rows = rows
        self.take = take
        self.others: list[tuple[int, ...]] = []
        """Shapes of softmaxes that are no self-attention among all tokens."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is F.scaled_dot_product_attention:
            return self._product(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            query = args[0] if args else kwargs["query"]  # (T, N, D)
            if query.ndim != 3 or query.shape[1] != self.rows:
                raise _not_among_all(query.shape, self.rows)
            with self:
                return _multi_head(*args, **kwargs)
        if _hides(name):
            raise AssayError(
                f"the model computes attention by {name}, which hides its weights; let it use "
                "torch's scaled_dot_product_attention or compute step by step (Hugging Face: "
                f"model.set_attn_implementation('sdpa')), or take another method: {INSTEAD}"
            )
        made = func(*args, **kwargs)
        return self._softmax(made, args, kwargs) if name == "softmax" else made

    def _product(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """What `scaled_dot_product_attention` returns, by way of the weights."""
        if enable_gqa:
            shared = query.shape[-3] // key.shape[-3]
            key, value = (part.repeat_interleave(shared, -3) for part in (key, value))
        weights = attention_weights(query, key, attn_mask, is_causal=is_causal, scale=scale)
        if not self._fits(weights):
            raise _not_among_all(weights.shape, self.rows)
        weights = self._given(weights)
        if dropout_p:  # of a model that drops weights also in eval mode
            weights = F.dropout(weights, dropout_p)
        return weights @ value

    def _softmax(self, made: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if made.ndim < 3 or dim not in (-1, made.ndim - 1):
            return made
        if self._fits(made):
            return self._given(made)
        self.others.append(tuple(made.shape))
        return made

    def _fits(self, weights: Tensor) -> bool:
        """Whether these are weights among all tokens of each image: (N, H, T, T) or (N·H, T, T)."""
        if weights.ndim not in (3, 4) or weights.shape[-1] != weights.shape[-2]:
            return False
        return len(weights) == self.rows or (weights.ndim == 3 and len(weights) % self.rows == 0)

    def _given(self, weights: Tensor) -> Tensor:
        given = weights.reshape(self.rows, -1, *weights.shape[-2:])
        return self.take(given).view_as(weights)


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return what `scaled_dot_product_attention` multiplies its values by: softmax(scale · QKᵀ).

    Args:
        query: (..., T, D).
        key: (..., S, D).
        mask: bool, true where a query may attend, or float, added to the scores; (..., T, S).
        is_causal: no query attends to later keys.
        scale: of the scores; None: 1 / sqrt(D).

    Returns:
        (..., T, S); the rows of queries that may attend to nothing are 0.
    """
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    keys = key.contiguous().mT  # a batch of heads would be copied transposed otherwise
    scores = query @ keys
    if mask is None and not is_causal:
        made = _plain_softmax(scores)
        return (query @ keys).softmax(-1) if made is None else made
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if mask is None:
        return scores.softmax(-1)
    closed = mask.dtype == torch.bool
    scores = scores.masked_fill(~mask, -torch.inf) if closed else scores + mask
    nowhere = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.masked_fill(nowhere, 0.0).softmax(-1).masked_fill(nowhere, 0.0)


def _plain_softmax(scores: Tensor) -> Tensor | None:
    """Return the softmax of every row, or None where the scores are too large for a short cut.

    The short cut, on a processor and where no gradient needs the scores, writes over them, since
    fresh memory costs as much again, and searches no row for its maximum. That is nearly twice as
    fast, and equal but for rounding while the sums of a row's exponentials are well within float32.
    """
    if scores.requires_grad or scores.dtype != torch.float32 or scores.device.type != "cpu":
        return scores.softmax(-1)
    sums = scores.exp_() @ scores.new_ones(scores.shape[-1], 1)
    least, largest = (float(bound) for bound in sums.aminmax())
    return scores.div_(sums) if least > 1e-30 and largest < 1e37 else None


@cache
def _hides(name: str) -> bool:
    """Return whether a function of this name computes attention and shows no weights."""
    return any(word in name for word in HIDES)


def _not_among_all(shape: Sequence[int], rows: int) -> AssayError:
    return AssayError(
        f"the model computes attention of shape {tuple(shape)} for {rows} images, which is not "
        "among all tokens of each (it is within windows, or to other tokens); its weights do "
        f"not show how the whole image was weighted: {INSTEAD}"
    )


# torch's function hands itself to whoever stands between; this one, of the same code, does not, so
# that what it calls inside is seen
_multi_head = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda _: False},
    "multi_head_attention_forward",
    F.multi_head_attention_forward.__defaults__,
)
