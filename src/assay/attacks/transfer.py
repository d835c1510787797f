"""Transfer: adversarial images made on one model, evaluated on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from assay import stats
from assay.attacks.base import Attack, wins
from assay.attacks.runner import fitting, run
from assay.core.fast import Precision
from assay.core.images import check_images
from assay.core.oracle import Access, Oracle, labels
from assay.errors import AssayError
from assay.stats import Estimate

AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class Transfer:
    """What each of S sources' adversarial images does to each of T models, on N images.

    Attributes:
        sources: the models that the images were made on.
        models: the models that they were evaluated on, all sources among them.
        correct: bool (T, N), the clean image is classified as its label.
        fooled: bool (S, T, N), the adversarial image is not (or is said to be the target).
        attack: what made the images.
        targeted: whether the attack was targeted.

    >>> found = assay.attacks.transfer_matrix(
    ...     assay.attacks.PGD(eps=0.2), {"this": clf, "again": clf}, x, y, sources=("this",)
    ... )
    >>> found.rate("this", "again").value
    1.0
    """

    sources: tuple[str, ...]
    models: tuple[str, ...]
    correct: Tensor
    fooled: Tensor
    attack: Attack
    targeted: bool

    def rate(self, source: str, model: str) -> Estimate:
        """Share of the images that `model` classifies correctly and that those made on `source`
        fool it on."""
        row, column = self.sources.index(source), self.models.index(model)
        right = self.correct[column]
        fooled = int((self.fooled[row, column] & right).sum())
        return stats.proportion(fooled, int(right.sum()), "correctly classified images")

    @property
    def rates(self) -> tuple[tuple[Estimate, ...], ...]:
        """The whole matrix: a row per source, a column per model."""
        return tuple(
            tuple(self.rate(source, model) for model in self.models) for source in self.sources
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as JSON."""
        return {
            "attack": self.attack.model_dump(mode="json"),
            "targeted": self.targeted,
            "sources": list(self.sources),
            "models": list(self.models),
            "n": self.correct.shape[1],
            "rates": [[rate.to_dict() for rate in row] for row in self.rates],
        }

    def __repr__(self) -> str:
        wide = max(map(len, (*self.sources, *self.models)))
        head = " ".join(f"{name:>{wide}}" for name in self.models)
        rows = [
            f"{source:>{wide}} " + " ".join(f"{rate.value:>{wide}.1%}" for rate in row)
            for source, row in zip(self.sources, self.rates, strict=True)
        ]
        title = f"made on, evaluated on ({self.attack.name})"
        return "\n".join([title, f"{'':>{wide}} {head}", *rows])


def transfer_matrix(
    attack: Attack,
    models: Mapping[str, Oracle[Tensor]],
    x: Tensor,
    y: Tensor,
    *,
    sources: tuple[str, ...] | None = None,
    targets: Tensor | int | None = None,
    seed: int = 0,
    precision: Precision = "float32",
) -> Transfer:
    """Make adversarial images on each source, and evaluate them on every model.

    Every image is attacked, whether its source classifies it correctly or not, and every step is
    made: images that stop at their source's decision boundary rarely cross another's (Liu et al.
    2017, "Delving into transferable adversarial examples"). A rate counts the images that the model
    *evaluated* classifies correctly.

    Args:
        attack: the method; its threat is the same for all.
        models: what is evaluated, by name: classifiers and black boxes.
        x: float32 (N, C, H, W) in [0, 1].
        y: labels int64 (N,), of which all models have the same.
        sources: the models that images are made on; None takes all that grant what it needs.
        targets: a class for every image (or one for all) that is to be said instead.

    Raises:
        AssayError: for a source that is not among the models, no source at all, models that name
            their classes differently, or labels that do not fit.

    >>> models = {"this": clf, "again": clf}
    >>> assay.attacks.transfer_matrix(assay.attacks.PGD(eps=0.2), models, x, y).rates[0][1].value
    1.0
    """
    x = check_images(x).float()
    if sources is None:
        sources = tuple(name for name, oracle in models.items() if _grants(oracle, attack))
    unknown = [name for name in sources if name not in models]
    if unknown or not sources:
        seen = f"not {', '.join(unknown)}" if unknown else f"none grants what {attack.name} needs"
        raise AssayError(f"images are made on one of {', '.join(models) or 'no models'}: {seen}")
    said = torch.stack([_said(oracle, x) for oracle in models.values()])
    _same_classes(models)
    goal = truth = fitting(y, len(x), len(models[sources[0]].classes), "labels")
    if targets is not None:
        goal = torch.as_tensor(targets).cpu().expand(len(x))
    correct = said == truth
    fooled = []
    for name in sources:
        made = run(
            attack,
            models[name],
            x,
            truth,
            targets=targets,
            attack_wrong=True,
            seed=seed,
            precision=precision,
        )
        fooled.append(
            torch.stack(
                [
                    wins(_said(oracle, made.adversarial), goal, targets is not None)
                    for oracle in models.values()
                ]
            )
        )
    return Transfer(
        sources, tuple(models), correct, torch.stack(fooled), attack, targets is not None
    )


def _grants(oracle: Oracle[Tensor], attack: Attack) -> bool:
    order = get_args(Access)
    return order.index(oracle.access) >= order.index(attack.needs)


def _said(oracle: Oracle[Tensor], x: Tensor) -> Tensor:
    """Return the label of every row, int64 (N,) on the CPU; -1 where there is no answer."""
    return torch.cat([labels(oracle.query(part)).cpu() for part in torch.split(x, AT_A_TIME)])


def _same_classes(models: Mapping[str, Oracle[Tensor]]) -> None:
    first, *others = models.items()
    for name, oracle in others:
        if oracle.classes != first[1].classes:
            raise AssayError(
                f"{name} names its classes {', '.join(oracle.classes)[:80]}, but {first[0]} "
                f"{', '.join(first[1].classes)[:80]}: transfer compares models of one task"
            )
