"""The loss surface around a trained network, on a plane of random filter-normalised directions.

Li, Xu, Taylor, Studer & Goldstein 2018, "Visualizing the Loss Landscape of Neural Nets", section 4.
At the trained weights w the plane is w + a d + b e; d and e are normal draws, each filter of which
is scaled to the norm of that filter of w, so that surfaces of networks with weights of other sizes
can be compared. Where the paper leaves a choice, this follows the authors' code:

- a filter is one output's slice of a weight: of a convolution (in, height, width), of a linear
  layer a row;
- biases and the weights of norms stay as they are (`ignore="biasbn"`), as do the running statistics
  of batch norm: the network is in eval mode, as it is when it is tested;
- the loss is the cross-entropy alone, without weight decay.

d and e are not made orthogonal: in so many dimensions random directions nearly are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from assay.config import Config
from assay.core.borrowed import borrowed
from assay.core.random import Stream
from assay.errors import AssayError
from assay.models.loading import load_model
from assay.runs.files import Arrays, write_arrays
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.train import settings, split
from assay.train.precision import computing

TASK = "loss-surface"

ROWS = "rows.npz"
"""The file of the checkpoint: the rows of the grid that are done."""
CHUNK = 125
"""Images evaluated at a time, which bounds memory; part of VERSION, since sums depend on it."""
RADIUS = 0.5
"""How far from the centre `sharpness` searches, in norms of the weights."""
RISE = 1.0
"""How much loss, in nats, above the centre's still belongs to the `basin`."""
BENT = 0.1
"""Least size of a negative curvature, as a share of the larger one, that counts."""

Plane = NDArray[np.float64]
"""(size, size): rows go along the second direction, columns along the first."""


