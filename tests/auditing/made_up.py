"""Made-up values for tests of sections: a model that says what its images hold, and results of
attacks that nobody ran."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from assay.attacks import FGSM
from assay.attacks.base import Attack
from assay.attacks.result import AttackResult
from assay.auditing import AuditConfig
from assay.auditing.evidence import Evidence
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier


class Reads(nn.Module):
    """Answers with the first row of pixels of an image, ten times over: they are its logits."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * x[:, 0, 0]


def images(logits: Tensor) -> Tensor:
    """Return the images (N, 1, K, K) of which `Reads` says 10 times `logits`, from [0, 1]."""
    n, k = logits.shape
    x = torch.full((n, 1, k, k), 0.5)
    x[:, 0, 0] = logits
    return x


def saying(predictions: list[int], k: int = 3, sure: float = 1.0) -> Tensor:
    """Return images of which `Reads` says these classes, by a lead of 10 · `sure` in logits."""
    return images(sure * torch.nn.functional.one_hot(torch.tensor(predictions), k).float())


def evidence(
    predictions: list[int], y: list[int], *, k: int = 3, sure: float = 1.0, **more: Any
) -> Evidence:
    """Return evidence of a classifier that says `predictions` of images whose labels are `y`."""
    config = more.pop("config", AuditConfig(eps=0.1, budgets=(0.05, 0.1)))
    model = more.pop("model", Classifier(Reads()))
    return Evidence(model, saying(predictions, k, sure), torch.tensor(y), config, **more)


def black_box(access: Any, k: int = 3) -> BlackBox:
    """Return the same model as what can only be queried."""

    def said(x: Any) -> Tensor:
        logits = Reads()(torch.from_numpy(x))
        if access == "labels":
            return logits.argmax(1)
        return logits.softmax(1) if access == "scores" else logits

    return BlackBox(said, classes=k, access=access)


def result(
    fooled: set[int],
    *,
    attack: Attack | None = None,
    n: int = 3,
    k: int = 3,
    wrong: frozenset[int] | set[int] = frozenset(),
    silenced: frozenset[int] | set[int] = frozenset(),
) -> AttackResult:
    """Return what an attack came to that fooled these of `n` images, `wrong` ones apart."""
    attack = attack if attack is not None else FGSM(eps=0.1)
    at = torch.arange(n)
    correct = torch.tensor([i not in wrong for i in range(n)])
    success = torch.tensor([i in fooled for i in range(n)])
    after = torch.where(success | ~correct, 1, 0)
    after[torch.tensor([i in silenced for i in range(n)])] = -1
    x = saying([0] * n, k)
    return AttackResult(
        adversarial=x.clone(),
        success=success,
        distance=torch.zeros(n),
        queries=at + 1,
        steps=torch.zeros(n, dtype=torch.int64),
        stage=torch.where(success, 0, -1),
        cut=torch.zeros(n, dtype=torch.bool),
        clean_prediction=torch.where(correct, 0, 1),
        adversarial_prediction=after,
        correct=correct,
        labels=torch.zeros(n, dtype=torch.int64),
        targets=None,
        inputs=x,
        attack=attack,
        threat=attack.threat,
        seed=0,
        stop="fooled",
        seconds=0.0,
        evaluations={},
        refused=0,
        fast=None,
        oracle=Classifier(Reads()),
    )
