"""What the page of the study `ood` says besides its tables and figures: notes and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay import stats
from assay.studies.answers import Wording, compose, points
from assay.studies.cells import Cells
from assay.studies.ood.claims import called
from assay.studies.ood.measures import accuracy

if TYPE_CHECKING:
    from assay.studies.ood.study import OOD


ATTACK = "The attack is PGD on the score. One that fails has shown nothing; one that succeeds has."
BLUR = (
    "An autoencoder blurs: its error grows with the detail of an image, whatever it was trained "
    "on. So it tells noise easily, and photographs of other things badly."
)


def notes(study: OOD, cells: Cells) -> tuple[str, ...]:
    """Return what a reader must know, the most important first."""
    natural = next(iter(study.networks()))
    held = (
        "Two classes are held out of each training, others for each seed; over five seeds each of "
        "ten classes is an outlier once. Networks and classes vary together, and the intervals "
        "hold both; what other images would change they hold as far as seeds do not share theirs."
    )
    return (
        f"The networks are small: {accuracy(cells, natural)}. How well outliers are detected rises "
        "with accuracy, and orders of detectors may change with it.",
        *([held] if study.held_out else []),
        "Settings of detectors are those of their papers, chosen for other networks, and never "
        "tuned on outliers; tuning might help any of them.",
        "A network is the unit: intervals are over networks, with t quantiles. What differs "
        "between images of one network says nothing about detectors.",
        "Far outliers are mostly generated; of photographs there is one other set, of clothes.",
        *([ATTACK] if study.attacked else []),
        *([BLUR] if study.reconstructing() else []),
    )


def answer(study: OOD, claims: Sequence[stats.Claim]) -> str:
    """Return what the verdicts answer."""
    near = called(study.near)
    scale = points("AUROC")

    def words(subject: str, positive: str, negative: str, asked: str) -> Wording:
        return Wording(
            f"{subject} {positive}", f"{subject} {negative}", f"{subject} {asked}", scale
        )

    beat = ("beats max-softmax", "does not beat max-softmax", "beats max-softmax")
    noise = (
        "beats max-logit on noise",
        "does not beat max-logit on noise",
        "beats max-logit on noise",
    )
    wordings = {
        "ood.course": words("reconstruction, run as the course ran it,", *noise),
        "ood.matched": words("reconstruction, each model fed what it was trained on,", *noise),
        "ood.near": words(
            f"on {near} max-logit",
            "is better than reconstruction by an autoencoder",
            "is not better than reconstruction by an autoencoder",
            "is better than reconstruction by an autoencoder",
        ),
        "ood.best": words(f"on {near} the best of KNN, relative Mahalanobis and GEN", *beat),
        "ood.ash": words(
            f"on {near} ASH",
            "is not a point better than max-softmax",
            "is a point better than max-softmax",
            "is no better than max-softmax",
        ),
        "ood.logit-norm": Wording(
            f"LogitNorm helps max-softmax on {near}",
            f"LogitNorm does not help max-softmax on {near}",
            f"LogitNorm helps max-softmax on {near}",
            scale,
        ),
        "ood.complexity": Wording(
            "the length of a PNG detects as well as reconstruction",
            "the length of a PNG detects worse than reconstruction",
            "the length of a PNG detects as well as reconstruction",
            scale,
        ),
        "ood.evaded": Wording(
            "an attacker who knows the detector takes it below a coin",
            "an attacker who knows the detector does not take it below a coin",
            "an attacker who knows the detector takes it below a coin",
            scale,
        ),
    }
    if study.near == "fake-data":  # which the first two ask already
        del wordings["ood.near"]
    return compose(claims, wordings)