class SurfaceOf(Config):
    """How the loss surface of a trained network is taken."""

    VERSION = 1

    images: int = Field(default=500, ge=1)
    """How many of the network's training images the loss is averaged over: a stable subset."""
    size: int = Field(default=17, ge=3)
    """Points of the grid in each direction; odd, so that one is the centre."""
    reach: float = Field(default=1.0, ge=RADIUS)
    """The grid goes from -reach to reach, in norms of the weights; 1 is the paper's."""

    @model_validator(mode="after")
    def _has_a_centre(self) -> Self:
        if self.size % 2 == 0:
            raise ValueError(f"size must be odd, so that the grid has a centre; not {self.size}")
        if self.reach / (self.size // 2) > RADIUS:
            raise ValueError(
                f"{self.size} points from {-self.reach:g} to {self.reach:g} leave none within "
                f"{RADIUS} of the centre, where sharpness is taken; use a greater size"
            )
        return self

    def trial(self, need: Trial, seed: int, device: str, label: str) -> Trial:
        """Return the trial that takes the surface of the network that `need` trains.

        Networks of one shape get the same draws from the same seed.
        """
        return Trial(
            task=TASK,
            config=self.model_dump(mode="json"),
            seed=seed,
            needs=(need,),
            versions={type(self).__name__: self.VERSION},
            device=device,
            threads=need.threads,
            label=label,
        )


def surface(trial: Trial, work: Workspace) -> Outcome:
    """Take the loss at every point of the grid; goes on after the last row that was done.

    Metrics: `loss`, at the centre, and what `measures` returns; `n`, the images. Arrays: `loss`
    (size, size), whose rows go along the second direction, and `alphas` (size,), the grid.

    Raises:
        AssayError: for data that are not what the network learnt from.
    """
    config = SurfaceOf.parse(trial.config, where="trial")
    (need,), (trained,) = trial.needs, work.needs
    classifier = load_model(trained.path("model.safetensors"))
    data = split(settings(need), "train", need.seed)
    if data.fingerprint != need.data[f"{need.config['data']}/train"]:
        raise AssayError(f"{need.config['data']} (train) has changed since the trial was planned")
    alphas = np.linspace(-config.reach, config.reach, config.size)
    with computing(trial.threads):
        model = classifier.model.to(trial.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        _, images, y = next(data.sample(config.images).batches(config.images))
        x = classifier.normalise(images).contiguous(memory_format=torch.channels_last)
        y = y.to(x.device)
        planes = [directions(model, Stream(trial.seed).child("plane", axis)) for axis in (0, 1)]
        file = work.checkpoint / ROWS
        rows = list(Arrays(file)["loss"]) if file.exists() else []
        for row in range(len(rows), config.size):
            rows.append(losses_along(model, x, y, planes, alphas, alphas[row]))
            write_arrays(file, {"loss": np.array(rows)})
            work.progress((row + 1) / config.size, f"row {row + 1}/{config.size}")
    loss = np.array(rows)
    metrics = {**measures(loss, alphas), "n": len(y)}
    return Outcome(metrics, {"loss": loss, "alphas": alphas})


def directions(model: nn.Module, stream: Stream) -> dict[str, Tensor]:
    """Return a random filter-normalised direction: for each parameter what is added at step 1.

    Draws are keyed by the parameter's name and made on the CPU. Parameters with one dimension
    (biases, the weights of norms) get zeros.
    """
    found = {}
    for name, weight in model.named_parameters():
        step = torch.zeros(weight.shape)
        if weight.ndim > 1:
            w = weight.detach().cpu().flatten(1)
            drawn = torch.randn(w.shape, generator=stream.child(name).torch())
            scale = w.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
            step = (drawn * scale).view(weight.shape)
        found[name] = step.to(weight.device)
    return found


@contextmanager
def lent(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Lend the model in eval mode, to be moved about; yields a copy of every parameter.

    On the way out, also after an exception, the weights are to the bit what they were.
    """
    with borrowed(model), torch.no_grad():
        kept = {name: weight.clone() for name, weight in model.named_parameters()}
        try:
            yield kept
        finally:
            for name, weight in model.named_parameters():
                weight.copy_(kept[name])


def losses_along(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    planes: list[dict[str, Tensor]],
    alphas: NDArray[np.float64],
    beta: float,
) -> NDArray[np.float64]:
    """Return the mean cross-entropy at every w + alpha d + beta e of one row, (len(alphas),).

    Args:
        model: from `x` to logits; in eval mode meanwhile, and put back as it was.
        x, y: what the network itself takes (N, C, H, W), and labels (N,).
        planes: d and e, by the names of the parameters.
    """
    found = np.empty(len(alphas))
    with lent(model) as kept:
        for k, alpha in enumerate(alphas):
            for name, weight in model.named_parameters():
                step = float(alpha) * planes[0][name] + float(beta) * planes[1][name]
                torch.add(kept[name], step, out=weight)
            found[k] = mean_loss(model, x, y)
    return found


def mean_loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the mean cross-entropy of the model as it stands, summed in float64."""
    total = 0.0
    for images, labels in zip(torch.split(x, CHUNK), torch.split(y, CHUNK), strict=True):
        # A copy: a network that works in place must not write into what it is evaluated on again.
        logits = model(images.clone()).double()
        total += float(F.cross_entropy(logits, labels, reduction="sum"))
    return total / len(y)


def measures(loss: Plane, alphas: NDArray[np.float64]) -> Mapping[str, Any]:
    """Return what a surface says in numbers.

    - `loss`: at the centre, nats.
    - `sharpness`: the greatest rise of the loss within `RADIUS` of the centre, over 1 + the loss at
      the centre (Keskar et al. 2017, metric 2.1, in the plane); infinite where the loss is.
    - `basin`: the share of the grid less than `RISE` above the centre.
    - `non_convex`: the share of inner points where one of the surface's two principal curvatures
      (from central differences) is negative and more than `BENT` of the other in size: Li et al.
      2018, section 6, map this ratio for the full Hessian, and show that what is not convex in the
      plane is not convex in full. None where no inner point has finite neighbours.
    - `not_finite`: how many points have no finite loss.
    """
    middle = len(alphas) // 2
    centre = float(loss[middle, middle])
    near = np.hypot(alphas[:, None], alphas[None, :]) <= RADIUS * (1 + 1e-9)
    known = np.isfinite(loss)
    top = float(loss[near].max()) if known[near].all() else np.inf
    with np.errstate(invalid="ignore"):  # infinity less infinity
        basin = float((loss < centre + RISE).mean())
        least, greatest = curvatures(loss, float(np.diff(alphas).mean()))
    finite = np.isfinite(least) & np.isfinite(greatest)
    bent = least[finite] < -BENT * np.abs(greatest[finite])
    return {
        "loss": centre,
        "sharpness": (top - centre) / (1 + centre),
        "basin": basin,
        "non_convex": float(bent.mean()) if finite.any() else None,
        "not_finite": int((~known).sum()),
    }


def curvatures(loss: Plane, step: float) -> tuple[Plane, Plane]:
    """Return the lesser and the greater eigenvalue of the Hessian at the inner points.

    By central differences of a grid `step` apart: two arrays (size - 2, size - 2).
    """
    inner = loss[1:-1, 1:-1]
    across = (loss[1:-1, 2:] - 2 * inner + loss[1:-1, :-2]) / step**2
    along = (loss[2:, 1:-1] - 2 * inner + loss[:-2, 1:-1]) / step**2
    mixed = (loss[2:, 2:] - loss[2:, :-2] - loss[:-2, 2:] + loss[:-2, :-2]) / (4 * step**2)
    mean, half = (across + along) / 2, np.hypot((across - along) / 2, mixed)
    return mean - half, mean + half
