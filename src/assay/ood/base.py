"""What a detector is: a frozen config; what it has learned is an object of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from scipy.stats import beta, binom
from torch import Tensor, nn

from assay.config import Config
from assay.core.embedding import Embedding
from assay.core.head import Head
from assay.disk import write_atomic
from assay.errors import AssayError, unknown
from assay.stats import Estimate

Need = Literal["logits", "features", "head", "layers", "gradient", "inputs", "autoencoder"]
"""What a detector reads: parts of an `Embedding`; `gradient` its oracle, `inputs` its source. Both
are had again by `Embedding.batches`. An `autoencoder` is handed in, by `with_autoencoder`."""

LearnsFrom = Literal["training", "held-out", "both"]
"""What a detector learns from: the training data; data of the same kind that the model was not
trained on; first the one, then the other."""

FORMAT = 1


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
    trained on: every other row of `calibrate`, the threshold then being set by the rest. "both":
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
        _check_numbers(self, e)
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
            held, calibrate = calibrate.rows(slice(0, None, 2)), calibrate.rows(slice(1, None, 2))
            held = required(self, held)
            _check_numbers(self, held)
        if self.learns_from == "held-out":
            e, labels = held, held.y
        with torch.no_grad():
            state = dict(self.learn(e, labels))
            if self.learns_from == "both":
                state = dict(self.learn_more(held, state))
            notes = tuple(self.caveats(e, state))
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

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        """Return a score per row, float64 (N,): higher is more unlike the training data.

        `state` is what `learn` returned. The score of a row must not depend on the other rows. It
        runs without gradients; `torch.enable_grad()` brings them back.
        """
        raise NotImplementedError


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
        if not 0 < tpr < 1:
            raise AssayError(f"tpr is a fraction between 0 and 1, got {tpr}")
        place = _place(tpr, len(e))
        if place > len(e):
            least = math.ceil(round(tpr / (1 - tpr), 9))
            raise AssayError(
                f"a threshold that lets {tpr:g} of the inliers through takes at least {least} rows "
                f"to calibrate on, got {len(e)}"
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


def required(detector: Detector, e: Embedding, layers: Sequence[str] | None = None) -> Embedding:
    """Return an embedding with no layers but those that a detector reads, if it has all of them.

    Args:
        detector: what reads.
        e: what is read.
        layers: those that it was fitted on; None: those that it names.

    Raises:
        AssayError: something is missing; it says what, why, and what to do.
    """
    reads = detector.reads()
    held = {
        "logits": True,
        "features": e.features is not None,
        "head": e.head is not None,
        "layers": True,
        "gradient": e.oracle is not None,
        "inputs": e.source is not None,
        "autoencoder": e.autoencoder is not None,
    }
    missing = sorted(need for need in reads if not held[need])
    if missing == ["autoencoder"]:
        raise AssayError(
            f"{detector.name} needs an autoencoder that learned from the training images: hand it "
            "in with embedding.with_autoencoder(model)"
        )
    if missing:
        why = f" ({e.lacks['head']})" if "head" in e.lacks and e.head is None else ""
        raise AssayError(
            f"{detector.name} needs {', '.join(missing)}, which this embedding lacks{why}; "
            "use a detector that reads the logits, such as max-logit"
        )
    if "layers" not in reads:
        return replace(e, layers={})
    if layers is None:
        layers = tuple(e.layers) if e.oracle is None else detector.layers_of(e.oracle.model)
    for layer in layers:
        if layer not in e.layers:
            raise AssayError(
                f"{detector.name} reads layer {layer!r}, which this embedding lacks: "
                + e.lacks.get(layer, "embed(..., readers=[detector]) keeps what a detector reads")
            )
    if not layers:
        raise AssayError(f"{detector.name} reads layers, but names none of this model's")
    return replace(e, layers={layer: e.layers[layer] for layer in layers})


def features_of(e: Embedding) -> Tensor:
    """Return the features (N, D) of an embedding that was seen to have some."""
    assert e.features is not None
    return e.features


def head_of(e: Embedding) -> Head:
    """Return the head of an embedding that was seen to have one."""
    assert e.head is not None
    return e.head


def _check_numbers(detector: Detector, e: Embedding) -> None:
    """Refuse to learn from rows that hold no numbers.

    Raises:
        AssayError: says how many, and which is the first.
    """
    reads, broken = detector.reads(), torch.zeros(len(e), dtype=torch.bool)
    if "logits" in reads:
        broken |= e.logits.isnan().any(1)
    if "features" in reads:
        broken |= ~features_of(e).isfinite().all(1)
    if bool(broken.any()):
        raise AssayError(
            f"{detector.name} cannot learn from NaN or infinity: {int(broken.sum())} of {len(e)} "
            f"rows have some in what it reads (the first is row {int(broken.int().argmax())})"
        )


def _place(tpr: float, n: int) -> int:
    """Return which of n scores, from the smallest, lets a fraction `tpr` of fresh ones through."""
    return math.ceil(round(tpr * (n + 1), 9))


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
