"""What happened in training, epoch by epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")


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
        layers: names of the modules whose weights' gradients were measured.
        gradient_norms: L2 norm of the loss gradient by layer: row 0 is the first batch of all,
            before any step, row e the mean over the steps of epoch e. Empty if not asked for.
        best_epoch: the epoch with the lowest validation loss; 0 where there is none.
        stopped_early: whether patience ran out before the epochs did.
        restored: whether the model was given back with the weights of `best_epoch`.
        diverged: why training stopped on a loss that is not finite; empty where it did not. The
            curves then end before that epoch, and the weights are not to be used unless restored.
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    gradient_norms: list[list[float]] = field(default_factory=list)
    best_epoch: int = 0
    stopped_early: bool = False
    restored: bool = False
    diverged: str = ""

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return len(self.train_loss)

    def metrics(self) -> dict[str, Any]:
        """Return everything that is the same whenever the training is repeated, as JSON."""
        kept = self.to_dict()
        del kept["seconds"], kept["gradient_norms"]
        return kept

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the curves, float64 (epochs,), and gradient_norms, float64 (epochs + 1, layers)
        where they were measured."""
        found = {name: np.asarray(getattr(self, name), dtype=np.float64) for name in CURVES}
        if self.gradient_norms:
            found["gradient_norms"] = np.asarray(self.gradient_norms, dtype=np.float64)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return every field, as JSON."""
        return asdict(self)

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
