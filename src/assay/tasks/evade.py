"""The trial that attacks detectors: outliers that are made to look normal, and adversarial images
that a detector is to notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from assay import stats
from assay.config import Config, Number
from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.head import Head, find_head, watching
from assay.core.oracle import Encoded
from assay.core.random import Rows, Stream
from assay.core.threats import NormBall
from assay.data.dataset import Dataset, to_float
from assay.errors import AssayError
from assay.models.loading import load_model
from assay.ood import AnyDetector, FittedDetector
from assay.ood.confidence import MaxSoftmax
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.detect import scorers
from assay.tasks.outside import HELD_OUT, outside
from assay.tasks.train import settings, split
from assay.train.precision import computing

TASK = "evade"
Goal = Literal["blind", "aware"]
KEPT = 6
"""Attacked outliers that are kept for pictures, of the first kind and each detector."""


class EvadeDetectors(Config):
    """Which detectors are attacked, with which outliers, and how far images may be moved."""

    VERSION = 1

    detectors: tuple[AnyDetector, ...] = Field(default=(MaxSoftmax(),), min_length=1)
    """The detectors; the attacker knows each, and takes its gradient."""
    outliers: tuple[str, ...] = Field(default=(HELD_OUT,), min_length=1)
    """Kinds of outliers that are moved: generated ones, or `held-out`."""
    eps: Number = Field(default=8 / 255, gt=0)
    """How far a pixel may be moved, in pixel units of [0, 1]."""
    steps: int = Field(default=20, ge=1)
    """Steps of projected gradient descent (Madry et al. 2018), each 2.5 eps / steps."""
    images: int = Field(default=200, ge=20)
    """How many outliers of each kind, and how many test images, are attacked."""
    inside: int = Field(default=1000, ge=20)
    """How many test images they are to be told from; they stay as they are."""
    fitted_on: int = Field(default=5000, ge=50)
    """How many training images detectors learn from."""
    calibrated_on: int = Field(default=2000, ge=20)
    """How many validation images those learn from that need some."""
    quality: int | None = 75
    """Quality of the JPEG that generated outliers pass through before they are moved; none: they
    do not."""

    def trials(self, needs: Sequence[Trial], label: str) -> list[Trial]:
        """Return the trials of this attack, one for each network that `needs` train."""
        used = [type(self), *dict.fromkeys(type(one) for one in self.detectors)]
        return [
            Trial(
                task=TASK,
                config=self.model_dump(mode="json"),
                seed=need.seed,
                needs=(need,),
                data=need.data,
                places=need.places,
                versions={kind.__name__: kind.VERSION for kind in used},
                device=need.device,
                threads=need.threads,
                label=label,
            )
            for need in needs
        ]


def evade(trial: Trial, work: Workspace) -> Outcome:
    """Move outliers so that each detector in turn finds them normal, and test images so that the
    network is wrong, with and without regard to the detector.

    Metrics, by detector: `clean` and `attacked`, the AUROC of each kind against test images that
    nobody moved; `adversarial`, that of misclassified test images by PGD that is `blind` to the
    detector, and by one that is `aware` of it (both gradients at equal length); `fooled`, the share
    of images that each of those fools; `failed`, detectors without a gradient. Arrays: a few
    outliers before and after.

    Raises:
        AssayError: for data that has changed since the trial was planned, or if no detector can be
            attacked.
    """
    config = EvadeDetectors.parse(trial.config, where="trial")
    need, network = trial.needs[0], settings(trial.needs[0])
    clf = load_model(work.needs[0].path("model.safetensors"))
    clf.model.to(trial.device)

    def some(name: str, wanted: int) -> Dataset:
        data = split(network, name, need.seed)
        if data.fingerprint != need.data[f"{need.config['data']}/{name}"]:
            raise AssayError(
                f"{need.config['data']} ({name}) has changed since the trial was planned"
            )
        return data.sample(min(wanted, len(data)), trial.seed)

    with computing(trial.threads):
        train = clf.embed(some("train", config.fitted_on), readers=config.detectors)
        held = clf.embed(some("validation", config.calibrated_on), readers=config.detectors)
        test = some("test", config.inside)
        inside = clf.embed(test, readers=config.detectors)
        kinds = {
            name: outside(network, name, config.images, trial, quality=config.quality, need=need)
            for name in config.outliers
        }
        metrics: dict[str, Any] = {
            "collapsed": work.needs[0].metrics["collapsed"],
            "clean": {},
            "attacked": {},
            "adversarial": {},
            "fooled": {},
            "failed": {},
            "n_in": len(inside),
            "n_out": {name: len(data) for name, data in kinds.items()},
        }
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        rows = scorers(config.detectors, ())
        threat = NormBall(norm="linf", eps=config.eps)
        stream = Stream(trial.seed).child("evade")
        with _readable(clf, train) as read:
            others = _blind(clf, test, read, threat, config, stream)
            for place, row in enumerate(rows):
                work.progress(place / len(rows), row.name)
                try:
                    fitted = row.detector.fit(train, calibrate=held)
                    found = _attacked(
                        fitted, clf, inside, kinds, read, threat, config, stream, others
                    )
                except AssayError as error:
                    metrics["failed"][row.name] = str(error)
                    continue
                for what in ("clean", "attacked", "adversarial", "fooled"):
                    metrics[what][row.name] = found[what]
                arrays[f"moved_{row.name}"] = found["moved"]
        if not metrics["attacked"]:
            raise AssayError(f"no detector can be attacked: {metrics['failed']}")
        first = next(iter(kinds.values()))
        arrays["outliers"] = first.images[:KEPT].numpy()
    return Outcome(metrics, arrays)


def _blind(
    clf: Classifier,
    test: Dataset,
    read: Callable[[Tensor], Embedding],
    threat: NormBall,
    config: EvadeDetectors,
    stream: Stream,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return test images, their labels, and adversarial ones by the network's loss alone."""
    x, y = test.take(config.images, seed=1)
    x, y = x.to(clf.device), y.to(clf.device)
    rng = stream.child("test").rows(range(len(x))).to(clf.device)

    def loss(adv: Tensor) -> tuple[Tensor, ...]:
        return (-F.cross_entropy(read(adv).logits, y, reduction="none"),)

    return x, y, _descend(x, loss, threat, config.steps, rng)


