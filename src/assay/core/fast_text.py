"""The fast copy of a text classifier: bfloat16 screens, and what is in doubt the original answers.

Nearly all of an attack on words is the model's matrices, which float32 multiplies as fast as the
processor can: bfloat16 has four times its rate where there are instructions for it.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.fast import FastReport
from assay.core.head import watching
from assay.core.memory import Tally
from assay.core.oracle import Access
from assay.core.texts import TextClassifier
from assay.errors import one_line, told

CHECKED = 8
"""Texts that the copy is compared with its original on."""
DOUBT = 4.0
"""An answer is in doubt where the two likeliest classes are nearer than so many times the largest
error seen on those."""
ALLOWED = 0.25
"""Largest error of a difference of logits, over the spread of the logits, that a copy may have."""


class TextCopy:
    """A text classifier's stand-in for queries: same texts, same classes.

    Which class it says is the original's word, since it asks the original wherever its own error
    might decide; a text is one query all the same. Its gradients are nobody's: it gives none.

    Args:
        original: whose stand-in it is.
        model: what answers, in bfloat16.
        error: how far off a difference of two of its logits was at most.
    """

    def __init__(self, original: TextClassifier, model: nn.Module, error: float) -> None:
        self.original = original
        self.error = error
        self.asked_again = 0
        """Texts that were in doubt."""
        self._rough = copy.copy(original)
        self._rough.model = model
        self._rough.tally, self._rough.treated = Tally(), Counter()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.original.classes

    @property
    def access(self) -> Access:
        return "logits"

    @property
    def batch_size(self) -> int | None:
        return self.original.batch_size

    @property
    def queries(self) -> int:
        return self._rough.tally.queries

    def query(self, x: Sequence[str]) -> Tensor:
        """Return logits float32 (N, K), on the CPU."""
        answer = self._rough.query(x)
        if not len(answer):
            return answer
        first, second = answer.topk(2).values.unbind(1)
        doubtful = (~(first - second > DOUBT * self.error)).nonzero()[:, 0]
        if len(doubtful):
            self.asked_again += len(doubtful)
            answer[doubtful] = self.original.query([x[k] for k in doubtful.tolist()])
        return answer


def text_copy(original: TextClassifier, x: list[str]) -> tuple[TextCopy | TextClassifier, Any]:
    """Return a checked copy in bfloat16, or the classifier itself, and a `FastReport` of which.

    Args:
        original: the classifier; it is not changed.
        x: texts to check on, of which the first 8 are used.

    >>> from assay.core.fast_text import text_copy
    >>> fast, report = text_copy(text_clf, ["a good film", "a bad film"])
    >>> report.used, fast.query(["a good film"]).dtype
    (True, torch.float32)
    """
    some = x[:CHECKED]
    with watching(original.model) as linear:
        expected = original.query(some)
        heads = [m for m in linear.reads if m.out_features == expected.shape[1]]
    try:
        fast = TextCopy(original, _narrow(original.model, heads[-1] if heads else None), 0.0)
        off = fast._rough.query(some) - expected
    except Exception as error:  # whatever a user's module may raise when it is copied or narrowed
        why = f"the model has no copy in bfloat16: {told(error)}"
        return original, FastReport(False, "bfloat16", 0, math.nan, one_line(why, 300))
    least = torch.finfo(torch.bfloat16).eps * float(expected.abs().max())
    fast.error = max(least, float((off.amax(1) - off.amin(1)).max()))
    fast._rough.tally.queries = 0
    difference = fast.error / float(expected.std().clamp_min(1e-6))
    if not difference <= ALLOWED:
        why = f"its logits differ by {difference:.3g} of their spread"
        return original, FastReport(False, "bfloat16", 0, difference, why)
    return fast, FastReport(True, "bfloat16", 0, difference, "")


def _narrow(model: nn.Module, head: nn.Module | None) -> nn.Module:
    """Return a frozen copy of a model in bfloat16 whose last layer stays in float32: logits in
    bfloat16 have eight bits, and a search that keeps what is a little better sees no more."""
    names = {module: name for name, module in model.named_modules()}
    made = copy.deepcopy(model).eval().requires_grad_(False).to(torch.bfloat16)
    if head is not None:
        wide = made.get_submodule(names[head])
        wide.float().load_state_dict(head.state_dict())
        wide.register_forward_pre_hook(lambda _, given: tuple(part.float() for part in given))
    return made
