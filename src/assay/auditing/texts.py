"""An audit of texts: what its sections share where they look at sentences in place of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.kinds import BUILT_IN, shown
from assay.auditing.section import Section
from assay.auditing.watch import Tick
from assay.core.embedding import Embedding
from assay.core.random import Stream
from assay.core.texts import TextClassifier
from assay.core.tokens import check_texts
from assay.data.loadtexts import load_texts
from assay.data.outliers import KINDS
from assay.data.text_outliers import GERMAN, KITCHEN, TEXT_KINDS, phrases, shuffled
from assay.data.textfiles import plain_texts
from assay.errors import AssayError, expanded

MIN_TEXTS = 20

EXPLAINED = "assay explain says which words decide, and whether to believe it"
INSTEAD = {
    "robustness": "assay attack changes their words",
    "saliency": EXPLAINED,
    "faithfulness": EXPLAINED,
}
"""What does for texts what a section does for images."""

Labelled = tuple[Sequence[str], Tensor]
"""Texts, and their labels int64 (N,)."""


@dataclass(frozen=True, eq=False)
class TextEvidence(Evidence):
    """A text classifier, the texts it is audited on, and what it said of them, evaluated once.

    Sections that look at pixels are not run on it; the others take it as they take `Evidence`.
    """

    kind: ClassVar[str] = "texts"

    def refuses(self, section: Section) -> str:
        if section.texts:
            return ""
        instead = INSTEAD.get(section.name, "")
        return "it looks at pixels, and this model reads texts" + (instead and f"; {instead}")

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
    metadata: Mapping[str, Sequence[Any]],
    config: AuditConfig,
    tick: Tick,
) -> TextEvidence:
    """Return what is audited, checked, with the one clean pass over it; outliers are the kinds of
    texts that are made, unless the config names others or files.

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
    if config.outliers == BUILT_IN:
        config = config.model_copy(update={"outliers": TEXT_KINDS})
    evidence = TextEvidence(
        model=model,  # type: ignore[arg-type]
        x=texts,  # type: ignore[arg-type]
        y=labels,
        config=config,
        reference=_checked(reference),
        calibration=_checked(calibration),
        tick=tick,
        metadata=metadata,
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


def text_outliers(evidence: Evidence) -> dict[str, list[str] | AssayError]:
    """Return texts that are none of the test set's, by kind, at most as many as there are in it;
    or why there are none."""
    clf, seed = text_model(evidence), evidence.config.seed
    found: dict[str, list[str] | AssayError] = {}
    for name in evidence.config.outliers:
        draw = Stream(seed).child("audit", "text outliers", name)
        try:
            found[shown(name)] = outlying(name, clf, list(evidence.x), draw)
        except AssayError as error:
            found[shown(name)] = error
    return found


def outlying(name: str, clf: TextClassifier, inside: list[str], draw: Stream) -> list[str]:
    """Return the outliers of a name: a kind, a file, or a set of texts, without those of `inside`.

    Raises:
        AssayError: they cannot be read, are of images, or are all inside.
    """
    count = len(inside)
    if name == "other-domain":
        return phrases(KITCHEN, count, draw)
    if name == "other-language":
        return phrases(GERMAN, count, draw)
    if name == "shuffled-words":
        return shuffled(inside, draw)
    if name == "random-tokens":
        return _random_tokens(clf, inside, draw)
    if name in KINDS:
        raise AssayError(f"{name} is a kind of image; of texts there are {', '.join(TEXT_KINDS)}")
    path = expanded(name)
    read = plain_texts(path) if path.is_file() else list(load_texts(name, split="all").texts)
    known = set(inside)
    own = [text for text in dict.fromkeys(read) if text not in known]
    if not own:
        raise AssayError(f"all {len(read):,} texts of {name} are test texts too: give other ones")
    return [own[place] for place in draw.numpy().permutation(len(own))[:count].tolist()]


def _random_tokens(clf: TextClassifier, inside: list[str], draw: Stream) -> list[str]:
    """Return texts of random tokens, as many in each as a text of `inside` has."""
    tokenizer: Any = clf.tokenizer
    special = set(tokenizer.all_special_ids)
    known = [token for token in range(len(tokenizer)) if token not in special]
    generator = draw.numpy()
    return [
        tokenizer.decode([known[k] for k in generator.integers(len(known), size=max(1, n - 2))])
        for n in clf.tokens(inside).lengths
    ]


def text_model(evidence: Evidence) -> TextClassifier:
    """Return the model of an audit of texts."""
    return cast(TextClassifier, evidence.model)


def _checked(given: Labelled | None) -> Any:
    return None if given is None else (check_texts(given[0]), torch.as_tensor(given[1]).long())
