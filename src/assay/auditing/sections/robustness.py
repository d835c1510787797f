"""How accuracy falls as an attacker is allowed more, and whether the attacks can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray
from torch import Tensor

from assay import stats
from assay.attacks.methods.noise import Noise
from assay.attacks.result import AttackResult
from assay.auditing.attacking import (
    Curve,
    attack_all,
    attack_within,
    attacks_on,
    doing,
    label,
    most_queries,
    nearest_first,
    stand_in,
)
from assay.auditing.checks import Criterion, Value, Words
from assay.auditing.cost import Work, attack_work
from assay.auditing.reliability import BLACK_BOX_QUERIES, FEW, flags_of
from assay.auditing.section import Measured, Section
from assay.auditing.sections.fooled import fooled
from assay.core.oracle import Oracle, granted
from assay.errors import AssayError
from assay.report import schema
from assay.report.numerals import attack_name, budget, norm_name

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence

UNDONE_BY_ROUNDING = "REL-007"
"""The flag that bars no pass: successes that rounding undoes were counted all the same."""

LOOKED_AT = "reliability of the attacks"
"""What is said while the flags are looked at."""


class Robustness(Section):
    """Accuracy against eps, for every attack; and image by image, for all of them together.

    Where the model gives no gradients, and all of the attacks need them, one that does not
    replaces them. ROB-001 does not pass while a reliability flag is up or could not be looked
    at, or where an attack could not be run: the attacks may merely have failed. The usual ones are
    not missed where one by queries replaced them: whoever can only ask the model has no gradients
    either. Wherever none of the attacks used gradients, the check says that it is of attacks by
    queries alone; noise is no attack, and passes nothing. What interval bounds prove needs no
    attack: where enough images are certified, nothing bars a pass.
    """

    chapters: ClassVar[tuple[str, ...]] = ("robustness", "fooled")
    fewest: ClassVar[int] = FEW
    """What the reliability flags rest on too."""

    name: Literal["robustness"] = "robustness"
    """The section's name in configs."""

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        at = f"{norm_name(config.norm)} {budget(config.eps, config.norm)}"
        return (
            Criterion(
                "ROB-001",
                f"accuracy under attack at {at}",
                "Does it stay right under every attack together, image by image?",
                config.thresholds.robustness,
                "at least",
                advice="train it on attacked images (assay train --adversary pgd), or audit at the "
                "eps that your use has to reckon with, and ask for the accuracy that it needs",
                words=Words(
                    f"robust to the attacks tried at {at}",
                    "not robust",
                    "it is robust",
                    "robustness",
                ),
                more="--attacked",
                share=True,
            ),
        )

    def rests_on(self, evidence: Evidence) -> int:
        return len(evidence.attacked)

    def work(self, evidence: Evidence) -> tuple[Work, ...]:
        config, model, rows = evidence.config, evidence.model, evidence.attacked
        n = int(evidence.correct[rows].sum())  # no other image is attacked
        run = attacks_on(evidence)
        curve = config.curve if most_queries(model) is None else nearest_first(config)
        ticks = [
            attack_work(attack, n, doing(attack, config, eps)) for attack in run for eps in curve
        ]
        few = min(FEW, len(rows))
        again = [attack_work(attack, few) for attack in run]  # unbounded, and step by step
        dearest = max(again, key=lambda one: one.gradient + one.forward)
        black = few * BLACK_BOX_QUERIES if model.access == "gradient" else 0
        forward = dearest.forward + dearest.gradient + black + 3 * few
        gradient = 2 * dearest.gradient + 2 * few
        return (*ticks, Work("flags", forward, gradient, likely=0.4, doing=LOOKED_AT))

    def measure(self, evidence: Evidence) -> Measured:
        config, model = evidence.config, evidence.model
        limited = most_queries(model) is not None
        run = [one for one in config.attacks if not limited or not granted(model, one.needs)]
        curves, failed = attack_all(evidence, run)
        looked, short = FEW, tuple[schema.Flag, ...]()
        if limited:
            afforded = attack_within(evidence, attacks_on(evidence))
            evidence, curves, failed = afforded.evidence, afforded.curves, failed | afforded.failed
            looked, short = afforded.looked, afforded.flags
        elif not curves and model.access != "gradient":
            curves, more = attack_all(evidence, (stand_in(model.access, config),))
            failed |= more
        rows = evidence.attacked
        if not curves:
            name, why = list(failed.items())[-1]  # the stand-in, where there is one
            raise AssayError(f"no attack could be run; {name}: {why}")
        evidence.tick(LOOKED_AT)
        flags = flags_of(evidence, [dict(curve) for curve in curves.values()], looked)
        right = int(evidence.correct[rows].sum())
        chapter = schema.Robustness.model_validate(
            {
                "clean": stats.proportion(right, len(rows), "all images attacked"),
                "eps": config.eps,
                "threshold": config.thresholds.robustness,
                "curves": [
                    {
                        "attack": name,
                        "norm": config.norm,
                        "points": [_point(eps, found) for eps, found in curve],
                    }
                    for name, curve in curves.items()
                ],
                "failed": failed,
            }
        )
        at_eps = {name: dict(curve)[config.eps] for name, curve in curves.items()}
        replaced = _replaced(model, config, at_eps)
        missed = {one: why for one, why in failed.items() if one not in replaced}
        value = worst_value(list(at_eps.values()), flags, missed)
        tried = {found.attack.needs for found in at_eps.values() if not _is_noise(found)}
        if tried and "gradient" not in tried:
            value = by_queries(value, config)
        if value.barred:
            stand = survivors(list(at_eps.values()))
            value = proved(value, evidence.certified(stand), config.thresholds.robustness)
        name = max(at_eps, key=lambda name: int(at_eps[name].fooled.sum()))
        return Measured(
            {"robustness": chapter, "fooled": fooled(name, at_eps[name], evidence)},
            {"ROB-001": value},
            arrays_of(curves, config.eps),
            (*flags, *short),
        )


