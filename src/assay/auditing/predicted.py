"""An audit of saved predictions: accuracy, calibration and slices, without the model."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

import torch
from torch import Tensor

from assay.auditing.checks import Criterion
from assay.auditing.conduct import conducted
from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.policy import Policy
from assay.auditing.result import Audit
from assay.auditing.section import Section
from assay.auditing.watch import Tick, Watch
from assay.core.oracle import Access
from assay.data.predictions import Predictions
from assay.errors import AssayError

MIN_EXAMPLES = 20
WITHOUT_MODEL = "it evaluates the model, and there are only saved predictions"


class Recorded:
    """The oracle that gave the predictions, which answers nothing more."""

    queries = 0

    def __init__(self, said: Predictions) -> None:
        self.classes = said.classes
        self.access: Access = said.access
        self.fingerprint = said.mark

    def query(self, x: Tensor) -> Tensor:
        """Refuse: the model is not there."""
        del x
        raise AssayError(WITHOUT_MODEL)


@dataclass(frozen=True, eq=False)
class PredictedEvidence(Evidence):
    """What a model said of examples, and neither of them."""

    said: Tensor | None = None
    """The predictions: labels (N,), or scores or logits (N, K)."""

    kind: ClassVar[str] = "examples"

    def refuses(self, section: Section) -> str:
        return "" if section.saved else WITHOUT_MODEL

    def asked(self, criterion: Criterion) -> Criterion:
        asked = super().asked(criterion)
        return replace(asked, more="more rows in the file") if asked.more else asked

    @property
    def answer(self) -> Tensor:
        assert self.said is not None
        return self.said


def audit_predictions(
    said: Predictions,
    *,
    config: AuditConfig | None = None,
    policy: Policy | None = None,
    title: str = "",
    command: str = "",
    progress: Tick | None = None,
) -> Audit:
    """Return what saved predictions are enough for; every other section is not run, and says why.

    Args:
        said: as `assay.data.load_predictions` reads them, at least 20.
        config, policy, title, command, progress: as for `assay.audit`.

    Raises:
        AssayError: there are too few of them.

    >>> from assay import auditing
    >>> from pathlib import Path
    >>> rows = "label,p_cat,p_dog\\n" + "cat,0.9,0.1\\ndog,0.2,0.8\\n" * 10
    >>> _ = Path("said.csv").write_text(rows)
    >>> said = assay.data.load_predictions("said.csv")
    >>> config = auditing.AuditConfig(sections=("accuracy",))
    >>> [check.verdict for check in auditing.audit_predictions(said, config=config).checks]
    ['undecided']
    """
    started, clock = datetime.now().astimezone(), time.perf_counter()
    if len(said) < MIN_EXAMPLES:
        raise AssayError(f"an audit needs at least {MIN_EXAMPLES} predictions, got {len(said)}")
    watch = Watch(progress)
    evidence = PredictedEvidence(
        model=Recorded(said),
        x=torch.empty(len(said), 0),
        y=said.labels,
        config=config if config is not None else AuditConfig(),
        metadata=said.metadata,
        said=said.answer,
        tick=watch.tick,
    )
    return conducted(
        evidence,
        watch,
        given=len(said),
        policy=policy,
        title=title or f"{said.name}, saved predictions",
        command=command or "assay.auditing.audit_predictions(said), called from Python",
        data={said.name: said.fingerprint},
        inputs={"predictions": len(said), "access": said.access, "columns": list(said.metadata)},
        started=started,
        clock=clock,
    )
