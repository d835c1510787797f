"""A model that can only be queried: any function from images to labels, scores or logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.core.images import RANGE_TOLERANCE, check_images, rows_that_fit
from assay.core.memory import Tally, in_parts
from assay.core.oracle import Access, labels
from assay.core.user_code import user_code
from assay.errors import AssayError, distinct, one_line

Answers = Literal["labels", "scores", "logits"]
"""What a model that can only be queried answers with: `Access`, without gradients."""

SUM_TOLERANCE = 1e-2
"""How near to 1 the scores of a row must sum: services round them."""
ALIKE_TOLERANCE = 1e-4
"""How near to 1 rows that were declared logits must sum to be taken for scores."""


class BlackBox:
    """An oracle around a function, and nothing else: no gradients, no weights.

    Args:
        function: takes a numpy array float32 (n, C, H, W) in [0, 1] that it may write into, and
            returns an array, a list or a tensor: labels (n,), or scores or logits (n, K).
        classes: the names of the outputs, or how many there are, which are then named by number.
        access: what the function returns. "labels": whole numbers from 0 to K - 1. "scores":
            probabilities, at least 0, that sum to 1 (tolerance 1e-2). "logits": any finite numbers.
        batch_size: rows given to the function at a time; None chooses by the size of one input.
        name: what errors call the function; None takes its own name.
        notes: what was understood when it was loaded, a line each.
        most: the budget: how many rows it may be asked about; None: any number. A query that would
            go beyond it is refused whole, and nothing of it is sent.

    A row may have no answer: None for all of it, NaN or None in it, or the label -1. It is counted
    as `unanswered`, its label is -1, and no attack is successful by it.

    Raises:
        AssayError: for images outside [0, 1]; for an answer of the wrong shape, type or range; for
            whatever the function raises; for one image that alone does not fit in memory; for a
            query beyond the budget.

    >>> brightness = lambda images: (images.mean((1, 2, 3)) > 0.5).astype(int)
    >>> box = assay.BlackBox(brightness, classes=("dark", "bright"), access="labels")
    >>> box.query(torch.tensor([0.2, 0.9]).reshape(2, 1, 1, 1).expand(2, 3, 4, 4)).tolist()
    [0, 1]
    """

    def __init__(
        self,
        function: Callable[[NDArray[np.float32]], Any],
        *,
        classes: Sequence[str] | int,
        access: Answers,
        batch_size: int | None = None,
        name: str | None = None,
        notes: Sequence[str] = (),
        most: int | None = None,
    ) -> None:
        if not callable(function):
            raise AssayError(
                f"a BlackBox wraps a function of images, not {type(function).__name__}"
            )
        if access not in get_args(Answers):
            raise AssayError(f"access is 'labels', 'scores' or 'logits', not {access!r}")
        if batch_size is not None and batch_size < 1:
            raise AssayError(f"batch_size is at least 1, or None, not {batch_size}")
        if most is not None and most < 1:
            raise AssayError(f"the budget of queries is at least 1, not {most}")
        named = range(classes) if isinstance(classes, int) else classes
        self._classes = distinct(map(str, named), "classes of the model")
        if len(self._classes) < 2:
            raise AssayError(f"a classifier has at least 2 classes, got {len(self._classes)}")
        self.function = function
        self.batch_size = batch_size
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.notes = tuple(notes)
        self.most = most
        self.tally = Tally()
        self.unanswered = 0
        """Rows that came back without an answer."""
        self._access: Answers = access

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def access(self) -> Access:
        return self._access

    @property
    def queries(self) -> int:
        return self.tally.queries

    def __repr__(self) -> str:
        return f"BlackBox({self.name}, {len(self.classes)} classes, access={self.access!r})"

    def query(self, x: Tensor) -> Tensor:
        """Return labels int64 (N,), or scores or logits float32 (N, K), wherever `x` is.

        A row without an answer is -1, or NaN throughout.
        """
        x = check_images(x)
        if len(x) == 0:  # a service need not know what to say to nothing
            empty = torch.empty(0, len(self.classes), device=x.device)
            return empty[:, 0].long() if self.access == "labels" else empty
        if self.most is not None and self.queries + len(x) > self.most:
            raise AssayError(
                f"budget spent: {self.queries:,} of {self.most:,} queries (--max-queries), and "
                f"{len(x):,} more are needed"
            )
        with torch.no_grad():
            rows = self.batch_size or rows_that_fit(x)
            answer = in_parts(self._ask, rows, x.detach(), tally=self.tally, in_vain=False)
        self.unanswered += int((labels(answer) == -1).sum())
        return answer.to(x.device)

    def predict(self, x: Tensor) -> Tensor:
        """Return the predicted class of every row, int64 (N,); -1 where there is no answer."""
        return labels(self.query(x))

    def _ask(self, x: Tensor) -> Tensor:
        """Return the checked answer to one batch, on the CPU."""
        images = x.to("cpu", torch.float32, copy=True).contiguous().numpy()
        with user_code(x, self.name):
            answer = self.function(images)
        self.tally.queries += len(x)
        values = self.numbers(answer, len(x))
        return self._labels(values) if self.access == "labels" else self._outputs(values)

    def numbers(self, answer: Any, rows: int) -> NDArray[np.float64]:
        """Return the answer as numbers (n,) or (n, K), None as NaN; refuse any other shape."""
        said = type(answer).__name__
        if isinstance(answer, Tensor):
            answer = answer.detach().cpu()
            answer = answer.float() if answer.is_floating_point() else answer
        if self.access != "labels" and isinstance(answer, list | tuple):
            silent = [None] * len(self.classes)
            answer = [silent if row is None else row for row in answer]
        try:
            found = np.asarray(answer)
            numbers = found.ndim > 0 and found.dtype.kind in "iufO"
            values = found.astype(np.float64) if numbers else None
        except (TypeError, ValueError, OverflowError, RuntimeError):
            values = None  # lists of unequal length, objects
        wanted = (rows,) if self.access == "labels" else (rows, len(self.classes))
        if values is None:
            raise AssayError(
                f"{self.name} returned {said} ({shown(answer)}), which is not an array of "
                f"{self.access} of shape {wanted}"
            )
        if values.shape != wanted:
            raise AssayError(
                f"{self.name} returned shape {values.shape} for {rows} images; "
                f"{self.access} of {len(self.classes)} classes have shape {wanted}"
            )
        return values

    def _labels(self, values: NDArray[np.float64]) -> Tensor:
        values = np.where(np.isnan(values), -1, values)
        whole = (values == np.floor(values)) & (values >= -1) & (values < len(self.classes))
        if not whole.all():
            raise AssayError(
                f"{self.name} returned the label {values[~whole][0]:g}; labels are whole numbers "
                f"from 0 to {len(self.classes) - 1}, or -1 for no answer"
            )
        return torch.from_numpy(values.astype(np.int64))

    def _outputs(self, values: NDArray[np.float64]) -> Tensor:
        silent = np.isnan(values).any(1)
        given = values[~silent]
        if not (np.abs(given) <= np.finfo(np.float32).max).all():
            raise AssayError(
                f"{self.name} returned infinity, or what is that in float32; {self.access} are "
                "finite, or NaN for no answer"
            )
        off = np.abs(given.sum(1) - 1)
        if self.access == "scores" and len(given):
            low = given.min()
            if low < -RANGE_TOLERANCE or off.max() > SUM_TOLERANCE:
                raise AssayError(
                    f"{self.name} returned scores that go down to {low:.4g} and sum to "
                    f"{given.sum(1)[off.argmax()]:.4g} in one row; scores are probabilities, at "
                    'least 0, that sum to 1: declare access="logits" for anything else'
                )
        several = len(given) > 1  # one row alone may be so by accident
        if self.access == "logits" and several and given.min() >= 0 and off.max() < ALIKE_TOLERANCE:
            raise AssayError(
                f"{self.name} returned probabilities (rows are positive and sum to 1), not logits: "
                'declare access="scores"'
            )
        answer = values.astype(np.float32)
        if self.access == "scores":
            answer = answer.clip(0, 1)
        answer[silent] = np.nan
        return torch.from_numpy(answer)


def shown(value: Any) -> str:
    """Return the beginning of what `value` prints, in one line."""
    return one_line(repr(value), 60)
