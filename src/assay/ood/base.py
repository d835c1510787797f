"""What a detector is: a frozen config; what it has learned is an object of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.config import Config
from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood.fitted import FittedDetector
from assay.ood.needs import Need, check_numbers, required

LearnsFrom = Literal["training", "held-out", "both"]
"""What a detector learns from: the training data; data of the same kind that the model was not
trained on; first the one, then the other."""


class Detector(Config):
    """A method that gives every input an OOD score: how unlike the training data it is.

    To add one: derive from this, tag it with `name: Literal["..."] = "..."`, say what it `needs`,
    and write `ood_score`; also `learn`, if something is to be learned from the training data,
    `caveats`, if that may turn out badly, and `layers_of`, if it reads layers besides the last one.

    >>> detector = assay.ood.Energy()
    >>> train, held = clf.embed(x[:2], readers=[detector]), clf.embed(x[2:], readers=[detector])
    >>> fitted = detector.fit(train, calibrate=held, tpr=0.8)
    >>> fitted.is_outlier(held).tolist().count(True)
    1
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})
    """What it reads of an embedding; checked before it is fitted and before it scores."""
    learns_from: ClassVar[LearnsFrom] = "training"
    """Whether `learn` is given the training data, or data of the same kind that the model was not
    trained on: half of `calibrate`, the threshold then being set by the other half. "both":
    `learn` is given the training data, and then `learn_more` those rows."""
    code: ClassVar[str] = ""
    """The code of its check in an audit; empty: OOD- and its name. It never changes."""

    name: str
    """The method's name in configs."""

    def reads(self) -> frozenset[Need]:
        """Return what it needs with these settings: `needs`, unless that depends on them."""
        return self.needs

    def layers_of(self, model: nn.Module) -> Sequence[str]:
        """Return the layers, with their statistics, that it reads of a model: "stages.2:std".

        It is called before the pass (`Classifier.embed(..., readers=[detector])`), so that one pass
        serves a list of detectors. An `AssayError` says that the model has no such layers.
        """
        del model
        return ()

    def fit(
        self,
        e: Embedding,
        y: Tensor | None = None,
        *,
        calibrate: Embedding | None = None,
        tpr: float = 0.95,
    ) -> FittedDetector:
        """Learn what the training data looks like, and a threshold if `calibrate` is given.

        Args:
            e: the training data.
            y: its labels int64 (N,); None takes those of `e`, if it has any.
            calibrate: data of the same kind that was not trained on, to set the threshold by.
            tpr: the fraction of such data that is to be let through.

        Raises:
            AssayError: for an embedding that lacks what the detector needs, labels that do not
                fit it, or calibration on what was fitted on.
        """
        e = required(self, e)
        check_numbers(self, e)
        labels = e.y if y is None else y
        if labels is not None and len(labels) != len(e):
            raise AssayError(f"there are {len(labels)} labels for {len(e)} rows to fit on")
        if calibrate is not None and _same(e, calibrate):
            raise AssayError(
                "the threshold cannot be calibrated on the data that was fitted on: a model knows "
                "that too well; give calibrate= other data of the same kind, a validation split"
            )
        held = e
        if self.learns_from != "training":
            if calibrate is None:
                raise AssayError(
                    f"{self.name} learns from data that the model was not trained on: give "
                    "calibrate=, a validation split, half of which it learns from"
                )
            held, calibrate = calibrate.halves()
            held = required(self, held)
            check_numbers(self, held)
        if self.learns_from == "held-out":
            e, labels = held, held.y
        with torch.no_grad():
            state = dict(self.learn(e, labels))
            if self.learns_from == "both":
                state = dict(self.learn_more(held, state))
            notes = tuple(self.caveats(e, state))
            if self.learns_from == "both":
                notes += tuple(self.more_caveats(held, state))
        fitted = FittedDetector(
            self, state, classes=e.logits.shape[1], layers=tuple(e.layers), notes=notes
        )
        return fitted if calibrate is None else fitted.calibrated(calibrate, tpr)

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        """Return what is to be kept of the training data, by name; nothing unless overridden.

        It runs without gradients; `torch.enable_grad()` brings them back.
        """
        del e, y
        return {}

    def learn_more(self, held: Embedding, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return all that is to be kept, where it `learns_from` both: `state` is what `learn`
        returned, `held` data that the model was not trained on."""
        del held
        return state

    def caveats(self, e: Embedding, state: Mapping[str, Tensor]) -> Sequence[str]:
        """Return what whoever reads its scores must know of what it learned, a sentence each.

        `e` is what it learned from, `state` what it keeps of that.
        """
        del e, state
        return ()

    def more_caveats(self, held: Embedding, state: Mapping[str, Tensor]) -> Sequence[str]:
        """Return the same of `held`, where it `learns_from` both."""
        del held, state
        return ()

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        """Return a score per row, float64 (N,): higher is more unlike the training data.

        `state` is what `learn` returned. The score of a row must not depend on the other rows. It
        runs without gradients; `torch.enable_grad()` brings them back.
        """
        raise NotImplementedError


def _same(a: Embedding, b: Embedding) -> bool:
    """Whether two embeddings are of the same rows: one object, one source, or equal logits, unless
    the model says the same of every row."""
    if a is b:
        return True
    if len(a) != len(b):
        return False
    if torch.equal(a.logits, b.logits) and bool((a.logits != a.logits[0]).any()):
        return True
    return (
        a.source is not None
        and b.source is not None
        and (a.source is b.source or a.source.fingerprint == b.source.fingerprint)
    )