def survivors(results: Sequence[AttackResult]) -> Tensor:
    """Return which images stay right under every attack, bool (N,)."""
    robust = results[0].correct.clone()
    for result in results:
        robust &= result.robust
    return robust


def worst_value(
    results: Sequence[AttackResult], flags: Sequence[schema.Flag], failed: Mapping[str, str]
) -> Value:
    """Return the share of all images that stay right under every attack, image by image (one that
    the model gives no answer for does not), and what bars a pass."""
    robust = survivors(results)
    up = tuple(flag.code for flag in flags if flag.raised and flag.code != UNDONE_BY_ROUNDING)
    unknown = [f.code for f in flags if f.raised is None and f.code != UNDONE_BY_ROUNDING]
    barred = remedy = ""
    if up:
        are = "is" if len(up) == 1 else "are"
        barred = f"the attacks may have failed rather than the model held: {', '.join(up)} {are} up"
        remedy = "attack it in other ways too, by queries alone and by more steps (--attacks auto)"
    elif unknown:
        barred = f"the attacks may have failed: {', '.join(unknown)} could not be looked at"
        remedy = "see under the flags why not"
    elif failed:
        barred = f"the model was not tried by every attack: {', '.join(failed)} could not be run"
        remedy = "choose attacks that work on it (--attacks), or leave that flag away"
    elif all(map(_is_noise, results)):
        barred = "nothing was tried but noise, which is no attack"
        remedy = "choose attacks (--attacks), or leave that flag away"
    worst = stats.proportion(int(robust.sum()), len(robust), "all images attacked")
    return Value(worst, flags=up, barred=barred, remedy=remedy)


def _replaced(
    model: Oracle[Any], config: AuditConfig, tried: Mapping[str, AttackResult]
) -> frozenset[str]:
    """Return the usual attacks that need gradients of a model that gives none, by their labels, if
    an attack by queries was run in their place; noise is none."""
    usual = type(config).model_fields["attacks"].default
    if config.attacks != usual or all(map(_is_noise, tried.values())):
        return frozenset()
    return frozenset(label(one) for one in usual if not granted(model, one.needs))


def _is_noise(found: AttackResult) -> bool:
    return isinstance(found.attack, Noise)


def by_queries(value: Value, config: AuditConfig) -> Value:
    """Return a value of ROB-001 that says that no attack knew more than the model's answers."""
    at = f"{norm_name(config.norm)} {budget(config.eps, config.norm)}"
    words = Words(
        f"robust to attacks by queries at {at}",
        "not robust",
        "it is robust to attacks by queries",
        "robustness",
    )
    return replace(value, detail=schema.BY_QUERIES, words=words)


def proved(value: Value, certified: Tensor | None, threshold: float) -> Value:
    """Return the same value with nothing that bars it, if what is certified, bool (N,), suffices
    for a pass; as it was otherwise."""
    if certified is None:
        return value
    share = stats.proportion(int(certified.sum()), len(certified), "all images attacked")
    if stats.judge_check(share, threshold, "at least") != "pass":
        return value
    detail = f"{100 * share.value:.1f} % certified, whatever the attack"
    return replace(value, detail=detail, barred="", remedy="", words=None)


def _point(eps: float, found: AttackResult) -> dict[str, Any]:
    spent = found.queries[found.correct].double()
    return {
        "eps": eps,
        "robust_accuracy": found.robust_accuracy,
        "success": found.success_rate,
        "success_8bit": found.after_rounding,
        "seconds": found.seconds,
        "queries": float(spent.median()) if len(spent) else None,
    }


def arrays_of(curves: Mapping[str, Curve], eps: float) -> dict[str, NDArray[Any]]:
    """Return what each attack made at eps, and which images it fooled, by its name in configs."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, curve in curves.items():
        result = dict(curve)[eps]
        called = result.attack.name
        slug = name.replace(attack_name(called), called, 1).lower()
        slug = slug.replace(", ", "-").replace(" ", "-")
        arrays[f"{slug}/adversarial"] = result.adversarial.cpu().numpy()
        arrays[f"{slug}/success"] = result.success.cpu().numpy()
    return arrays
