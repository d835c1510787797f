"""Detectors that keep the training data's features, and look up what is near."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.weak import TensorWeakRef, WeakIdKeyDictionary

from assay.config import Number
from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood.base import Detector
from assay.ood.needs import Need, features_of, head_of

VALUES = 2**24
"""Similarities that are held at a time, 64 MiB of them: memory does not grow with the data."""
GROUP = 64
"""Rows of the bank that are looked through together: the k largest values lie in the k groups with
the largest maxima, so that only those groups are sorted."""


class KNN(Detector):
    """The distance to the k-th nearest of the training data's features, all of length 1; k = 50,
    the paper's for 50,000 rows (Sun et al. 2022, "Out-of-distribution detection with deep nearest
    neighbors").

    The search is exact: a matrix product and the k largest. The distance is then computed anew in
    float64, so that a row of the training data has one of 0 at k = 1. What was found of an
    embedding serves every detector with the same bank and k, such as a rank average of it.

    >>> e = clf.embed(x)
    >>> assay.ood.KNN(k=1).fit(e).score(e).amax().item()
    0.0
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features"})
    code: ClassVar[str] = "OOD-004"

    name: Literal["knn"] = "knn"
    """The method's name in configs."""
    k: int = Field(default=50, ge=1)
    """Which of the neighbours is measured, the nearest being the first."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        enough(self.name, self.k, len(e))
        return {"bank": normalize(features_of(e), dim=1)}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        features, bank = features_of(e), state["bank"]
        if features.requires_grad or features.is_inference():  # nothing tells whether it changed
            return distances(features, bank, self.k)
        last = _FOUND.get(features)
        if last is None or not last.answers(features, bank, self.k):
            found = distances(features, bank, self.k)
            last = _Found(features._version, TensorWeakRef(bank), bank._version, self.k, found)
            _FOUND[features] = last
        return last.distances.clone()


class NNGuide(Detector):
    """-s(h) · mean of s(b) cos(h, b) over the k training rows b where that is largest, s being the
    log Σ exp of the logits: confidence, guided by where confident training data lies (Park et al.
    2023, "Nearest neighbor guidance for out-of-distribution detection").

    The paper's k = 10, and its bank of 1 % of the training data, here every hundredth row; of less
    than 100,000 rows it is 1,000 of them, so that there is somebody to ask.

    >>> e = clf.embed(x)
    >>> assay.ood.NNGuide(k=2).fit(e).score(e).shape
    torch.Size([12])
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "head"})

    name: Literal["nnguide"] = "nnguide"
    """The method's name in configs."""
    k: int = Field(default=10, ge=1)
    """How many neighbours guide."""
    share: Number = Field(default=0.01, gt=0, le=1)
    """The share of the training data that is kept; at least 1,000 rows are, if there are."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        enough(self.name, self.k, len(e))
        kept = min(len(e), max(1000, self.k, round(self.share * len(e))))
        some = torch.arange(kept) * len(e) // kept
        features = features_of(e)[some]
        confidence = head_of(e)(features).logsumexp(1, keepdim=True)
        return {"bank": normalize(features, dim=1) * confidence}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        bank, head, found = state["bank"], head_of(e), []
        for part in torch.split(features_of(e), rows_at_once(bank)):
            near = (normalize(part, dim=1) @ bank.mT).topk(self.k, dim=1).values
            found.append(-near.double().mean(1) * head(part).double().logsumexp(1))
        return torch.cat(found)


@dataclass(frozen=True)
class _Found:
    """The distances of some features, and what they were found by."""

    version: int
    bank: TensorWeakRef
    bank_version: int
    k: int
    distances: Tensor

    def answers(self, features: Tensor, bank: Tensor, k: int) -> bool:
        """Whether it is what a search for these would find: comparing banks costs a thousandth."""
        kept = self.bank()
        return (
            (features._version, k) == (self.version, self.k)
            and kept is not None
            and kept._version == self.bank_version
            and (kept is bank or torch.equal(kept, bank))
        )


_FOUND: MutableMapping[Tensor, _Found] = WeakIdKeyDictionary()
"""The last search for each features (N, D): a `_Found`, for as long as these are there."""


def distances(features: Tensor, bank: Tensor, k: int) -> Tensor:
    """Return the distance float64 (N,) of features (N, D), scaled to length 1, to the k-th nearest
    of a bank (M, D) of rows of length 1."""
    size, found = rows_at_once(bank), []
    # one buffer for all parts: the system clears memory that is asked for anew
    similar = bank.new_empty(min(size, len(features)), len(bank))
    for part in torch.split(features, size):
        at = normalize(part, dim=1)
        with torch.no_grad():
            there = kth_largest(torch.mm(at, bank.mT, out=similar[: len(at)]), k)
        found.append((at.double() - bank[there].double()).norm(dim=1))
    return torch.cat(found)


def kth_largest(values: Tensor, k: int) -> Tensor:
    """Return where in each row of values (N, M) the k-th largest is: int64 (N,)."""
    groups = values.shape[1] // GROUP
    if groups <= k:
        return _smallest(values.topk(k, dim=1))
    whole = groups * GROUP
    grouped = values[:, :whole].view(len(values), groups, GROUP)
    best = grouped.amax(2).topk(k, dim=1, sorted=False).indices
    near = grouped.gather(1, best[:, :, None].expand(-1, -1, GROUP)).flatten(1)
    there = _smallest(torch.cat([near, values[:, whole:]], dim=1).topk(k, dim=1))
    group = best.gather(1, (there // GROUP).clamp_max(k - 1)[:, None])[:, 0]
    grouped_at, left_over_at = group * GROUP + there % GROUP, whole + there - k * GROUP
    return torch.where(there < k * GROUP, grouped_at, left_over_at)


def _smallest(found: torch.return_types.topk) -> Tensor:
    """Return where the smallest of each row's k largest is."""
    return found.indices.gather(1, found.values.argmin(1, keepdim=True))[:, 0]


def enough(name: str, k: int, n: int) -> None:
    """Refuse to look for the k-th neighbour among fewer than k rows.

    Raises:
        AssayError: says how many there are.
    """
    if n < k:
        raise AssayError(
            f"{name} looks for {k} neighbours, and was given {n} rows to fit on: give more "
            f"reference data, or a smaller k"
        )


def rows_at_once(bank: Tensor) -> int:
    """Return how many rows are compared with all of the bank (M, D) at a time; a multiple of 64 is
    faster to multiply."""
    rows = VALUES // max(1, len(bank))
    return max(1, rows - rows % 64 if rows > 64 else rows)
