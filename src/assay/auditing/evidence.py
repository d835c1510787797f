"""What the sections of an audit share: the images, one clean pass, one copy of the model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from assay.attacks.base import Attack, Stop
from assay.attacks.result import AttackResult
from assay.auditing.config import AuditConfig
from assay.auditing.watch import Tick
from assay.certify import ibp
from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.fast import Copies
from assay.core.oracle import Oracle, labels
from assay.core.source import Source
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.auditing.checks import Criterion
    from assay.auditing.section import Section


DOUBT = 0.02
"""The lead of a class, over the spread of all logits, below which the original is asked too:
twenty times what the logits of a float32 copy may be off by (`core.fast`)."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model, the images it is audited on, and what it said of them, evaluated once.

    Attributes:
        model: a `Classifier`, or whatever else can be queried.
        x: float32 (N, C, H, W) in [0, 1].
        y: int64 (N,), their labels.
        config: the settings of the audit.
        reference, calibration: images and labels that detectors are fitted and calibrated on.
        masks: bool (N, H, W), where the object of each image is, if that is known.
        tick: told what is being done.
        metadata: what else is known of each image, by the name of its column: text, a number, or
            None where it is not known.
        most: images that a section takes at most (the first ones), where a budget leaves time for
            no more.

    >>> from assay import auditing
    >>> evidence = auditing.Evidence(clf, x, y, auditing.AuditConfig())
    >>> evidence.probabilities.shape
    torch.Size([12, 3])
    """

    model: Oracle[Tensor]
    x: Tensor
    y: Tensor
    config: AuditConfig
    reference: tuple[Tensor, Tensor] | None = None
    calibration: tuple[Tensor, Tensor] | None = None
    masks: Tensor | None = None
    tick: Tick = lambda _: None
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    most: int | None = None

    kind: ClassVar[str] = "images"
    """What `x` is: images, texts (see `auditing.texts`), or examples of which there are only
    predictions (see `auditing.predicted`)."""

    def __post_init__(self) -> None:
        for name, values in self.metadata.items():
            if len(values) != len(self.y):
                raise AssayError(
                    f"metadata {name!r} has {len(values)} values for {len(self.y)} {self.kind}"
                )

    def refuses(self, section: Section) -> str:
        """Return why a section cannot be measured on such evidence; "" where it can."""
        del section
        return ""

    def asked(self, criterion: Criterion) -> Criterion:
        """Return a criterion as it is put to such evidence."""
        return criterion.of(self.kind)

    @cached_property
    def embedding(self) -> Embedding:
        """Logits, features and whatever else the detectors read of `x`: the one clean pass.

        Raises:
            AssayError: the model can only be queried.
        """
        return self.embed(self.x, self.y)

    @cached_property
    def answer(self) -> Tensor:
        """What the model says of `x`: logits or scores (N, K), or labels (N,)."""
        classifier = isinstance(self.model, Classifier)
        return self.embedding.logits if classifier else self.model.query(self.x)

    @property
    def classes(self) -> tuple[str, ...]:
        self.answer  # noqa: B018 - a model without named classes knows them once it has answered
        return self.model.classes

    @cached_property
    def predictions(self) -> Tensor:
        """The predicted class of every image: int64 (N,); -1 where the model has no answer."""
        return labels(self.answer).cpu()

    @property
    def correct(self) -> Tensor:
        """Which images are classified correctly: bool (N,)."""
        return self.predictions == self.y

    @property
    def probabilities(self) -> Tensor:
        """The model's confidence in each class: float64 (N, K), rows that sum to 1.

        Raises:
            AssayError: it answers with labels only.
        """
        if self.answer.ndim == 1:
            raise AssayError("the model answers with labels only, which say nothing of confidence")
        if self.model.access != "scores":
            return self.answer.cpu().softmax(1).double()
        scores = self.answer.cpu().double()
        return scores / scores.sum(1, keepdim=True)  # services round them

    def first(self, most: int) -> int:
        """Return how many images a section takes that would take so many: what there are, and what
        a budget leaves time for."""
        return min(most, len(self.y), len(self.y) if self.most is None else self.most)

    def within(self, most: int | None, *, short: bool) -> Self:
        """Return the same evidence for a section with less time; nothing is evaluated again.

        Args:
            most: images that it takes at most; None: as many as it would.
            short: whether curves have two budgets, eps and the furthest from it, and no more.
        """
        self.copies, self._fooled, self._certified  # noqa: B018 - made once, for all
        other = copy.copy(self)
        config = self.config
        if short:
            ends = (config.curve[0], config.curve[-1])
            other_end = max(ends, key=lambda eps: (abs(eps - config.eps), eps))
            config = config.model_copy(update={"budgets": (other_end,)})
        vars(other).update(most=most, config=config)
        return other

    @property
    def attacked(self) -> Tensor:
        """The rows that are attacked: int64, the first `config.attacked`."""
        return torch.arange(self.first(self.config.attacked))

    @property
    def classifier(self) -> Classifier:
        """The model itself, for sections that look inside.

        Raises:
            AssayError: it can only be queried.
        """
        if not isinstance(self.model, Classifier):
            raise AssayError(
                f"it looks inside the model, but this one answers with {self.model.access} only"
            )
        return self.model

    def embed(self, data: Tensor | Source, y: Tensor | None = None) -> Embedding:
        """Return what the detectors read of other images, in one pass."""
        return self.classifier.embed(data, y, readers=self.config.detectors)

    @cached_property
    def copies(self) -> Copies | None:
        """The fast copies of the model, made once for everything that screens or climbs."""
        return Copies(self.model, self.x) if isinstance(self.model, Classifier) else None

    def known(self, rows: Tensor) -> dict[str, Any]:
        """Return what `attacks.run` need not find out again about the images `rows`."""
        return {"copies": self.copies, "clean": self.predictions[rows]}

    def run(
        self, attack: Attack, rows: Tensor, stop: Stop, *, ids: Tensor | None = None
    ) -> AttackResult:
        """Attack the images `rows`, with the audit's seed and precision; draws go by their places
        in `rows`, or by `ids`."""
        found = attack(
            self.model,
            self.x[rows],
            self.y[rows],
            seed=self.config.seed,
            stop=stop,
            precision=self.config.precision,
            ids=ids,
            **self.known(rows),
        )
        if stop == "fooled" and ids is None and torch.equal(rows, self.attacked):
            self._fooled[self._run_of(attack)] = found.fooled.cpu()
        return found

    def fooled(self, attack: Attack, *, run: bool = True) -> Tensor | None:
        """Return which of the attacked images an attack fools, bool (n,), as `run` has found.

        Args:
            run: run it if it was not run yet; False: then None.
        """
        if self._run_of(attack) not in self._fooled and run:
            self.run(attack, self.attacked, "fooled")
        return self._fooled.get(self._run_of(attack))

    @cached_property
    def _fooled(self) -> dict[tuple[str, int], Tensor]:
        """What attacks on the attacked images came to, by attack and number of images."""
        return {}

    def certified(self, rows: Tensor) -> Tensor | None:
        """Return which of the attacked images interval bounds certify at the audit's L∞ eps: bool
        (n,), of `rows`, bool (n,), and of what was asked about before; the others count as not
        certified. None for another norm, and where no bound is known of the model.
        """
        if self.config.norm != "linf" or not isinstance(self.model, Classifier):
            return None
        asked, found = (known[: len(rows)] for known in self._certified)
        new = rows & ~asked
        if bool(new.any()):
            x, y = (values[: len(rows)][new] for values in (self.x, self.y))
            try:
                found[new] = ibp(self.model, x, y, eps=self.config.eps).certified
            except AssayError:
                return None  # a layer without a bound
            asked |= new
        return found

    @cached_property
    def _certified(self) -> tuple[Tensor, Tensor]:
        """Which of all images were asked about, and which of these are certified."""
        none = torch.zeros(len(self.y), dtype=torch.bool)
        return none, none.clone()

    def _run_of(self, attack: Attack) -> tuple[str, int]:
        return attack.model_dump_json(), len(self.attacked)

    def labels_of(self, x: Tensor) -> Tensor:
        """Return what the model says of other images (N, C, H, W): int64 (N,), -1 for no answer.

        The fast copy says it; where its first two classes are so close that rounding might turn
        them around, the original does.
        """
        copy, report = (None, None) if self.copies is None else self.copies.of("float32")
        if copy is None or report is None or not report.used:
            return labels(self.model.query(x)).cpu()
        answer = copy.query(x).cpu()
        said = labels(answer)
        first, second = answer.topk(2, dim=1).values.unbind(1)
        spread = torch.maximum(answer.std(), self.answer.cpu().float().std())
        close = ~(first - second > DOUBT * spread)  # also where there is no answer
        if bool(close.any()):
            said[close] = labels(self.model.query(x[close])).cpu()
        return said
