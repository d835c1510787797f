"""A detector with what it has learned: its scores, its threshold, and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from assay.core.embedding import Embedding
from assay.disk import write_atomic
from assay.errors import AssayError, unknown
from assay.ood.needs import required
from assay.stats import Estimate

if TYPE_CHECKING:
    from assay.ood.base import Detector

FORMAT = 1


@dataclass(frozen=True)
class FittedDetector:
    """A detector with what it has learned.

    Attributes:
        detector: its config.
        state: what it has learned, by name; empty for one that reads nothing but the logits.
        classes: number of the model's outputs.
        cut: the calibrated threshold, or None.
        tpr: the fraction of inliers that the threshold is meant to let through, or None.
        calibrated_on: number of rows the threshold was set by.
        layers: the layers it was fitted on, and reads when it scores.
        notes: what to know of what it learned, a sentence each.
        cut_between: the 95 % interval of the threshold: between which of the calibrating scores
            the quantile of all inliers lies; an end is infinite where they are too few to say.
        about: what whoever keeps it noted, by name, such as the model it was fitted on.

    >>> fitted = assay.ood.MaxLogit().fit(clf.embed(x))
    >>> fitted.save("max-logit.safetensors")
    >>> loaded = assay.ood.FittedDetector.load("max-logit.safetensors")
    >>> loaded.score(clf.embed(x, readers=[loaded])).shape
    torch.Size([12])
    """

    detector: Detector
    state: Mapping[str, Tensor]
    classes: int
    cut: float | None = None
    tpr: float | None = None
    calibrated_on: int = 0
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cut_between: tuple[float, float] | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def layers_of(self, model: nn.Module) -> Sequence[str]:
        """Return the layers that it reads, whatever the model: those it was fitted on."""
        del model
        return self.layers

    def score(self, e: Embedding) -> Tensor:
        """Return the OOD scores float64 (N,): higher is more unlike the training data.

        Raises:
            AssayError: for an embedding that lacks what the detector needs, that comes from a
                model with other outputs, or that gives NaN.
        """
        e = required(self.detector, e, self.layers)
        if e.logits.shape[1] != self.classes:
            raise AssayError(
                f"the detector was fitted on a model with {self.classes} outputs, and these rows "
                f"come from one with {e.logits.shape[1]}"
            )
        with torch.no_grad():
            scores = self.detector.ood_score(e, self.state)
        bad = int(scores.isnan().sum())
        if bad:
            first = int(scores.isnan().int().argmax())
            raise AssayError(
                f"{self.detector.name} scores {bad} of {len(e)} rows as NaN, the first is row "
                f"{first}: look at what the model answers there"
            )
        return scores

    @property
    def threshold(self) -> float:
        """The score above which a row counts as an outlier.

        Raises:
            AssayError: if it was not calibrated.
        """
        if self.cut is None:
            raise AssayError(
                f"this {self.detector.name} has no threshold: fit it with calibrate=, data that "
                "it was not fitted on"
            )
        return self.cut

    @property
    def lets_through(self) -> Estimate:
        """The share of fresh inliers that the threshold lets through, which is not quite `tpr`: of
        n calibrating rows it is the k-th smallest score, and the share that lies below that is
        distributed as Beta(k, n + 1 - k), whatever the scores are (Vovk 2012, "Conditional validity
        of inductive conformal predictors").

        Raises:
            AssayError: if it was not calibrated.
        """
        from scipy.stats import beta  # which takes a third as long to load as torch

        if self.tpr is None:
            _ = self.threshold
            raise AssayError(f"this {self.detector.name} has a threshold, but not what it is for")
        n = self.calibrated_on
        share = beta(place := _place(self.tpr, n), n + 1 - place)
        low, high = float(share.ppf(0.025)), float(share.ppf(0.975))
        return Estimate(place / (n + 1), low, high, n, "calibrating rows")

    def is_outlier(self, e: Embedding) -> Tensor:
        """Return which rows score above the threshold: bool (N,)."""
        return self.score(e) > self.threshold

    def calibrated(self, e: Embedding, tpr: float = 0.95) -> FittedDetector:
        """Return this detector with the threshold that lets a fraction `tpr` of inliers through.

        It is the k-th smallest of the n scores, k = ceil(tpr · (n + 1)): then a fresh inlier is
        let through with a probability of at least `tpr` over draws of both (split conformal
        prediction, Vovk et al. 2005; Angelopoulos & Bates 2021). The plain quantile lets fewer
        through than it says.

        Raises:
            AssayError: for fewer rows than such a threshold takes (19 at 0.95).
        """
        from scipy.stats import binom

        if not 0 < tpr < 1:
            raise AssayError(f"tpr is a fraction between 0 and 1, got {tpr}")
        place = _place(tpr, len(e))
        if place > len(e):
            least = math.ceil(round(tpr / (1 - tpr), 9))
            raise AssayError(
                f"a threshold that lets {tpr:g} of the inliers through takes at least {least} rows "
                f"to calibrate on, got {len(e)}: hold out more images, or ask for a tpr of at most "
                f"{math.floor(100 * len(e) / (len(e) + 1)) / 100:g}"
            )
        scores = [-math.inf, *self.score(e).sort().values.tolist(), math.inf]
        low, high = (int(binom.ppf(level, len(e), tpr)) for level in (0.025, 0.975))
        notes = self.notes
        if scores[1] == scores[-2]:
            notes = (*notes, f"all {len(e):,} rows it was calibrated on have the same score")
        return replace(
            self,
            cut=scores[place],
            tpr=tpr,
            calibrated_on=len(e),
            cut_between=(scores[low], scores[high + 1]),
            notes=notes,
        )

    def save(self, path: str | Path) -> None:
        """Write it as one safetensors file, its config and threshold as JSON in the header.

        Raises:
            AssayError: if the file cannot be written; nothing is left half-written.
        """
        from safetensors.torch import save

        about = {
            "format": FORMAT,
            "detector": self.detector.model_dump(mode="json"),
            "version": self.detector.VERSION,
            "classes": self.classes,
            "threshold": self.cut,
            "tpr": self.tpr,
            "calibrated_on": self.calibrated_on,
            "layers": list(self.layers),
            "notes": list(self.notes),
            "about": dict(self.about),
            "threshold_between": None if self.cut_between is None else list(self.cut_between),
        }
        path = Path(path)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state.items()}
        write_atomic(path, save(tensors, metadata={"assay.detector": json.dumps(about)}))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; no code in the file is run.

        Raises:
            AssayError: for a file that is missing, corrupt, or not a detector of ours.
        """
        from assay.ood.registry import detectors

        tensors, about = _read(Path(path))
        if about.get("format") != FORMAT:
            raise AssayError(f"{path} has format {about.get('format')}, known is {FORMAT}")
        known = detectors()
        config = about["detector"]
        if config["name"] not in known:
            raise unknown("detector", config["name"], known)
        kind = known[config["name"]]
        if about["version"] != kind.VERSION:
            raise AssayError(
                f"{path} was fitted by version {about['version']} of {config['name']}, and this is "
                f"version {kind.VERSION}, which scores differently: fit it again"
            )
        between = about.get("threshold_between")
        return cls(
            kind.parse(config, where=str(path)),
            tensors,
            about["classes"],
            about["threshold"],
            about["tpr"],
            about["calibrated_on"],
            tuple(about.get("layers", ())),  # older files have none of these
            tuple(about.get("notes", ())),
            None if between is None else (between[0], between[1]),
            about.get("about", {}),
        )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if path.is_dir():
        raise AssayError(f"{path} is a folder: name the file that --save wrote")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise AssayError(f"there is no detector at {path}") from error
    except (SafetensorError, OSError) as error:
        raise AssayError(f"{path} is not a readable safetensors file: {error}") from error
    if "assay.detector" not in metadata:
        raise AssayError(f"{path} holds tensors, but not a detector saved by assay")
    return tensors, json.loads(metadata["assay.detector"])


def _place(tpr: float, n: int) -> int:
    """Return which of n scores, from the smallest, lets a fraction `tpr` of fresh ones through."""
    return math.ceil(round(tpr * (n + 1), 9))
