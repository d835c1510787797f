"""Where does a trained CNN look, and where once it is attacked? The course's most striking pictures
as a measurement.

The saliency map of an image is compared with that of the attacked image, for the true class on
both: a successful attack changes what is predicted, and a map of another class has moved by that
alone, which is shown apart. How far any change of that size moves a map is measured by noise (the
noise baseline), how far another image altogether by one of the same class (the same-class
control).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from assay import stats
from assay.attacks.methods.genetic import Genetic
from assay.attacks.methods.pgd import FGSM, PGD
from assay.attacks.methods.pixels import FewPixel
from assay.attacks.registry import AnyAttack
from assay.config import Number
from assay.errors import repeated
from assay.explain.cam import GradCAM
from assay.explain.registry import AnyExplainer
from assay.report.result import Drawing, StudyResult
from assay.runs.entry import Result
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.studies.attention import lead, page
from assay.studies.attention.galleries import named
from assay.studies.base import Findings
from assay.studies.cells import Cells
from assay.studies.subjects import ROBUST, SubjectStudy, cell, hardening, of_skip
from assay.tasks.saliency_shift import AttendNetwork

COURSE_TARGET = 6
"""The class that the course's attack leads to: a frog."""


class Attention(SubjectStudy):
    """How far attacks move the saliency map of a trained CNN, natural and adversarially trained."""

    NAME: ClassVar[str] = "attention"
    QUESTION: ClassVar[str] = "Where does a trained CNN look, and where once it is attacked?"
    METRICS: ClassVar[Sequence[str]] = ("attacked_overlap", "success_share", "test_accuracy")
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": "digits",
            "seeds": 2,
            "network": of_skip("smoke", 1).model_dump(mode="json"),
            "robust": hardening(0.1, steps=3).model_dump(mode="json"),
            "images": 60,
            "kept": 3,
            "attacks": (
                {"name": "fgsm", "eps": 0.05},
                {"name": "pgd", "eps": 0.1, "steps": 10},
                {"name": "few-pixel", "eps": 5, "steps": 5},
                {"name": "genetic", "eps": 0.1, "steps": 10},
            ),
        },
        # Three steps of half the budget in place of seven: training takes half the time.
        "quick": {"robust": PGD(eps=8 / 255, steps=3, step_size=4 / 255).model_dump(mode="json")},
        "full": {},
        # FGSM 0.06 in normalised units is about 4/255; the course ran it towards class 6.
        "paper": {"course": True, "robust": None, "attacks": (FGSM(eps=4 / 255).model_dump(),)},
    }

    robust: AnyAttack | None = hardening(8 / 255)
    """Also put to the test the same network trained against this attack (adversarial training);
    none: do not."""
    attacks: tuple[AnyAttack, ...] = Field(
        default=(
            FGSM(eps=2 / 255),
            PGD(eps=2 / 255, steps=20),
            PGD(eps=8 / 255, steps=20),
            FewPixel(eps=5),
            Genetic(eps=4 / 255, steps=100),
        ),
        min_length=1,
    )
    """The attacks. All steps are made: where an attack stops early, images hug the boundary. The
    course's 0.031 in normalised units is about 2/255; at its budgets some images are not fooled,
    which a comparison of successes and failures needs."""
    explainer: AnyExplainer = GradCAM()
    """How a network is explained."""
    images: int = Field(default=300, ge=10)
    """How many test images of every network are attacked and explained: a stable random subset."""
    kept: int = Field(default=6, ge=1)
    """How many images a gallery shows at most."""
    delta: Number = Field(default=0.05, ge=0, lt=1)
    """Smallest difference of the overlap that matters, as a fraction."""
    course: bool = Field(default=False, exclude_if=lambda course: not course)
    """Attack towards class 6, as the course did, and judge what explaining the class that is then
    predicted, as the course did, makes of it."""
    delta_entropy: Number = Field(default=0.01, ge=0)
    """Smallest change of a map's entropy that matters, as a share of the greatest there can be."""
    delta_clinging: Number = Field(default=0.1, ge=0)
    """By how much less, or more, than a random map a map must hold of the perturbation, to
    matter."""

    @field_validator("attacks")
    @classmethod
    def _distinct(cls, attacks: tuple[AnyAttack, ...]) -> tuple[AnyAttack, ...]:
        names = [named(attack) for attack in attacks]
        twice = repeated(names)
        if twice:
            raise ValueError(f"every attack and budget is there once; {twice} is not")
        return attacks

    def trials(self) -> dict[str, list[Trial]]:
        """Return the trials of every cell (an attack on a network), one per seed."""
        found = {}
        for network, needs in self.networks().items():
            for attack in self.attacks:
                name = cell(named(attack), network)
                found[name] = AttendNetwork(
                    attack=attack,
                    explainer=self.explainer,
                    images=self.images,
                    images_by_seed=self.drawn,
                    kept=self.kept,
                    target=COURSE_TARGET if self.course else None,
                ).trials(needs, name)
        return found

    def plan(self, done: Results) -> Sequence[Trial]:
        del done
        trained = [trial for trials in self.networks().values() for trial in trials]
        attacked = [trial for seed in zip(*self.trials().values(), strict=True) for trial in seed]
        return [*trained, *attacked]

    def findings(self, done: Results) -> Findings:
        cells = self.cells(self.trials(), done, self.images)
        return Findings(
            effects=self.effects(cells),
            tables=page.tables(self, cells),
            figures=page.figures(self, cells),
            summary=page.summary(self, cells),
            notes=page.notes(self),
        )

    def answer(self, claims: Sequence[stats.Claim]) -> str:
        return page.answer(self, claims)

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return lead.figures_of(self, result)

    def effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        names = [named(attack) for attack in self.attacks]
        strongest = self.strongest()
        eye = f"{100 * self.delta:g} points are about what the eye makes out on two maps"
        if self.course:
            return self._as_course(cells, names[0], eye)
        found = [
            cells.effect(
                "attention.moves",
                "Attacks move the saliency map further than noise of the same size: less of its "
                "top fifth stays, on the mean of all attacks.",
                delta=self.delta,
                of=names,
                value=lambda *runs: sum(map(beyond_noise, runs)) / len(runs),
                images=lambda rows: by_image([beyond_noise_by_image(runs) for runs in rows]),
                why_delta=f"{eye}; who sees no difference draws no other conclusion.",
            ),
            cells.effect(
                "attention.success",
                "Attacks that succeed move the saliency map further than attacks that fail, at "
                "equal clean margin.",
                delta=self.delta,
                of=names,
                value=pooled_gap,
                why_delta=f"{eye}; for less a map could not warn of an attack that succeeded.",
            ),
            cells.effect(
                "attention.scatters",
                "Under attack the map scatters, as the course says: its entropy rises, on the mean "
                "of all attacks.",
                delta=self.delta_entropy,
                of=names,
                value=lambda *runs: mean_of(runs, "attacked_entropy"),
                why_delta="a hundredth of the greatest entropy is a map that rests on about 7 % "
                "more of 32 × 32 pixels; nobody would see less.",
            ),
        ]
        pixels = [named(attack) for attack in self.attacks if attack.name == "few-pixel"]
        if pixels:
            found.append(
                cells.effect(
                    "attention.clings",
                    f"Under {pixels[0]} the map clings to the perturbation, as the course says: "
                    "there is more of it where the map is high than a random map has.",
                    delta=self.delta_clinging,
                    of=(pixels[0],),
                    value=lambda run: mean_of([run], "attacked_clinging"),
                    unit="number",
                    why_delta="a tenth more is what one pixel in ten that is moved into the map "
                    "makes; for less nobody would say that the map clings to anything.",
                )
            )
        if self.robust is not None and strongest is not None:
            found.append(
                cells.effect(
                    "attention.steadier",
                    f"Under {strongest} adversarial training keeps the saliency map steadier: more "
                    "of its top fifth stays, on images that both networks classify correctly.",
                    delta=self.delta,
                    of=(cell(strongest, ROBUST), strongest),
                    value=steadier,
                    images=lambda rows: by_image([steadier_by_image(*runs) for runs in rows]),
                    why_delta=f"{eye}; for less nobody would train adversarially to have maps that "
                    "stay.",
                )
            )
        return tuple(found)

    def _as_course(self, cells: Cells, name: str, eye: str) -> tuple[stats.Effect, ...]:
        """Return the effects of the course's protocol: on fooled images, the map of the class that
        is then predicted beside that of the true class."""
        return (
            cells.effect(
                "attention.course-class",
                "Explained for the class that is then predicted, as the course did, the map of a "
                "fooled image moves further than explained for its true class.",
                delta=self.delta,
                of=(name,),
                value=lambda run: mean_of_images(by_class(run)),
                images=lambda rows: by_image([by_class(run) for (run,) in rows]),
                why_delta=f"{eye}; by as much a map would seem to have moved that has not.",
            ),
            cells.effect(
                "attention.course-scatters",
                "Explained for the class that is then predicted, the map of a fooled image "
                "scatters, as the course says: its entropy rises.",
                delta=self.delta_entropy,
                of=(name,),
                value=lambda run: mean_of_images(entropy_of_predicted(run)),
                images=lambda rows: by_image([entropy_of_predicted(run) for (run,) in rows]),
                why_delta="a hundredth of the greatest entropy is a map that rests on about 7 % "
                "more of 32 × 32 pixels; nobody would see less.",
            ),
        )

    def strongest(self) -> str | None:
        """Return the attack that natural and robust networks are compared under: PGD at its
        largest budget, or else none."""
        pgd = [attack for attack in self.attacks if attack.name == "pgd"]
        return named(max(pgd, key=lambda attack: attack.threat.eps)) if pgd else None


