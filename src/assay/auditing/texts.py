"""An audit of texts: what its sections share where they look at sentences in place of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence, Tick
from assay.auditing.section import Section
from assay.core.embedding import Embedding
from assay.core.random import Stream
from assay.core.texts import TextClassifier
from assay.core.tokens import check_texts
from assay.core.words import word_spans
from assay.errors import AssayError

MIN_TEXTS = 20

Labelled = tuple[Sequence[str], Tensor]
"""Texts, and their labels int64 (N,)."""


@dataclass(frozen=True, eq=False)
class TextEvidence(Evidence):
    """A text classifier, the texts it is audited on, and what it said of them, evaluated once.

    Sections that look at pixels are not run on it; the others take it as they take `Evidence`.
    """

    kind: ClassVar[str] = "texts"

    def refuses(self, section: Section) -> str:
        return "" if section.texts else "it looks at pixels, and this model reads texts"

    def embed(self, data: Any, y: Tensor | None = None) -> Embedding:
        return text_model(self).embed(data, y, readers=self.config.detectors)

    @property
    def answer(self) -> Tensor:
        return self.embedding.logits


def text_evidence(
    model: TextClassifier,
    x: Sequence[str],
    y: Any,
    reference: Labelled | None,
    calibration: Labelled | None,
    config: AuditConfig,
    tick: Tick,
) -> TextEvidence:
    """Return what is audited, checked, with the one clean pass over it.

    Raises:
        AssayError: for what is no list of texts, too few of them, or labels that do not fit.
    """
    texts, labels = check_texts(x), torch.as_tensor(y).cpu()
    if labels.ndim != 1 or len(labels) != len(texts):
        raise AssayError(f"y must hold one label per text ({len(texts)},), got {labels.shape}")
    if len(texts) < MIN_TEXTS:
        raise AssayError(f"an audit needs at least {MIN_TEXTS} texts, got {len(texts)}")
    if labels.is_floating_point() or int(labels.min()) < 0:
        raise AssayError("labels must be class numbers (int64), 0 or more")
    labels = labels.long()
    evidence = TextEvidence(
        model=model,  # type: ignore[arg-type]
        x=texts,  # type: ignore[arg-type]
        y=labels,
        config=config,
        reference=_checked(reference),
        calibration=_checked(calibration),
        tick=tick,
    )
    tick(f"evaluating the model on {len(texts):,} texts")
    silent = int((evidence.predictions < 0).sum())
    classes = evidence.classes
    if int(labels.max()) >= len(classes):
        raise AssayError(
            f"the labels go up to {int(labels.max())}, but the model has {len(classes)} outputs "
            f"(0 to {len(classes) - 1}): these data do not fit this model"
        )
    if silent:
        raise AssayError(f"the model returns NaN or infinity for {silent} of {len(texts)} texts")
    return evidence


def text_outliers(evidence: Evidence) -> dict[str, list[str]]:
    """Return texts that are none of the test set's, as many as there are in it: the words of each
    in a random order, and random tokens, as many as it has."""
    clf, seed = text_model(evidence), evidence.config.seed
    texts: list[str] = list(evidence.x)
    draw = Stream(seed).child("audit", "text outliers").numpy()
    shuffled = []
    for text in texts:
        words = [text[start:end] for start, end in word_spans(text)]
        shuffled.append(" ".join(words[place] for place in draw.permutation(len(words))))
    tokens = clf.tokens(texts)
    tokenizer: Any = clf.tokenizer
    special = set(tokenizer.all_special_ids)
    known = [token for token in range(len(tokenizer)) if token not in special]
    random = [
        tokenizer.decode([known[k] for k in draw.integers(len(known), size=max(1, count - 2))])
        for count in tokens.lengths
    ]
    return {"shuffled words": shuffled, "random tokens": random}


def text_model(evidence: Evidence) -> TextClassifier:
    """Return the model of an audit of texts."""
    return cast(TextClassifier, evidence.model)


def _checked(given: Labelled | None) -> Any:
    return None if given is None else (check_texts(given[0]), torch.as_tensor(given[1]).long())
