"""Detectors that keep the training data's features, and look up what is near."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from assay.config import Number
from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood.base import Detector, Need, features_of, head_of

VALUES = 2**24
"""Similarities that are held at a time, 64 MiB of them: memory does not grow with the data."""


class KNN(Detector):
    """The distance to the k-th nearest of the training data's features, all of length 1; k = 50,
    the paper's for 50,000 rows (Sun et al. 2022, "Out-of-distribution detection with deep nearest
    neighbors").

    The search is exact: a matrix product and the k largest. The distance is then computed anew in
    float64, so that a row of the training data has one of 0 at k = 1.

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
        bank, found = state["bank"], []
        for part in torch.split(features_of(e), rows_at_once(bank)):
            at = normalize(part, dim=1)
            there = (at @ bank.mT).topk(self.k, dim=1)
            farthest = there.indices.gather(1, there.values.argmin(1, keepdim=True))[:, 0]
            found.append((at.double() - bank[farthest].double()).norm(dim=1))
        return torch.cat(found)


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
    """Return how many rows are compared with all of the bank (M, D) at a time."""
    return max(1, VALUES // max(1, len(bank)))