def mean_of(runs: Sequence[Result], metric: str) -> float:
    """Return the mean of a metric over runs; NaN where one lacks it."""
    return float(sum(run.metrics.get(metric, math.nan) for run in runs) / len(runs))


def beyond_noise(run: Result) -> float:
    """Return by how much less the map overlaps under the attack than under noise: the mean over
    images that have both maps."""
    return mean_difference(run.arrays["noise_overlap"], run.arrays["attacked_overlap"])


def beyond_noise_by_image(runs: Sequence[Result]) -> dict[int, float]:
    """Return what each image adds to the mean of `beyond_noise` over several attacks, by its id, so
    that the mean over images is that mean: an attack that emptied many maps has fewer images, which
    count the more."""
    sums: dict[int, float] = {}
    counts = []
    for run in runs:
        difference = run.arrays["noise_overlap"].astype(np.float64) - run.arrays["attacked_overlap"]
        known = np.isfinite(difference)
        counts.append(int(known.sum()))
        for image, value in zip(
            run.arrays["ids"][known].tolist(), difference[known].tolist(), strict=True
        ):
            sums[image] = sums.get(image, 0.0) + value / counts[-1]
    return {image: value * len(sums) / len(runs) for image, value in sums.items()}


def steadier(one: Result, other: Result) -> float:
    """Return by how much more of the map stays under the attack in one network than in another:
    the mean over the images that both classify correctly."""
    return mean_of_images(steadier_by_image(one, other))


