"""A model run once and watched: what its modules return, and which of it the logits depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.oracle import Encoded
from assay.explain.layout import named
from assay.explain.tokens import Sizes


@dataclass(frozen=True)
class Call:
    """A call of a module.

    Attributes:
        name, module: whose.
        shape: of the tensor it returned; () where it was none.
        output: the tensor itself where it has four axes or holds tokens (N, T, D), otherwise None;
            also of linear layers on tokens, which make each of itself: what they were given tells
            as much.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    output: Tensor | None


@dataclass(frozen=True)
class Probe:
    """What a pass through a model has shown.

    Attributes:
        calls: of all modules but the model itself, in the order in which they returned.
        sizes: what was seen of sizes.
        score: the sum of the logits of the predicted classes; its graph starts at the first output
            that is kept.
    """

    calls: list[Call]
    sizes: Sizes
    score: Tensor

    def slope(self, call: Call) -> Tensor | None:
        """Return d score / d output of a call, or None where no gradient reaches it."""
        if call.output is None or not self.score.requires_grad:
            return None
        (slope,) = torch.autograd.grad(
            self.score, call.output, retain_graph=True, allow_unused=True
        )
        return slope

    def counts(self, calls: Sequence[Call]) -> list[bool]:
        """Return of each call whether the score depends on its output by a gradient, be it 0.

        By none where the model lets no gradient through, or fails on the way back.
        """
        kept = [call.output for call in calls if call.output is not None]
        found: Iterator[Tensor | None] = iter(())
        if kept and self.score.requires_grad:
            with suppress(Exception):  # whatever a user's backward may raise
                slopes = torch.autograd.grad(self.score, kept, retain_graph=True, allow_unused=True)
                found = iter(slopes)
        return [call.output is not None and next(found, None) is not None for call in calls]


def probe(clf: Classifier, x: Tensor) -> Probe:
    """Return what the model shows on `x` (N, C, H, W), of which one row tells as much as many.

    The model must be held (`held`).
    """
    calls: list[Call] = []
    sizes = Sizes(modules=named(clf.model))

    def note(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, _: Any, output: Any) -> Any:
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            sizes.note(module, shape)
            of_itself = len(shape) == 3 and isinstance(module, nn.Linear)
            if len(shape) not in (3, 4) or of_itself or not output.is_floating_point():
                calls.append(Call(name, module, shape, None))
                return output
            kept = output if output.requires_grad else output.detach().requires_grad_(True)
            calls.append(Call(name, module, shape, kept))
            return kept.clone()  # the model may work in place

        return hook

    handles = [clf.model.register_forward_pre_hook(sizes.begin)]
    try:
        for name, module in clf.model.named_modules():
            if name:
                handles.append(module.register_forward_hook(note(name)))
        score = clf.logits(Encoded(x)).amax(1).sum()
    finally:
        for handle in handles:
            handle.remove()
    return Probe(calls, sizes, score)
