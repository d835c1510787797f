"""The studies: experiments as code that answers a question. Imports nothing until one is loaded."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from assay.errors import unknown

if TYPE_CHECKING:
    from assay.studies.base import Study

BUILT_IN = {
    "gradients": (
        "assay.studies.gradients:Gradients",
        "Do gradients vanish in deep MLPs, and with which activations?",
    ),
    "regularization": (
        "assay.studies.regularization:Regularization",
        "What regularizes an over-sized MLP best?",
    ),
    "attacks": (
        "assay.studies.attacks:Attacks",
        "How easily is a trained CNN fooled, and by which attack?",
    ),
    "attention": (
        "assay.studies.attention:Attention",
        "Where does a trained CNN look, and where once it is attacked?",
    ),
    "ood": (
        "assay.studies.ood:OOD",
        "Does a classifier know what it does not know?",
    ),
    "hardening": (
        "assay.studies.hardening:Hardening",
        "What does adversarial training buy, and what does it cost?",
    ),
    "skip": (
        "assay.studies.skip:Skip",
        "Do skip connections undo the degradation of deep plain CNNs?",
    ),
    "sentiment": (
        "assay.studies.sentiment:Sentiment",
        "How much fine-tuning does a sentence classifier need?",
    ),
    "words": (
        "assay.studies.words:WordStudy",
        "How easily is a text classifier fooled, by which attack?",
    ),
}
GROUP = "assay.studies"


def names() -> list[str]:
    """Return the names of all studies, ours and those of installed packages.

    >>> "skip" in assay.studies.names()
    True
    """
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def questions() -> dict[str, str]:
    """Return each study's name and question; only out-of-tree ones are imported for it.

    >>> assay.studies.questions()["skip"]
    'Do skip connections undo the degradation of deep plain CNNs?'
    """
    return {
        name: BUILT_IN[name][1] if name in BUILT_IN else load(name).QUESTION for name in names()
    }


def load(name: str) -> type[Study]:
    """Return the class of a study.

    Raises:
        AssayError: for a name that is not there, and gives the nearest one; for an entry point that
            does not lead to a study.

    >>> assay.studies.load("skip").__name__
    'Skip'
    """
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name][0].split(":")
        return cast("type[Study]", getattr(importlib.import_module(module), attribute))
    for point in entry_points(group=GROUP):
        if point.name == name:
            from assay.core.registry import loaded
            from assay.studies.base import Study

            return loaded(point, Study)  # type: ignore[type-abstract]
    raise unknown("study", name, names())
