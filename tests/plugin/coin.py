"""A package outside of assay: an attack, a detector, a section and a study, as CONTRIBUTING.md
says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from assay.attacks import Attack, Iterate
from assay.auditing import Criterion, Measured, Section, Value, Words
from assay.config import Number
from assay.core.embedding import Embedding
from assay.core.oracle import Access, Loss
from assay.core.random import Rows, Stream
from assay.core.threats import NormBall
from assay.ood import Detector
from assay.report.result import Cell, Table
from assay.report.schema import Chapter
from assay.runs.results import Results
from assay.runs.trial import Outcome, Trial
from assay.stats import Effect, proportion
from assay.studies.base import Findings, Study

if TYPE_CHECKING:
    from assay.auditing import AuditConfig, Evidence


class Hiss(Attack):
    """One random point of the Linf ball."""

    needs: ClassVar[Access] = "labels"
    name: Literal["hiss"] = "hiss"
    norm: Literal["linf"] = "linf"
    eps: Number = 8 / 255

    @property
    def threat(self) -> NormBall:
        return NormBall(norm=self.norm, eps=self.eps)

    def search(
        self,
        model: Any,
        x: Tensor,
        y: Tensor,
        *,
        threat: NormBall,
        loss: Loss,
        targeted: bool,
        rng: Rows,
    ) -> Any:
        del model, y, loss, targeted
        yield Iterate(threat.random_start(x, rng), spent=0)


class Surprise(Detector):
    """The entropy of the softmax."""

    name: Literal["surprise"] = "surprise"

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        logs = e.logits.double().log_softmax(1)
        return -(logs.exp() * logs).sum(1)


class Doubt(Section):
    """How often the model is less than sure of what it says."""

    needs: ClassVar[Access] = "scores"
    name: Literal["doubt"] = "doubt"
    sure: Number = 0.9
    """The confidence from which it is sure."""
    most: Number = 0.5
    """DBT-001: the greatest share of images that it may doubt."""

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        del config
        words = Words("sure as a rule", "often in doubt", "it is sure as a rule", "doubt")
        asked = ("DBT-001", "doubt", "Is it sure as a rule?", self.most, "at most")
        return (Criterion(*asked, advice="train it for longer", words=words),)

    def measure(self, evidence: Evidence) -> Measured:
        doubts = evidence.probabilities.amax(1) < self.sure
        share = proportion(int(doubts.sum()), len(doubts), "images")
        row = (Cell(text="doubted"), Cell.model_validate(share))
        table = Table(title="Doubt", columns=("images", "share"), rows=(row,))
        found = f"It doubts {len(doubts[doubts])} of {len(doubts)} images"
        chapter = Chapter(title=found, lead="Doubt is a virtue.", tables=(table,), name="Doubt")
        return Measured({self.name: chapter}, {"DBT-001": Value(share)}, {"doubts": doubts.numpy()})


class Coin(Study):
    """Tosses a coin."""

    NAME: ClassVar[str] = "coin"
    QUESTION: ClassVar[str] = "Is the coin fair?"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {"tosses": 1000}}
    tosses: int = 1000
    """How often."""

    def plan(self, done: Results) -> Sequence[Trial]:
        del done
        config = {"tosses": self.tosses}
        return [Trial(task="coin:toss", config=config, seed=seed) for seed in range(self.seeds)]

    def findings(self, done: Results) -> Findings:
        shares = [done.need(trial).metrics["heads"] for trial in self.plan(done)]
        text = "Heads come up more often than tails."
        return Findings([Effect("coin.heads", text, 0.1, [share - 0.5 for share in shares])])


def toss(trial: Trial, work: object) -> Outcome:
    """The task of a trial: a function of it alone."""
    del work
    rng = Stream(trial.seed).child("coin").numpy()
    return Outcome({"heads": float(rng.integers(0, 2, trial.config["tosses"]).mean())})
