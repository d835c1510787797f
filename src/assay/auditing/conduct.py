"""A model in, a report out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay import stats
from assay.attacks import reliability
from assay.attacks.base import Attack
from assay.attacks.methods.noise import Noise
from assay.attacks.methods.pgd import FGSM
from assay.attacks.methods.square import Square
from assay.attacks.result import AttackResult
from assay.auditing import attention, chapters, checks
from assay.auditing.config import AuditConfig
from assay.core.classifier import Classifier, check_gradient, check_images
from assay.core.embedding import Embedding
from assay.core.source import TensorSource
from assay.disk import write_atomic, writing_together
from assay.errors import AssayError
from assay.provenance import provenance
from assay.report.numerals import budget, norm_name
from assay.report.page import render_audit
from assay.report.record import NotRun
from assay.report.schema import AuditReport, Check, Flag, Ood
from assay.runs.files import write_arrays

Tick = Callable[[str], None]
"""Told what is being done, in a few words."""


@dataclass(frozen=True)
class Audit:
    """What an audit found, and the arrays it rests on.

    Attributes:
        report: everything that report.json holds.
        arrays: labels and logits of the test images; for each attack at the audit's eps the
            adversarial images and which succeeded; the gallery's images and maps.
    """

    report: AuditReport
    arrays: dict[str, NDArray[Any]] = field(repr=False)

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks with their verdicts."""
        return self.report.checks

    def save(self, path: str | Path) -> Path:
        """Write the page to `path`, and report.json and arrays.npz beside it: all or none.

        Args:
            path: a file ending in .html, or a folder (then report.html in it).
        """
        page = Path(path)
        if page.suffix.lower() not in (".html", ".htm"):
            page = page / "report.html"
        with writing_together(page.parent) as part:
            write_arrays(part / "arrays.npz", self.arrays)
            write_atomic(part / page.with_suffix(".json").name, self.report.to_json())
            write_atomic(part / page.name, render_audit(self.report))
        return page

    def to_dict(self) -> dict[str, Any]:
        """Return what report.json holds."""
        return self.report.model_dump(mode="json")

    def plot(self) -> Any:
        """Return a matplotlib figure: accuracy against the budget."""
        from assay.report.figures import accuracy_against_eps

        found = self.report.robustness
        if isinstance(found, NotRun):
            raise AssayError(f"there is no robustness chapter to plot: {found.not_run}")
        return accuracy_against_eps(found.curves, found.clean)

    def _repr_html_(self) -> str:
        html: str = self.report._repr_html_()
        return html


