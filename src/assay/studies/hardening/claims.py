"""What the study of hardening claims, and what it says of the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from assay import stats
from assay.report.numerals import bare, budget
from assay.studies.answers import Scale, Wording, compose, points
from assay.studies.cells import Cells
from assay.studies.hardening.names import MIX, NATURAL, NOISY, SEVERAL, SHORT, under
from assay.tasks.images import apart

if TYPE_CHECKING:
    from assay.studies.hardening.study import Hardening


def effects(study: Hardening, cells: Cells) -> tuple[stats.Effect, ...]:
    """Return what is claimed, and what it rests on."""
    judge, at = study.judge, budget(study.eps, "linf")
    natural = under(NATURAL, judge)

    def more(code: str, text: str, a: str, b: str, metric: str, why: str) -> stats.Effect:
        return cells.difference(code, text, a, b, metric, delta=study.delta, why_delta=why)

    found = [
        more(
            f"hardening.holds.{code}",
            f"Trained by {name}, more images remain right under {judge} at {at} than after "
            "natural training.",
            under(name, judge),
            natural,
            "robust_accuracy",
            "Less is what another seed changes.",
        )
        for code, name in (("mix", MIX), ("noisy", NOISY), ("several", SEVERAL))
    ]
    found += [
        more(
            f"hardening.costs.{code}",
            f"{name} costs clean accuracy.",
            NATURAL,
            name,
            "test_accuracy",
            "For less accuracy than that few would do without robustness.",
        )
        for code, name in (("noisy", NOISY), ("several", SEVERAL))
    ]
    found.append(
        more(
            "hardening.seen",
            "The static mix is more robust under the attack that it saw (fgsm) than under "
            f"{judge}.",
            under(MIX, "fgsm"),
            under(MIX, judge),
            "robust_accuracy",
            "Less is what another seed changes.",
        )
    )
    found.append(
        more(
            "hardening.defends",
            f"The static mix leaves more images right at {at} under the attack that it saw (fgsm) "
            "than natural training.",
            under(MIX, "fgsm"),
            under(NATURAL, "fgsm"),
            "robust_accuracy",
            "Less is what another seed changes.",
        )
    )
    found.append(
        cells.contrast(
            "hardening.little",
            f"Under {judge} the static mix brings less than half of what PGD-AT brings over "
            "natural training.",
            {under(SEVERAL, judge): 0.5, natural: 0.5, under(MIX, judge): -1.0},
            "robust_accuracy",
            delta=study.delta,
            note="What half of PGD-AT's gain leaves right, less what the mix does.",
            why_delta="Less is what another seed changes.",
        )
    )
    found.append(
        more(
            "hardening.cheap",
            f"At equal compute N-FGSM leaves more images right under {judge} than PGD-AT.",
            under(NOISY, judge),
            under(SEVERAL, judge),
            "robust_accuracy",
            "Less is what another seed changes.",
        )
    )
    found.append(
        more(
            "hardening.third",
            f"PGD-AT leaves more images right under {judge} than N-FGSM with a third of its "
            "passes.",
            under(SEVERAL, judge),
            under(SHORT, judge),
            "robust_accuracy",
            "Less is what another seed changes, and is not worth three times the compute.",
        )
    )
    for code, kind, text in (
        ("noise", "noise_auroc", "Hardening by N-FGSM improves the detection of noise"),
        ("near", "near_auroc", "Hardening by N-FGSM improves the detection of near outliers"),
    ):
        effect = more(
            f"hardening.{code}",
            f"{text} by max-logit (AUROC).",
            under(NOISY, "examined"),
            under(NATURAL, "examined"),
            kind,
            "Detectors differ by as much from seed to seed.",
        )
        drawn = study.images_by_seed and apart(study.examined, study.seeds, cells.there_are or 0)
        found.append(replace(effect, images_drawn=drawn))
    return tuple(found)


def answer(study: Hardening, judged: Sequence[stats.Claim]) -> str:
    """Return what the verdicts answer."""
    judge, accuracy = study.judge, points("accuracy")
    area = points("AUROC")

    def holds(name: str) -> Wording:
        return Wording(
            f"{name} is more robust under {judge} than natural training",
            f"{name} is no more robust under {judge} than natural training",
            f"{name.replace('The', 'the')} is more robust under {judge}",
            accuracy,
        )

    def costs(name: str) -> Wording:
        return Wording(
            f"{name} costs clean accuracy",
            f"{name} costs no clean accuracy that matters",
            f"{name} costs clean accuracy",
            points("accuracy lost"),
        )

    def detects(of: str) -> Wording:
        return Wording(
            f"Hardening by N-FGSM makes {of} easier to detect by max-logit",
            f"Hardening by N-FGSM does not make {of} easier to detect by max-logit",
            f"hardening by N-FGSM makes {of} easier to detect",
            area,
        )

    return compose(
        judged,
        {
            "hardening.holds.several": holds("PGD-AT"),
            "hardening.holds.noisy": holds("N-FGSM"),
            "hardening.holds.mix": holds("The static mix"),
            "hardening.costs.several": costs("PGD-AT"),
            "hardening.costs.noisy": costs("N-FGSM"),
            "hardening.seen": Wording(
                f"The static mix is more robust under the attack that it saw than under {judge}",
                f"The static mix is no more robust under the attack that it saw than under {judge}",
                "the static mix is robust above all under the attack that it saw",
                accuracy,
            ),
            "hardening.defends": Wording(
                "The static mix is more robust under the attack that it saw than natural training",
                "The static mix is no more robust under the attack that it saw than natural "
                "training",
                "the static mix defends against the attack that it saw",
                accuracy,
            ),
            "hardening.little": Wording(
                f"Under {judge} the static mix brings less than half of what PGD-AT brings",
                f"Under {judge} the static mix brings half of what PGD-AT brings, or nearly",
                f"the static mix brings little under {judge}",
                Scale(
                    "{value} points of accuracy short of half ({low} to {high})",
                    lambda x: bare(x, "points"),
                    "{delta} points would matter",
                ),
            ),
            "hardening.cheap": Wording(
                f"At equal compute N-FGSM is more robust under {judge} than PGD-AT",
                f"At equal compute N-FGSM is no more robust under {judge} than PGD-AT",
                f"at equal compute N-FGSM is more robust under {judge} than PGD-AT",
                accuracy,
            ),
            "hardening.third": Wording(
                f"PGD-AT is more robust under {judge} than N-FGSM at a third of the compute",
                f"PGD-AT is no more robust under {judge} than N-FGSM at a third of the compute",
                f"PGD-AT is more robust under {judge} than N-FGSM at a third of the compute",
                accuracy,
            ),
            "hardening.noise": detects("noise"),
            "hardening.near": detects("near outliers"),
        },
    )