def steadier_by_image(one: Result, other: Result) -> dict[int, float]:
    """Return the same of each image that has both maps in both networks, by its id."""
    ids, mine, theirs = np.intersect1d(one.arrays["ids"], other.arrays["ids"], return_indices=True)
    difference = (
        one.arrays["attacked_overlap"][mine].astype(np.float64)
        - other.arrays["attacked_overlap"][theirs]
    )
    known = np.isfinite(difference)
    return dict(zip(ids[known].tolist(), difference[known].tolist(), strict=True))


def by_class(run: Result) -> dict[int, float]:
    """Return how much less of the map of each fooled image stays when the class that is then
    predicted is explained, and not the true one, by its id."""
    return fooled_images(run, run.arrays["attacked_overlap"] - run.arrays["predicted_overlap"])


def entropy_of_predicted(run: Result) -> dict[int, float]:
    """Return by how much the entropy of the map of each fooled image rises when the class that is
    then predicted is explained, by its id."""
    return fooled_images(run, run.arrays["predicted_entropy"])


def fooled_images(run: Result, values: NDArray[Any]) -> dict[int, float]:
    """Return those of the values that are of fooled images and finite, by the image's id."""
    kept = run.arrays["fooled"] & np.isfinite(values)
    return dict(zip(run.arrays["ids"][kept].tolist(), values[kept].tolist(), strict=True))


def mean_of_images(found: Mapping[int, float]) -> float:
    """Return the mean over images; NaN where there is none."""
    return sum(found.values()) / len(found) if found else math.nan


def by_image(rows: Sequence[Mapping[int, float]]) -> stats.PerImage | None:
    """Return numbers by image as a table, a row for each seed; NaN where a seed has none."""
    ids = sorted(set().union(*rows))
    if not ids:
        return None
    values = [[row.get(image, math.nan) for image in ids] for row in rows]
    return stats.PerImage(np.array(values), "number")


def mean_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the mean of a − b (n,) over the rows that have both; NaN where none has."""
    difference = a.astype(np.float64) - b
    known = difference[np.isfinite(difference)]
    return float(known.mean()) if len(known) else math.nan


def pooled_gap(*runs: Result) -> float:
    """Return how much more of the top fifth is lost where attacks succeed, at equal clean margin,
    over all attacks: weighted by how much each says of it. NaN where none fooled some images and
    not others."""
    known = [run.metrics for run in runs if run.metrics["gap"] is not None]
    weight = sum(held["gap_weight"] for held in known)
    return sum(held["gap"] * held["gap_weight"] for held in known) / weight if known else math.nan
