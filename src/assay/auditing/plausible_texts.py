"""Is a model of texts given what it was trained on? The reasons of `plausible`, by the same codes,
and two that texts alone have."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.auditing.plausible import (
    FEW,
    REPEATED,
    asked_again,
    class_order,
    looked_for,
    near_chance,
    other_preprocessing,
    repeated,
)
from assay.auditing.texts import TextEvidence, text_model
from assay.core.texts import TextClassifier
from assay.data.dataset import drawn
from assay.report.schema import Flag

CUT = 0.05
"""The share of texts that are cut above which it is said."""
KNOWN = 0.05
"""The share of texts that are reference texts too above which it is said."""


def _without_html(text: str) -> str:
    return " ".join(re.sub(r"</?[a-zA-Z][^<>]{0,40}>", " ", html.unescape(text)).split())


FORMS: dict[str, Callable[[str], str]] = {
    "small letters alone": str.lower,
    "a capital at the beginning": lambda text: text[:1].upper() + text[1:],
    "the marks of HTML taken out": _without_html,
}
"""What texts that a model was trained on may have looked like, by what is done to make them so."""


def flags_of(evidence: TextEvidence) -> tuple[Flag, ...]:
    """Return the reasons to think that the model is not given what it was trained on: those that
    are up, and the others."""
    reference: Any = evidence.reference
    return looked_at(
        text_model(evidence),
        list(evidence.x),
        evidence.y,
        evidence.predictions,
        evidence.classes,
        () if reference is None else reference[0],
    )


def looked_at(
    clf: TextClassifier,
    x: Sequence[str],
    y: Tensor,
    predictions: Tensor,
    classes: Sequence[str],
    reference: Sequence[str] = (),
) -> tuple[Flag, ...]:
    """Return the same of a model that is not audited, which is queried for a few texts in other
    forms, where its tokenizer tells them apart.

    Args:
        x: the texts.
        y, predictions: int64 (N,), the labels and what the model says.
        reference: texts that it may have been trained on.
    """
    said, meant = predictions.cpu().numpy(), y.cpu().numpy()
    right = int((said == meant).sum())
    looks: dict[str, Callable[[], Flag]] = {
        "PRE-001": lambda: near_chance(right, len(meant), len(classes), of="texts"),
        "PRE-004": lambda: other_preprocessing(*_tried(clf, x, y, said), of="texts"),
        "PRE-005": lambda: class_order(said, meant, classes, of="texts"),
    }
    forms = [_plain(text) for text in x]
    if (copies := len(forms) - len(set(forms))) > REPEATED * len(forms):
        looks["PRE-007"] = lambda: repeated(copies, len(forms), of="texts")
    known = {_plain(text) for text in reference}
    if (again := sum(form in known for form in forms)) > KNOWN * len(forms):
        looks["PRE-010"] = lambda: overlapping(again, len(forms))
    cut = sum("cut" in done for done in clf.tokens(list(x)).treated)
    if cut > CUT * len(forms):
        looks["PRE-009"] = lambda: shortened(cut, len(forms), clf.max_length)
    found = (asked_again(clf, list(x)), *(looked_for(code, looks[code]) for code in looks))
    return tuple(sorted(found, key=lambda flag: flag.code))


# -- judging ---------------------------------------------------------------------------------


def overlapping(again: int, n: int) -> Flag:
    """PRE-010: texts that are judged by are also in the reference data, which models learn from.

    Args:
        again: texts, of `n`, that are the same as one of the reference data.
    """
    return Flag(
        code="PRE-010",
        title="Texts are in the reference data too",
        raised=True,
        detail=f"{again} of {n} texts are reference texts too, but for spaces and capitals: if the "
        "model was trained on those, accuracy is of what it has seen; leave them out.",
    )


def shortened(cut: int, n: int, most: int) -> Flag:
    """PRE-009: the model does not read the whole of many texts.

    Args:
        cut: texts, of `n`, that have more than `most` tokens.
    """
    return Flag(
        code="PRE-009",
        title="Texts are longer than the model reads",
        raised=True,
        detail=f"{cut} of {n} texts are cut after {most} tokens: what is said of them is of the "
        "part that is read; divide them, or take a model that reads more.",
    )


# -- measuring -------------------------------------------------------------------------------


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _tried(
    clf: TextClassifier, x: Sequence[str], y: Tensor, said: NDArray[Any]
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.bool_]]]:
    """Return which of a few texts are right as they are given, by the predictions `said`, and in
    each other form that the tokenizer tells from it."""
    rows = drawn(torch.arange(len(x)))[:FEW]
    some, known = [x[k] for k in rows.tolist()], y[rows]
    ids, treated = clf.tokens(some).ids, clf.treated.copy()
    others = {}
    for name, form in FORMS.items():
        made = [form(text) for text in some]
        if clf.tokens(made).ids != ids:
            others[name] = (clf.predict(made) == known).numpy()
    clf.treated = treated  # of texts as they were given
    return said[rows.numpy()] == known.numpy(), others
