"""The result of an attack."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor

from assay import stats
from assay.attacks.base import Attack, Stop
from assay.core.batches import X, named
from assay.core.fast import FastReport
from assay.core.oracle import Oracle, labels
from assay.core.threats import T, wide
from assay.disk import writing_together
from assay.errors import AssayError
from assay.stats import Estimate

ARRAYS = (
    "adversarial",
    "success",
    "distance",
    "queries",
    "steps",
    "stage",
    "cut",
    "clean_prediction",
    "adversarial_prediction",
    "correct",
    "labels",
    "targets",
)


@dataclass(frozen=True, repr=False, eq=False)
class AttackResult(Generic[X, T]):
    """One attack on N images or texts. Those that were not attacked are kept, without success.

    Attributes:
        adversarial: images float32 (N, C, H, W) in [0, 1], or N texts, inside the threat. With
            stop="fooled" each is the first that fooled the model, and so lies close to its decision
            boundary.
        success: bool (N,), attacked, and the float32 original said what the attacker wanted.
        distance: float32 (N,), how far each image was moved, in the unit of the threat's norm.
        queries: int64 (N,), every query of a model on the image: clean prediction,
            gradients, screens, confirmations, over all restarts.
        steps: int64 (N,), steps taken in the restart that the adversarial image comes from.
        stage: int64 (N,), which of the attack's stages first fooled the model (0 for a method that
            is no cascade); -1: none did.
        cut: bool (N,), given up before the last step because of the query or time limit.
        clean_prediction, adversarial_prediction: int64 (N,), by the float32 original, of the
            image and of `adversarial`; -1 where it answered NaN.
        correct: bool (N,), the clean image was classified as its label.
        labels: int64 (N,); the model's own predictions if none were given.
        targets: int64 (N,), the target classes; None for an untargeted attack.
        inputs: the images or texts attacked, as they were given; not a copy.
        attack, threat, seed, stop: what was run.
        seconds: wall time.
        evaluations: rows evaluated in all, by kind: "gradient", "forward", and "check" (making
            sure that the fast copy agrees with the original).
        refused: candidates that the attack claimed and that lay outside the threat.
        fast: how the fast copy was made, or why there is none; None for a black box.
        oracle: the model that was attacked.

    >>> result = assay.attacks.PGD(eps=0.2)(clf, x, y, stop="fooled")
    >>> result
    AttackResult(PGD, linf eps 0.2: 100.0% of 12 correctly classified images fooled ...
    >>> result.median_queries <= 1 + 20 + 1
    True
    """

    adversarial: X
    success: Tensor
    distance: Tensor
    queries: Tensor
    steps: Tensor
    stage: Tensor
    cut: Tensor
    clean_prediction: Tensor
    adversarial_prediction: Tensor
    correct: Tensor
    labels: Tensor
    targets: Tensor | None
    inputs: X
    attack: Attack[X, T]
    threat: T
    seed: int
    stop: Stop
    seconds: float
    evaluations: dict[str, int]
    refused: int
    fast: FastReport | None
    oracle: Oracle[X]

    def __len__(self) -> int:
        return len(self.success)

    @property
    def success_rate(self) -> Estimate:
        """Share of the correctly classified images that were fooled (or reached their target)."""
        fooled, right = int(self.fooled.sum()), int(self.correct.sum())
        return stats.proportion(fooled, right, f"correctly classified {named(self.inputs)}")

    @property
    def fooled(self) -> Tensor:
        """The successes that rates, medians and pictures are of: bool (N,), on images that were
        classified correctly. With attack_wrong=True there are others."""
        return self.success & self.correct

    @property
    def robust_accuracy(self) -> Estimate:
        """Share of all images that are classified correctly, and still are when attacked; of a
        targeted attack, that have not reached their target. An image that the model gives no answer
        for once it is attacked is neither fooled nor classified correctly."""
        return stats.proportion(int(self.robust.sum()), len(self), f"all {named(self.inputs)}")

    @property
    def robust(self) -> Tensor:
        """The images that remain robust, which `robust_accuracy` counts: bool (N,)."""
        return self.correct & ~self.success & ~self.silenced

    @property
    def median_queries(self) -> float | None:
        """Median number of queries that it took to fool those images that were fooled. None if
        none was, and with stop="never", where queries do not end with success."""
        if self.stop == "never":
            return None
        spent = self.queries[self.fooled]
        return float(wide(spent).quantile(0.5)) if len(spent) else None

    @property
    def median_distance(self) -> float | None:
        """Median distance of the images that were fooled, in the unit of the threat's norm; None if
        none was."""
        moved = self.distance[self.fooled]
        return float(wide(moved).quantile(0.5)) if len(moved) else None

    @property
    def unanswered(self) -> int:
        """How many clean images the model gave no answer for (NaN); they are never successes."""
        return int((self.clean_prediction < 0).sum())

    @property
    def silenced(self) -> Tensor:
        """The correctly classified images for whose candidates the model had no answer (NaN) when
        they were judged: bool (N,)."""
        return self.correct & (self.adversarial_prediction < 0)

    @cached_property
    def survives_rounding(self) -> Tensor:
        """The successes that remain so once rounded to 8 bits: bool (N,); queries the model.

        Rounding may move a pixel out of the ball by half a grey level; that is allowed here, since
        what matters is whether the success survives being saved.
        """
        adversarial = self._images(self.adversarial, "rounded to 8 bits")
        oracle: Oracle[Any] = self.oracle
        survives = torch.zeros_like(self.success)
        rows = self.fooled.nonzero()[:, 0]
        for part in torch.split(rows, 256) if len(rows) else ():
            answer = oracle.query((adversarial[part] * 255).round().div_(255))
            said = labels(answer).to(self.labels.device)
            if self.targets is None:
                survives[part] = (said != self.labels[part]) & (said >= 0)
            else:
                survives[part] = said == self.targets[part]
        return survives

    @property
    def after_rounding(self) -> Estimate:
        """The success rate once the images are rounded to 8 bits, as a PNG would; queries the model
        the first time."""
        survived = int(self.survives_rounding.sum())
        return stats.proportion(survived, int(self.correct.sum()), "correctly classified images")

    def to_dict(self) -> dict[str, Any]:
        """Return what a record keeps of it, as JSON: everything but the arrays."""
        fooled_by = self.stage[self.fooled]
        return {
            "attack": self.attack.model_dump(mode="json"),
            "threat": self.threat.model_dump(mode="json"),
            "targeted": self.targets is not None,
            "stop": self.stop,
            "seed": self.seed,
            "n": len(self),
            "correct": int(self.correct.sum()),
            "success": int(self.fooled.sum()),
            "success_on_wrong": int((self.success & ~self.correct).sum()),
            "cut": int(self.cut.sum()),
            "refused": self.refused,
            "success_rate": self.success_rate.to_dict(),
            "robust_accuracy": self.robust_accuracy.to_dict(),
            "unanswered": self.unanswered,
            "stages": [
                {"attack": stage.model_dump(mode="json"), "success": int((fooled_by == k).sum())}
                for k, stage in enumerate(self.attack.stages)
            ],
            "median_distance": self.median_distance,
            "median_queries": self.median_queries,
            "mean_queries": float(wide(self.queries).mean()) if len(self) else None,
            "evaluations": dict(self.evaluations),
            "fast": None if self.fast is None else vars(self.fast).copy(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write arrays.safetensors and attack.json into `folder`, and adversarial texts.json beside
        them if texts were attacked: all of them appear, or none.

        Times are left out: equal attacks leave equal bytes.
        """
        from safetensors.torch import save_file

        folder = Path(folder)
        held = {name: getattr(self, name) for name in ARRAYS}
        arrays = {
            name: value.detach().cpu().contiguous()
            for name, value in held.items()
            if isinstance(value, Tensor)
        }
        said: dict[str, Any] = {"attack.json": self.to_dict()}
        if isinstance(self.adversarial, list):
            said["texts.json"] = self.adversarial
        with writing_together(folder) as part:
            save_file(arrays, part / "arrays.safetensors")
            for name, value in said.items():
                (part / name).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
        return folder

    def describe(self) -> str:
        """Return the result in one line."""
        rate, robust, cut = self.success_rate, self.robust_accuracy, int(self.cut.sum())
        name = f"{self.attack.name.upper()}, {self.threat.describe()}"
        early = f"; {cut:,} given up early, because of a limit" if cut else ""
        if silenced := int(self.silenced.sum()):
            early += f"; {silenced:,} without an answer once attacked"
        if rate.n == 0:
            one = named(self.inputs).removesuffix("s")
            return f"{name}: no {one} is classified correctly, of {robust.n}{early}"
        aim = "led to their target" if self.targets is not None else "fooled"
        return (
            f"{name}: {rate.value:.1%} of {rate.n} {rate.of} {aim} "
            f"(95 % interval {rate.low:.1%} to {rate.high:.1%}); "
            f"robust accuracy {robust.value:.1%} of {robust.n}{early}"
        )

    def __repr__(self) -> str:
        return f"AttackResult({self.describe()})"

    def plot(self, columns: int = 8) -> Any:
        """Return a matplotlib figure: image, attacked image and amplified difference of a few.

        Successes come first; a caption says what the model said before and after.
        """
        from assay.report.figures import before_after

        rows = self.success.int().argsort(descending=True, stable=True)[:columns]
        pairs = zip(self.clean_prediction[rows], self.adversarial_prediction[rows], strict=True)
        return before_after(
            self._images(self.inputs, "drawn")[rows].cpu().numpy(),
            self._images(self.adversarial, "drawn")[rows].cpu().numpy(),
            captions=[f"{self._class(before)} → {self._class(after)}" for before, after in pairs],
            columns=columns,
        )

    def _images(self, x: X, done: str) -> Tensor:
        if isinstance(x, list):
            raise AssayError(f"texts cannot be {done}: only images can")
        return x

    def _class(self, index: Tensor) -> str:
        return self.oracle.classes[int(index)] if index >= 0 else "no answer"

    def _repr_html_(self) -> str:
        from assay.report.figures import inline_svg

        said = self.describe()
        drawn = "" if isinstance(self.inputs, list) else inline_svg(self.plot(), title=said)
        return f"<p>{escape(said)}</p>{drawn}"