def _attacked(
    fitted: FittedDetector,
    clf: Classifier,
    inside: Embedding,
    kinds: dict[str, Dataset],
    read: Callable[[Tensor], Embedding],
    threat: NormBall,
    config: EvadeDetectors,
    stream: Stream,
    others: tuple[Tensor, Tensor, Tensor],
) -> dict[str, Any]:
    """Return what one detector says of what is moved with regard to it; `others` are test images,
    their labels, and the same images moved without."""

    def score(x: Tensor) -> Tensor:
        return fitted.detector.ood_score(read(x), fitted.state)

    normal = fitted.score(inside).cpu().numpy()
    found: dict[str, Any] = {"clean": {}, "attacked": {}, "adversarial": {}, "fooled": {}}
    for name, data in kinds.items():
        x = to_float(data.images).to(clf.device)
        rng = stream.child(name).rows(data.ids).to(clf.device)
        moved = _descend(x, lambda adv: (score(adv),), threat, config.steps, rng)
        for what, images in (("clean", x), ("attacked", moved)):
            with torch.no_grad():
                found[what][name] = stats.auroc(normal, score(images).cpu().numpy()).value
        if "moved" not in found:
            found["moved"] = moved[:KEPT].mul(255).round().to(torch.uint8).cpu().numpy()
    x, y, blind = others
    rng = stream.child("test").rows(range(len(x))).to(clf.device)

    def both(adv: Tensor) -> tuple[Tensor, ...]:
        e = read(adv)
        loss = -F.cross_entropy(e.logits, y, reduction="none")
        return loss, fitted.detector.ood_score(e, fitted.state)

    aware = _descend(x, both, threat, config.steps, rng)
    goals: dict[Goal, Tensor] = {"blind": blind, "aware": aware}
    for goal, images in goals.items():
        with torch.no_grad():
            e = read(images)
            fooled = e.logits.argmax(1) != y
            said = fitted.detector.ood_score(e, fitted.state)[fooled].cpu().numpy()
        found["fooled"][goal] = float(fooled.double().mean())
        found["adversarial"][goal] = stats.auroc(normal, said).value if len(said) else None
    return found


def _descend(
    x: Tensor,
    losses: Callable[[Tensor], tuple[Tensor, ...]],
    threat: NormBall,
    steps: int,
    rng: Rows,
) -> Tensor:
    """Return images within the threat at which the losses, each (N,), are small: of one loss the
    best step of all, of several, whose gradients weigh the same, the last.

    Raises:
        AssayError: if a loss has no gradient.
    """
    adv = threat.random_start(x, rng)
    best, least = adv.clone(), torch.full((len(x),), torch.inf, device=x.device)
    for step in range(steps + 1):
        with torch.enable_grad():
            adv = adv.detach().requires_grad_(True)
            said = losses(adv)
            slope = torch.zeros_like(adv)
            for one in said:
                if not one.requires_grad:
                    raise AssayError("the score does not depend on the image by a gradient")
                (part,) = torch.autograd.grad(one.sum(), adv, retain_graph=True)
                length = part.flatten(1).norm(dim=1).clamp_min(1e-30)
                slope = slope + part / length.view(-1, 1, 1, 1)
        with torch.no_grad():
            now = adv.detach()
            loss = said[0].detach().float()
            lower = (loss < least) | (len(said) > 1)
            least = torch.where(lower, loss, least)
            best[lower] = now[lower]
            if step < steps:
                moved = now - 2.5 * threat.eps / steps * threat.steepest(slope)
                adv = threat.project(x, moved)
    return best.detach()


@contextmanager
def _readable(clf: Classifier, like: Embedding) -> Iterator[Callable[[Tensor], Embedding]]:
    """Yield what embeds images (N, C, H, W) with their gradients: logits, and features where the
    embedding that detectors learned from has some."""
    kept: list[Tensor] = []
    with clf.borrowed():
        handle, head = None, None
        if like.head is not None:
            assert like.source is not None
            _, x, _ = next(iter(like.source.batches(8)))
            module = _last(clf, x)
            head = Head(like.head.weight.to(clf.device), like.head.bias.to(clf.device))
            handle = module.register_forward_pre_hook(lambda _, given: kept.append(given[0]))

        def read(x: Tensor) -> Embedding:
            kept.clear()
            logits = clf.logits(Encoded(x))
            features = kept[-1].float() if kept else None
            return Embedding(logits=logits, features=features, head=head, oracle=clf)

        try:
            yield read
        finally:
            if handle is not None:
                handle.remove()


def _last(clf: Classifier, x: Tensor) -> nn.Linear:
    """Return the linear layer that the head is."""
    with torch.no_grad(), watching(clf.model) as watch:
        x = x.to(clf.device)
        logits = clf.logits(Encoded(x))
        found = find_head(clf, dict(watch.reads), x, logits)
    if found is None:
        raise AssayError("the model does not end in a linear layer")
    return found[0]