def audit(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    reference: tuple[Tensor, Tensor] | None = None,
    calibration: tuple[Tensor, Tensor] | None = None,
    masks: Tensor | None = None,
    config: AuditConfig | None = None,
    title: str = "",
    command: str = "",
    data: dict[str, str] | None = None,
    progress: Tick | None = None,
) -> Audit:
    """Put a classifier to the test and return what was found.

    Args:
        clf: the model; it comes back untouched.
        x: test images float32 (N, C, H, W) in [0, 1], at least 20, that it was not trained on.
        y: their labels int64 (N,).
        reference: images and labels that detectors are fitted on, as a rule training data. None:
            a third of `x` fits, a third calibrates, and only the rest is scored.
        calibration: images and labels that the model was not trained on, for the detectors'
            thresholds. None: half of `reference` fits and the other half calibrates.
        masks: bool (N, H, W), where the object of each image is, if that is known: do maps point at
            it, and do they leave it?
        config: what is asked, and the thresholds.
        title: what the report is called; default: the model's class.
        command: what made it, for the report's last chapter.
        data: fingerprints of the data sets by name; default: that of `x` and `y`.
        progress: told what is being done.

    Raises:
        AssayError: for images out of range or that the model cannot take, labels that do not fit
            its outputs, outputs that are NaN or undeclared probabilities, or without a gradient.
    """
    started, clock = datetime.now().astimezone(), time.perf_counter()
    if not isinstance(clf, Classifier):
        raise AssayError(f"audit takes an assay.Classifier(model, ...), not {type(clf).__name__}")
    config = config if config is not None else AuditConfig()
    tick = progress if progress is not None else _silent
    x, y = check_images(x).detach().float().cpu(), torch.as_tensor(y).cpu()
    _check_labels(x, y)
    y = y.long()
    reference, calibration = (_images(part) for part in (reference, calibration))
    if reference is None and calibration is not None:
        raise AssayError("calibration= goes with reference=: what detectors are fitted on")
    for part in (reference, calibration):
        if part is not None and torch.equal(part[0], x):
            raise AssayError(
                "reference and calibration are not the images that are scored: give others, or none"
            )
    if masks is not None and (masks.dtype != torch.bool or masks.shape != x[:, 0].shape):
        raise AssayError(
            f"masks must be bool {tuple(x[:, 0].shape)}, one of each image's size, got "
            f"{masks.dtype} {tuple(masks.shape)}"
        )

    tick(f"asking the model about {len(x):,} images")
    inside = clf.embed(x, y)
    classes = clf.classes
    if int(y.max()) >= len(classes):
        raise AssayError(
            f"the labels go up to {int(y.max())}, but the model has {len(classes)} outputs "
            f"(0 to {len(classes) - 1}): these data do not fit this model"
        )
    if not bool(inside.logits.isfinite().all()):
        bad = int((~inside.logits.isfinite()).any(1).sum())
        raise AssayError(f"the model returns NaN or infinity for {bad} of {len(x)} images")
    check_gradient(clf, x)
    accuracy = chapters.accuracy(inside, y, classes)
    tick("calibration")
    reliable = chapters.calibration(inside, y, config.seed)

    correct = inside.predictions == y
    some = torch.arange(min(config.attacked, len(x)))
    attacked, labels = x[some], y[some]
    objects = None if masks is None else masks[some].cpu()
    curves = chapters.attack_all(clf, attacked, labels, config, tick)
    clean = stats.proportion(int(correct[some].sum()), len(some), "all images attacked")
    tick("reliability of the attacks")
    flags = _flags(clf, attacked, labels, curves, config)

    tick("gallery and attention")
    shown = attention.show(clf, attacked, labels, correct[some], config, objects)
    moved, hardly = attention.galleries(shown, attacked, classes, config)
    tick("which explainer is the most faithful")
    faithful = attention.faithful(clf, attacked, labels, correct[some], config, objects)
    tick("outliers")
    fit, scored = _fitting(clf, inside, x, y, reference, calibration)
    ood: Ood | NotRun
    try:
        ood = chapters.detection(clf, scored, x, config, fit)
    except AssayError as error:
        ood = NotRun(not_run=str(error))

    worst = chapters.worst_case(curves, config.eps)
    found = (
        checks.accuracy(accuracy, config),
        checks.calibration(reliable, config),
        checks.robustness(worst, flags, config),
        *checks.detection(ood, config),
        checks.explanation(shown, config),
    )
    name = title or type(clf.model).__name__
    report = AuditReport(
        title=name,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        summary=_summary(name, found, accuracy.overall.value, worst.value, config),
        checks=found,
        accuracy=accuracy,
        calibration=reliable,
        confusion=chapters.confusion(inside, y, classes),
        robustness=chapters.robustness(curves, config, clean),
        gallery=moved,
        hardly=hardly,
        attention=attention.attention(shown, config.explainer.name),
        faithful=faithful,
        ood=ood,
        flags=tuple(flags),
        made=provenance(
            command=command or "assay.audit(clf, x, y, ...), called from Python",
            config=config.model_dump(mode="json"),
            seeds=(config.seed,),
            started=started,
            seconds=time.perf_counter() - clock,
            threads=torch.get_num_threads(),
            data=data or {"x, y": TensorSource(x, y).fingerprint},
            model=clf.fingerprint,
        ),
    )
    return Audit(report, _arrays(inside, y, curves, shown, config))


def _silent(_: str) -> None:
    """Say nothing."""


def _check_labels(x: Tensor, y: Tensor) -> None:
    if y.ndim != 1 or len(y) != len(x):
        raise AssayError(f"y must hold one label per image ({len(x)},), got {tuple(y.shape)}")
    if y.is_floating_point() or y.dtype == torch.bool:
        raise AssayError(f"labels must be class numbers (int64), got {y.dtype}")
    if len(x) < MIN_IMAGES:
        raise AssayError(f"an audit needs at least {MIN_IMAGES} images, got {len(x)}")
    if int(y.min()) < 0:
        raise AssayError(f"labels must be 0 or more, got {int(y.min())}")


