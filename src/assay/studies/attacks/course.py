"""The course's attacks as it ran them, beside the same with their faults mended one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay import stats
from assay.report.heroes import Dot, dots, hero, said
from assay.report.result import Drawing, StudyResult, Table
from assay.runs.trial import Trial
from assay.studies.answers import Wording, points
from assay.studies.cells import Cells, Column
from assay.tasks.course_attack import CourseAttack

if TYPE_CHECKING:
    from assay.studies.attacks.study import Attacks

FGSM, AWAY = "FGSM towards a class", "FGSM away from the true class"
PGD, SHORT, VALID = "PGD, long steps", "PGD, short steps", "PGD, short steps, in [0, 1]"
PIXELS, VALID_PIXELS = "few-pixel", "few-pixel, in [0, 1]"
GENETIC, ODDS = "genetic, all or nothing", "genetic, by odds"
MENDED = {FGSM: AWAY, PGD: SHORT, PIXELS: VALID_PIXELS, GENETIC: ODDS}
"""What the course ran, and the same with one fault less."""
TABLE = "The course's attacks, as it ran them and mended"


def attacks(study: Attacks) -> dict[str, CourseAttack]:
    """Return the course's attacks, and the same mended, by what their cells are called."""
    short: dict[str, object] = {"method": "pgd", "step": 0.031 / 4}
    found: dict[str, dict[str, object]] = {
        FGSM: {"method": "fgsm"},
        AWAY: {"method": "fgsm", "target": None},
        PGD: {"method": "pgd"},
        SHORT: short,
        VALID: {**short, "clipped": True},
        PIXELS: {"method": "few-pixel"},
        VALID_PIXELS: {"method": "few-pixel", "clipped": True},
        GENETIC: {"method": "genetic"},
        ODDS: {"method": "genetic", "fitness": "odds"},
    }
    more = {"images": study.images, "images_by_seed": study.drawn}
    return {name: CourseAttack.parse({**settings, **more}) for name, settings in found.items()}


def trials(study: Attacks, networks: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Return the trials of these attacks on some networks, one per seed, by cell."""
    return {name: made.trials(networks, name) for name, made in attacks(study).items()}


def effects(study: Attacks, cells: Cells) -> tuple[stats.Effect, ...]:
    """Return what the claims on the course's attacks rest on."""
    share = f"{100 * study.delta:g} images in a hundred"

    def more(code: str, text: str, a: str, b: str, why: str) -> stats.Effect:
        return cells.difference(
            code, text, a, b, "success_share", delta=study.delta, why_delta=f"{why} {share}."
        )

    return (
        more(
            "attacks.course-target",
            "FGSM away from the true class fools more images than the course's, towards one class.",
            AWAY,
            FGSM,
            "whoever tests robustness by a targeted attack alone would overlook",
        ),
        more(
            "attacks.course-step",
            "PGD with steps of a quarter of its radius fools more images than with the course's, "
            "of twice its radius.",
            SHORT,
            PGD,
            "a step that is longer than the radius would overlook",
        ),
        more(
            "attacks.course-fitness",
            "Bred for the odds against the true class, the course's genetic attack fools more "
            "images than bred for success alone.",
            ODDS,
            GENETIC,
            "for less nobody would change the fitness; it would overlook",
        ),
        cells.contrast(
            "attacks.course-clip",
            "Kept in [0, 1], PGD at the course's radius fools as many images as without.",
            {VALID: 1.0, SHORT: -1.0},
            "success_share",
            delta=study.delta,
            asks="equivalent",
            why_delta="for less, what was made outside [0, 1] misleads nobody about how many "
            f"images can be fooled; it would be {share}.",
        ),
    )


def wordings() -> dict[str, Wording]:
    """Return how these claims read."""
    scale = points("success")
    return {
        "attacks.course-step": Wording(
            "The course's PGD is weakened by its steps, twice as long as its radius: with short "
            "ones it fools more images",
            "The course's PGD is not weakened by its steps, twice as long as its radius: with "
            "short ones it fools no more images",
            "the course's PGD fools more images with steps shorter than its radius",
            scale,
        ),
        "attacks.course-target": Wording(
            "FGSM away from the true class fools more images than towards one class, as the course "
            "ran it",
            "FGSM away from the true class fools no more images than towards one class, as the "
            "course ran it",
            "FGSM away from the true class fools more images than towards one class",
            scale,
        ),
        "attacks.course-fitness": Wording(
            "The genetic attack fools more images when it is bred for odds than for success alone, "
            "as the course's was",
            "The genetic attack fools no more images when it is bred for odds than for success "
            "alone, as the course's was",
            "the genetic attack fools more images when it is bred for odds than for success alone",
            scale,
        ),
        "attacks.course-clip": Wording(
            "That the course did not keep its images in [0, 1] changes nothing for PGD",
            "That the course did not keep its images in [0, 1] matters for PGD",
            "it matters for PGD that the course did not keep its images in [0, 1]",
            scale,
        ),
    }


def table(cells: Cells, study: Attacks) -> Table:
    """Return what the course's attacks do, as it ran them and mended."""
    return cells.table(
        TABLE,
        (
            Column("fooled", "success_share"),
            Column("fooled once it is an image", "image_share"),
            Column("values outside [0, 1]", "outside_share"),
        ),
        cells=list(attacks(study)),
        caption="Shares are of the correctly classified images. Budgets are the course's: 0.031 in "
        "normalised units, about 2/255 of a pixel's range; 20 pixels moved by as much; a genetic "
        "algorithm (10 candidates, 50 generations) that nothing bounds. Once it is an image: "
        "clipped to [0, 1] and rounded to 8 bits, as a file would hold it. As the course ran them: "
        f"{', '.join(MENDED)}.",
        heading="attack",
    )


def figures_of(result: StudyResult) -> list[Drawing]:
    """Return what each of the course's attacks fools as it ran it, and mended: what leads."""
    table = result.table(TABLE)
    fooled = table.column("fooled") if table else {}
    pairs = [pair for pair in MENDED.items() if set(pair) <= set(fooled)]
    if not pairs:
        return []
    rows = [
        (
            theirs.split(",")[0].split()[0],
            (
                Dot("as the course ran it", fooled[theirs], 1),
                Dot("with one fault mended", fooled[mended], 0),
            ),
        )
        for theirs, mended in pairs
    ]
    gains = {
        mended: (fooled[mended].value or 0) - (fooled[theirs].value or 0)
        for theirs, mended in pairs
    }
    most = max(gains, key=lambda mended: abs(gains[mended]))
    theirs = next(one for one, other in pairs if other == most)
    return [
        hero(
            "The course's attacks, and one fault less",
            f"{theirs[:1].upper()}{theirs[1:]}: {said(fooled[theirs])} fooled; {most}: "
            f"{said(fooled[most])}",
            "Share of the correctly classified images that are fooled, mean over seeds with its "
            f"95 % interval. Mended: {'; '.join(mended for _, mended in pairs)}.",
            lambda width: dots(rows, width=width, x_label="fooled"),
        )
    ]


def notes() -> tuple[str, ...]:
    """Return what a reader must know of the course's attacks."""
    return (
        "The first table runs the course's attacks as its notebooks did, faults included: budgets "
        "in normalised units, values that leave [0, 1], FGSM towards class 6, PGD with steps of "
        "twice its radius, a genetic fitness of all or nothing. How its parents were chosen is not "
        "handed down: here two of the fitter half.",
    )
