"""How easily is a trained CNN fooled? The course's attacks, and the field's, at rising budgets.

Every attack is run on the same test images of the same networks; a success counts only among the
images that the network classifies correctly, and the float32 original has to confirm it. Noise of
the same size is the baseline: what it achieves is not due to an attack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import Field, field_validator

from assay import stats
from assay.attacks.methods.deepfool import DeepFool
from assay.attacks.methods.genetic import Genetic
from assay.attacks.methods.noise import Noise
from assay.attacks.methods.pgd import FGSM, PGD
from assay.attacks.methods.pixels import FewPixel, OnePixel
from assay.attacks.methods.square import Square
from assay.attacks.methods.universal import Universal
from assay.attacks.registry import AnyAttack
from assay.config import Number
from assay.errors import repeated
from assay.report.numerals import budget, norm_name
from assay.report.result import Drawing, StudyResult
from assay.runs.entry import Result
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.studies.attacks import course, lead, page
from assay.studies.base import Findings
from assay.studies.cells import Cells
from assay.studies.on_images import per_image
from assay.studies.subjects import NATURAL, SubjectStudy, cell, hardening, of_skip
from assay.tasks.attack import AttackNetwork
from assay.tasks.transfer import Transferring


@dataclass(frozen=True)
class BudgetedAttack:
    """An attack at one budget, as one cell of the study.

    Attributes:
        name: what the cell is called: "pgd 8/255".
        method: what the attack is called.
        attack: the attack.
    """

    name: str
    method: str
    attack: AnyAttack

    @property
    def eps(self) -> float:
        """The budget; infinite for a minimum-norm method."""
        return self.attack.threat.eps


class Attacks(SubjectStudy):
    """The course's attacks and the field's on a trained CNN, at rising budgets, over seeds."""

    NAME: ClassVar[str] = "attacks"
    QUESTION: ClassVar[str] = "How easily is a trained CNN fooled, and by which attack?"
    METRICS: ClassVar[Sequence[str]] = (
        "success_share",
        "test_accuracy",
        "median_distance",
        "median_queries",
    )
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "data": "digits",
            "seeds": 2,
            "network": of_skip("smoke", 1).model_dump(mode="json"),
            "images": 60,
            "shown": 24,
            "budgets": (0.02, 0.05),
            "at": 0.05,
            "pixels": (1, 5),
            "attacks": (
                {"name": "noise"},
                {"name": "fgsm"},
                {"name": "pgd", "steps": 10},
                {"name": "square", "queries": 60},
                {"name": "genetic", "steps": 20},
                {"name": "noise", "norm": "l0", "eps": 1},
                {"name": "few-pixel", "steps": 5},
                {"name": "one-pixel", "population": 20, "steps": 5},
                {"name": "deepfool"},
            ),
        },
        "quick": {},
        "full": {"robust": hardening(8 / 255).model_dump(mode="json")},
        "paper": {
            "course": True,
            "budgets": (2 / 255,),
            "pixels": (20,),
            "attacks": (
                {"name": "noise"},
                {"name": "fgsm"},
                {"name": "pgd", "steps": 20},
                {"name": "few-pixel"},
                {"name": "genetic", "population": 10, "steps": 50},
            ),
        },
    }

    attacks: tuple[AnyAttack, ...] = Field(
        default=(
            Noise(),
            FGSM(),
            PGD(steps=20),
            Square(queries=500),
            Genetic(steps=100),
            Noise(norm="l0", eps=1),
            FewPixel(),
            OnePixel(population=50, steps=20),
            DeepFool(),
        ),
        min_length=1,
    )
    """The attacks; their eps are the budgets below, but of minimum-norm methods."""
    budgets: tuple[Number, ...] = (0.5 / 255, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
    """Budgets of the attacks in linf, pixel units of [0, 1]; rising."""
    at: Number = 2 / 255
    """The budget in linf at which attacks are compared and classes counted; one of `budgets`."""
    pixels: tuple[int, ...] = (1, 3, 5)
    """Budgets of the attacks in l0, pixels; rising."""
    images: int = Field(default=200, ge=10)
    """How many test images of every network are attacked: a stable random subset."""
    shown: int = Field(default=48, ge=8)
    """How many of them every attack is also run on with all its steps, at its greatest budget: for
    the pictures."""
    delta: Number = Field(default=0.05, ge=0, lt=1)
    """Smallest share of images that matters."""
    course: bool = Field(default=False, exclude_if=lambda course: not course)
    """Run the course's attacks too, as its notebooks did and with one fault less each; the claims
    are then about these."""

    @field_validator("budgets", "pixels")
    @classmethod
    def _rising(cls, budgets: tuple[float, ...]) -> tuple[float, ...]:
        if not budgets or any(eps <= 0 for eps in budgets) or len(set(budgets)) < len(budgets):
            raise ValueError("budgets are positive, and each is there once")
        return tuple(sorted(budgets))

    def model_post_init(self, _: Any) -> None:
        if self.at not in self.budgets:
            known = ", ".join(budget(eps, "linf") for eps in self.budgets)
            raise ValueError(f"at must be one of the budgets, {known}; not {self.at:g}")
        names = [run.name for run in self.runs()]
        twice = repeated(names)
        if twice:
            raise ValueError(f"every attack is there once in each norm; {twice} is not")

    # -- trials --------------------------------------------------------------------------------

    def runs(self) -> list[BudgetedAttack]:
        """Return every attack at every budget it is run with."""
        return [run for attack in self.attacks for run in self.at_budgets(attack)]

    def at_budgets(self, attack: AnyAttack) -> list[BudgetedAttack]:
        """Return one attack at each of its budgets."""
        norm = attack.threat.norm
        method = attack.name if norm == "linf" else f"{attack.name} {norm_name(norm)}"
        if attack.minimum_norm or norm not in ("linf", "l0"):
            return [BudgetedAttack(method, method, attack)]
        budgets = self.budgets if norm == "linf" else self.pixels
        return [
            BudgetedAttack(
                f"{method} {budget(eps, norm)}", method, attack.model_copy(update={"eps": eps})
            )
            for eps in budgets
        ]

    def trials(self) -> dict[str, list[Trial]]:
        """Return the trials of every cell (a network under an attack), one per seed."""
        found = {}
        for network, needs in self.networks().items():
            for run in self.runs():
                name = cell(run.name, network)
                found[name] = AttackNetwork(
                    attack=run.attack, images=self.images, images_by_seed=self.drawn
                ).trials(needs, name)
        if self.course:
            found |= course.trials(self, self.networks()[NATURAL])
        return found

    def pictured(self) -> dict[str, Trial]:
        """Return, by method, the trial whose images are shown: all steps, the greatest budget, the
        first network."""
        need = self.networks()[NATURAL][:1]
        return {
            run.method: AttackNetwork(
                attack=run.attack, images=self.shown, stop="never", kept=self.shown
            ).trials(need, f"pictures of {run.name}")[0]
            for run in (self.at_budgets(attack)[-1] for attack in self.attacks)
        }

    def transferred(self) -> Trial | None:
        """Return the trial that evaluates on all networks what is made on one; None where there
        is one network alone."""
        networks = self.networks()
        if sum(map(len, networks.values())) < 2:
            return None
        eps = self.budgets[-1]
        made = Transferring(
            attack=PGD(eps=eps, steps=20),
            universal=Universal(eps=eps),
            images=self.images,
            names=(),
        )
        return made.trial(networks, "transfer")

    def plan(self, done: Results) -> Sequence[Trial]:
        del done
        trained = [trial for trials in self.networks().values() for trial in trials]
        attacked = [trial for seed in zip(*self.trials().values(), strict=True) for trial in seed]
        transfer = self.transferred()
        other = [*self.pictured().values(), *([transfer] if transfer else [])]
        return [*trained, *other, *attacked]

    # -- findings ------------------------------------------------------------------------------

    def findings(self, done: Results) -> Findings:
        cells = self.cells(self.trials(), done, self.images)
        return Findings(
            effects=self.effects(cells),
            tables=page.tables(self, cells, done),
            figures=page.figures(self, cells, done),
            summary=page.summary(self, cells),
            notes=page.notes(self),
        )

    def named(self, method: str) -> BudgetedAttack | None:
        """Return the attack `method` at the budget of comparison, or at its least; None: absent."""
        found = [run for run in self.runs() if run.method == method]
        return next((run for run in found if run.eps == self.at), next(iter(found), None))

    def answer(self, claims: Sequence[stats.Claim]) -> str:
        return page.answer(self, claims)

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return lead.figures_of(self, result)

    def effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        if self.course:
            return course.effects(self, cells)
        found = []
        share = f"{100 * self.delta:g} images in a hundred"
        fgsm, pgd, noise = self.named("fgsm"), self.named("pgd"), self.named("noise")
        at, most = budget(self.at, "linf"), self.budgets[-1]
        if fgsm and pgd:
            found.append(
                cells.difference(
                    "attacks.iterate",
                    f"At a budget of {at} many small steps (PGD) fool more images than one large "
                    "step (FGSM).",
                    cell(pgd.name),
                    cell(fgsm.name),
                    "success_share",
                    delta=self.delta,
                    why_delta="a test by one step takes a twentieth of the time, and whoever tests "
                    f"by it alone would take {share} more for robust than are.",
                )
            )
        fewest = self.named(f"one-pixel {norm_name('l0')}")
        if fewest:
            found.append(
                self._share(
                    cells,
                    "attacks.pixels",
                    f"{budget(fewest.eps, 'l0').capitalize()}, found without gradients (one-pixel "
                    f"attack), fools more than {100 * self.delta:g} % of the images.",
                    fewest,
                    f"below {share} such an attack is lost among the network's own errors.",
                )
            )
        if noise:
            largest = next(run for run in self.runs() if run.method == "noise" and run.eps == most)
            found.append(
                self._share(
                    cells,
                    "attacks.noise",
                    f"Noise of the greatest budget, {budget(most, 'linf')}, leaves more than "
                    f"{100 * (1 - self.delta):g} % of the images as they were classified.",
                    largest,
                    f"if noise changed the answer on more than {share}, an attack of that size "
                    "could owe its success to luck.",
                    left=True,
                )
            )
        return tuple(found)

    def _share(
        self,
        cells: Cells,
        code: str,
        text: str,
        run: BudgetedAttack,
        why_delta: str,
        *,
        left: bool = False,
    ) -> stats.Effect:
        """Return the effect "the share of images that are fooled (or left) is so high"."""
        return cells.effect(
            code,
            text,
            delta=1 - self.delta if left else self.delta,
            of=(cell(run.name),),
            value=lambda result: (
                1 - result.metrics["success_share"] if left else result.metrics["success_share"]
            ),
            images=lambda rows: shares(rows, left=left),
            floor="success_share",
            unit="fraction",
            why_delta=why_delta,
        )


def shares(rows: Sequence[Sequence[Result]], *, left: bool) -> stats.PerImage | None:
    """Return which images are fooled, or left as they were classified, a row for each seed."""
    found = per_image(rows, (1.0,), "success_share")
    return replace(found, values=1 - found.values) if found is not None and left else found