def _images(given: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """Return images and labels as the audit works with them."""
    if given is None:
        return None
    return check_images(given[0]).detach().float().cpu(), torch.as_tensor(given[1]).cpu().long()


MIN_IMAGES = 20


def _fitting(
    clf: Classifier,
    inside: Embedding,
    x: Tensor,
    y: Tensor,
    reference: tuple[Tensor, Tensor] | None,
    calibration: tuple[Tensor, Tensor] | None,
) -> tuple[chapters.Fitting, Embedding]:
    """Return what detectors are fitted and calibrated on, and the images that are scored."""
    if reference is not None:
        images, labels = reference
        cut = len(images) if calibration is not None else len(images) // 2
        if cut < 1:
            raise AssayError(f"reference needs at least 2 images, got {len(images)}")
        held = (images[cut:], labels[cut:]) if calibration is None else calibration
        fit = chapters.Fitting(
            clf.embed(images[:cut], labels[:cut]),
            labels[:cut],
            clf.embed(*held),
            f"{cut:,} reference images",
            f"{len(held[0]):,} {'other reference' if calibration is None else 'held-out'} images",
        )
        return fit, inside
    third = len(x) // 3
    parts = [
        clf.embed(x[a:b], y[a:b]) for a, b in ((0, third), (third, 2 * third), (2 * third, None))
    ]
    fit = chapters.Fitting(
        parts[0],
        y[:third],
        parts[1],
        f"{third:,} of the test images, for want of reference data; the others are scored",
        f"{third:,} other test images",
    )
    return fit, parts[2]


def _flags(
    clf: Classifier, x: Tensor, y: Tensor, curves: chapters.Curves, config: AuditConfig
) -> list[Flag]:
    """Return the reasons not to trust the robustness figures, those that are up and the others."""
    few = slice(0, 64)
    armed = [chapters.at_budget(attack, config, config.eps) for attack in config.attacks]
    found_at = [dict(curves[chapters.label(attack)])[config.eps] for attack in config.attacks]
    strongest = _strongest(armed, found_at)
    attack, at = armed[strongest], found_at[strongest]
    curve = [result for _, result in curves[chapters.label(config.attacks[strongest])]]
    losses = reliability.followed(attack) or ("cross_entropy",)
    found = [
        reliability.vanishing_gradients(clf, x[few], y[few], losses=losses),
        reliability.randomised(clf, x[few]),
        reliability.outputs_were_probabilities(clf),
        reliability.rounding_undoes(at),
    ]
    if not isinstance(attack, Noise):
        found.append(reliability.unbounded_fails(attack, clf, x[few], y[few], seed=config.seed))
    if len(curve) > 1:
        found.append(reliability.larger_budget_worse(curve))
    single = [r for a, r in zip(armed, found_at, strict=True) if isinstance(a, FGSM)]
    if single and attack.needs == "gradient" and not isinstance(attack, FGSM):
        found.append(reliability.iterated_worse(single[0], at))
    right = at.correct[few].nonzero()[:, 0]
    if len(right) and attack.needs == "gradient" and not attack.minimum_norm:
        found.append(
            reliability.loss_does_not_rise(attack, clf, x[right], y[right], seed=config.seed)
        )
    if len(right) and attack.needs == "gradient" and config.norm != "l0":
        found.append(_black_box(attack, clf, x[right], y[right], config))
    found.sort(key=lambda flag: flag.code)
    return [Flag(code=f.code, title=f.title, raised=f.raised, detail=f.detail) for f in found]


def _strongest(attacks: Sequence[Attack], results: Sequence[AttackResult]) -> int:
    """Return the place of the attack that flags are about: of those by more than one gradient the
    one that fooled the most images; if there is none, of FGSM; then of those without gradients;
    noise, which is no attack, comes last."""

    def rank(k: int) -> tuple[bool, bool, bool, int, int]:
        attack = attacks[k]
        by_gradient = attack.needs == "gradient"
        fooled = int(results[k].fooled.sum())
        return (not isinstance(attack, Noise), by_gradient, not isinstance(attack, FGSM), fooled, k)

    return max(range(len(attacks)), key=rank)


def _black_box(
    attack: Attack, clf: Classifier, x: Tensor, y: Tensor, config: AuditConfig
) -> reliability.Indicator:
    """Hold the attack against one that asks for no gradient, on the same few images."""
    square = Square(norm=config.norm, eps=config.eps, queries=BLACK_BOX_QUESTIONS)
    white, black = (
        one(clf, x, y, stop="fooled", seed=config.seed, precision=config.precision)
        for one in (attack, square)
    )
    return reliability.black_box_beats_white_box(white, black)


BLACK_BOX_QUESTIONS = 200
"""Questions per image that the audit's black-box attack may ask: enough to show masked gradients,
which leave images standing that fall to a few random squares."""


def _summary(
    name: str,
    found: Sequence[Check],
    accuracy: float | None,
    worst: float,
    config: AuditConfig,
) -> str:
    count = {v: sum(c.verdict == v for c in found) for v in ("pass", "fail", "undecided")}
    failed = ", ".join(c.code for c in found if c.verdict == "fail") or "none"
    return (
        f"{name} is right on {100 * (accuracy or 0):.1f} % of the images as they are, and on "
        f"{100 * worst:.1f} % "
        f"when each may be changed by at most {budget(config.eps, config.norm)} "
        f"({norm_name(config.norm)}). Of {len(found)} checks, {count['pass']} passed, "
        f"{count['fail']} failed ({failed}) and {count['undecided']} are undecided."
    )


def _arrays(
    inside: Embedding,
    y: Tensor,
    curves: chapters.Curves,
    shown: attention.Shown | NotRun,
    config: AuditConfig,
) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"labels": y.numpy(), "logits": inside.logits.numpy()}
    if not isinstance(shown, NotRun):
        arrays["gallery/ids"] = shown.ids.numpy()
        arrays["gallery/adversarial"] = shown.result.adversarial.numpy()
        if shown.maps is not None:
            for when in ("before", "after", "noise"):
                maps = getattr(shown.maps, when).values.numpy()
                arrays[f"gallery/map_{when}"] = maps.astype(np.float32)
    for name, points in curves.items():
        slug = name.lower().replace(", ", "-").replace(" ", "-")
        for eps, result in points:
            if eps == config.eps:
                arrays[f"{slug}/adversarial"] = result.adversarial.numpy()
                arrays[f"{slug}/success"] = result.success.numpy()
    return arrays
