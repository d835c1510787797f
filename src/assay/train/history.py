"""What happened in training, epoch by epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")
GUARDED = ("robust_accuracy", "fast_looks", "strong_looks", "collapses")
"""What a `Guard` adds; without one nothing of it is kept."""
FOLLOWED = (*CURVES, GUARDED[0])
"""What trackers are told of each epoch, as far as it is there."""


@dataclass
class Looks:
    """What was measured at chosen steps of a training: a row per step, the first before any.

    Attributes:
        steps: which optimizer step each row was measured at, from 0.
        loss: mean training loss since the row before (of the first: of the first step).
        val_loss, val_accuracy: on the images of `Watch`; empty without a validation set.
        layers: names of the modules that multiply (linear, convolution), from the input on.
        gradient_norms: L2 norm of the loss gradient of each layer's weight, before clipping.
        weight_change: how far each layer's weight is from its start, over the norm it had then.
        activations: names of the modules that are activation functions.
        saturated: share of each one's outputs that are saturated (see `watch.saturation`).
        dead: share of each one's units that are saturated for every image.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    gradient_norms: list[list[float]] = field(default_factory=list)
    weight_change: list[list[float]] = field(default_factory=list)
    activations: list[str] = field(default_factory=list)
    saturated: list[list[float]] = field(default_factory=list)
    dead: list[list[float]] = field(default_factory=list)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what was measured as arrays `look_...`: steps int64 (rows,), the curves float64
        (rows,), the rest float64 (rows, layers) or (rows, activations)."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("layers", "activations")}
        return {
            f"look_{name}": np.asarray(values, dtype=np.int64 if name == "steps" else np.float64)
            for name, values in kept.items()
            if values
        }


@dataclass
class History:
    """One number per finished epoch in each curve. Epochs count from 1.

    Attributes:
        train_loss: mean loss over the training rows, each at the time of its batch, as it was
            trained on (augmented, attacked, label-smoothed).
        train_accuracy: share of the training rows classified correctly, counted in those batches.
        val_loss, val_accuracy: mean cross-entropy and share correct on the validation set, in
            float32; empty without one.
        lr: the learning rate of the epoch's last step.
        seconds: wall-clock time of each epoch; not part of `metrics`.
        steps: optimizer steps taken.
        looks: what was measured at chosen steps; empty without a `Watch`.
        best_epoch: the epoch with the lowest validation loss; 0 where there is none.
        stopped_early: whether patience, or the returns of a guard, ran out before the epochs did.
        restored: whether the model was given back with the weights of `best_epoch`.
        diverged: why training stopped on a loss that is not finite; empty where it did not. The
            curves then end before that epoch, and the weights are not to be used unless restored.
        robust_accuracy: accuracy on validation images under several steps, after each epoch, of the
            weights that are validated; empty without a `Guard`, as are the next three.
        fast_looks, strong_looks: accuracy under one step and under several at each look, of the
            weights as they were.
        collapses: what was said of each catastrophic overfitting.
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    steps: int = 0
    looks: Looks = field(default_factory=Looks)
    best_epoch: int = 0
    stopped_early: bool = False
    restored: bool = False
    diverged: str = ""
    robust_accuracy: list[float] = field(default_factory=list)
    fast_looks: list[float] = field(default_factory=list)
    strong_looks: list[float] = field(default_factory=list)
    collapses: list[str] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return len(self.train_loss)

    def metrics(self) -> dict[str, Any]:
        """Return everything that is the same whenever the training is repeated, as JSON."""
        kept = self.to_dict()
        del kept["seconds"]
        kept["looks"] = {name: kept["looks"][name] for name in ("layers", "activations")}
        return kept

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the curves, float64 (epochs,), and what was measured at chosen steps."""
        looked = [name for name in GUARDED if getattr(self, name) and name != "collapses"]
        curves = {
            name: np.asarray(getattr(self, name), dtype=np.float64) for name in (*CURVES, *looked)
        }
        return curves | self.looks.arrays()

    def latest(self) -> dict[str, float]:
        """Return the numbers of the last epoch, as trackers are told them: its curves and, where it
        was watched, the last gradient norm and change of the weights of each layer."""
        found = {name: getattr(self, name)[-1] for name in FOLLOWED if getattr(self, name)}
        for what in ("gradient_norms", "weight_change"):
            rows = getattr(self.looks, what)
            layers = zip(self.looks.layers, rows[-1], strict=True) if rows else ()
            found |= {f"{what}/{layer}": value for layer, value in layers}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return every field, as JSON; of a guard only what there is."""
        kept = asdict(self)
        return {k: v for k, v in kept.items() if v or k not in GUARDED}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> History:
        """Return the history that `to_dict` gave."""
        return cls(**fields | {"looks": Looks(**fields["looks"])})

    def plot(self) -> Any:
        """Return a figure of the training and validation accuracy against the epoch."""
        from assay.report.curves import Series, learning_curves

        epochs = list(range(1, self.epochs + 1))
        series = [Series("training", epochs, self.train_accuracy)]
        if self.val_accuracy:
            series.append(Series("validation", epochs, self.val_accuracy))
        return learning_curves(series, y_label="accuracy")

    def _repr_html_(self) -> str:
        return str(self.plot()._repr_html_())


def describe(history: History, epoch: int, epochs: int, loss: float) -> str:
    """Return one line on how far training is."""
    parts = [f"epoch {epoch}/{epochs}", f"loss {loss:.3f}"]
    if history.val_accuracy:
        parts.append(f"validation {history.val_accuracy[-1]:.1%}")
    return " · ".join(parts)
