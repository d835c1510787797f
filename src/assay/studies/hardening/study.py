"""What does hardening buy, and what does it cost? Recipes at equal compute, by the same attacks.

Compute is counted in passes: a forward pass of an image is 1, a backward pass 2, one by the image
alone 1. Every recipe is given the same number of passes; its epochs follow from what a step costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from assay import stats
from assay.attacks.methods.auto import Auto
from assay.attacks.methods.genetic import Genetic
from assay.attacks.methods.pgd import FGSM, PGD
from assay.attacks.methods.pixels import FewPixel
from assay.attacks.registry import AnyAttack
from assay.config import Number, Pixels
from assay.data.augment import Augmentation, NoAugmentation
from assay.models import Network
from assay.models.strided import Strided
from assay.report.numerals import budget
from assay.report.result import Drawing, StudyResult
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.studies.base import Findings
from assay.studies.cell_study import CellStudy
from assay.studies.cells import Cells
from assay.studies.hardening import claims, lead, page
from assay.studies.hardening.names import (
    BALANCED,
    BOUNDED,
    FAST,
    MIX,
    NATURAL,
    NOISY,
    SEVERAL,
    SHORT,
    under,
)
from assay.studies.hardening.presets import PRESETS
from assay.tasks.adversaries import NFGSM, StaticMix
from assay.tasks.attack import AttackNetwork
from assay.tasks.autoencode import Autoencoding, TrainAutoencoder
from assay.tasks.examine import Examining
from assay.tasks.images import apart, how_many
from assay.tasks.saliency_shift import AttendNetwork
from assay.tasks.train import TrainNetwork
from assay.train import IBP, Adam, Guard, OneCycle, Recipe, Trades

PLAIN = NoAugmentation()
"""What there was before there was a choice: addresses do not name it."""


class Hardening(CellStudy):
    """Natural training against recipes that harden, at equal compute, over seeds."""

    NAME: ClassVar[str] = "hardening"
    QUESTION: ClassVar[str] = "What does adversarial training buy, and what does it cost?"
    METRICS: ClassVar[Sequence[str]] = ("robust_accuracy", "test_accuracy", "near_auroc")
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    data: str = "mnist"
    """Data set: a bundled name, a hub id or a folder."""
    network: Network = Strided(widths=(16, 32), kernels=(5, 4), strides=(2, 2), hidden=(100,))
    """The network that every recipe trains."""
    recipe: Recipe = Recipe(batch_size=64, optimizer=Adam(lr=3e-3), schedule=OneCycle(), ema=0.99)
    """What all recipes share; epochs follow from `passes`."""
    augmentation: Augmentation = Field(
        default=PLAIN, exclude_if=lambda augmentation: bool(augmentation == PLAIN)
    )
    """What every recipe does to training images, before they are attacked; of the static mix,
    after."""
    passes: int = Field(default=102, ge=21)
    """Passes per training image that every recipe is given: forward 1, backward 2, by the image
    alone 1."""
    train_images: int | None = Field(default=3000, ge=10)
    """How many training images are used; none: all."""
    test_images: int | None = Field(default=2000, ge=10)
    """How many test images are used; none: all."""
    eps: Pixels = Field(default=0.15, gt=0)
    """The L∞ budget that networks are hardened for and judged at, in pixel units of [0, 1]."""
    mixed_by: Pixels | None = Field(default=None, gt=0)
    """The budget of the static mix; none: `eps`."""
    guard: Guard = Guard(images=128)
    """How N-FGSM and Fast-AT are watched; Fast-AT goes on after a collapse."""
    budgets: tuple[Pixels, ...] = (0.05, 0.1, 0.15, 0.2)
    """Budgets of the curve of accuracy against ε, under PGD."""
    judges: tuple[AnyAttack, ...] = (FGSM(), PGD(steps=20), Auto())
    """What every network is attacked by at `eps`; the last one judges."""
    images: int = Field(default=100, ge=8)
    """How many test images are attacked."""
    course: tuple[AnyAttack, ...] = (FewPixel(), Genetic(steps=100))
    """The course's other attacks; those on pixels have budgets of their own."""
    course_images: int = Field(default=50, ge=8)
    """How many of those images they attack."""
    attended: int = Field(default=100, ge=10)
    """How many of those images are explained before and after PGD."""
    autoencoder: Autoencoding = Autoencoding(epochs=20, batch_size=64)
    """What finds outliers by reconstruction, beside max-logit."""
    examined: int = Field(default=500, ge=8)
    """How many test images, and outliers of each kind, the rest is measured on."""
    near: str = "letters"
    """The near outliers: a kind of `assay.data.outliers`, or a data set."""
    delta: Number = Field(default=0.02, ge=0, lt=1)
    """Smallest difference of accuracies that matters."""

    # -- trainings -----------------------------------------------------------------------------

    def costs(self) -> dict[str, int]:
        """Return the passes per image and epoch of each recipe; of the static mix, with the network
        that it is made on."""
        found = {SEVERAL: 7 * 2 + 3, BALANCED: 7 * 2 + 1 + 2 * 3, NOISY: 2 + 3, SHORT: 2 + 3}
        found |= {FAST: 2 + 3, MIX: 3 + 3, NATURAL: 3}
        return found | ({BOUNDED: 3 * 3} if self.bounded else {})

    def epochs(self, name: str) -> int:
        """Return the epochs that a recipe is trained for."""
        passes = self.passes // 3 if name == SHORT else self.passes
        return max(1, passes // self.costs()[name])

    @property
    def bounded(self) -> bool:
        """Whether interval bounds are tight enough on the network to train by: without a norm."""
        return isinstance(self.network, Strided)

    def grid(self) -> Mapping[str, TrainNetwork]:
        eps = self.eps
        pgd = PGD(eps=eps, steps=7, step_size=eps / 4)
        rising = self.recipe.model_copy(update={"loss": IBP(eps=eps, start=0.05, end=0.6)})
        guarded = self.recipe.model_copy(update={"guard": self.guard})
        only_noting = self.guard.model_copy(update={"response": "note"})
        noting = self.recipe.model_copy(update={"guard": only_noting})
        mixed = self.mixed_by or eps
        special: dict[str, dict[str, Any]] = {
            SEVERAL: {"adversary": pgd},
            BALANCED: {
                "adversary": pgd,
                "recipe": self.recipe.model_copy(update={"loss": Trades()}),
            },
            NOISY: {"hardening": NFGSM(eps=eps), "recipe": guarded},
            SHORT: {"hardening": NFGSM(eps=eps), "recipe": guarded},
            FAST: {
                "adversary": PGD(eps=eps, steps=1, step_size=1.25 * eps),
                "recipe": noting,
            },
            MIX: {"hardening": StaticMix(attack=FGSM(eps=mixed))},
            NATURAL: {},
            BOUNDED: {"recipe": rising},
        }
        found = {}
        for name in self.costs():
            settings = {"recipe": self.recipe, **special[name]}
            recipe = settings["recipe"].model_copy(
                update={"epochs": self.epochs(name), "threads": self.threads}
            )
            found[name] = TrainNetwork(
                data=self.data,
                network=self.network,
                augmentation=self.augmentation,
                train_images=self.train_images,
                test_images=self.test_images,
                train_tested=False,
                **{**settings, "recipe": recipe},
            )
        return found

    # -- what is done to them ------------------------------------------------------------------

    @property
    def judge(self) -> str:
        """What the judging attack is called: the strongest, the last of `judges`."""
        return self.judges[-1].name

    def measured(self, done: Results | None = None) -> dict[str, list[Trial]]:
        """Return the trials of every cell "recipe, under what", one per seed."""
        drawn = self.images_by_seed or None
        autoencoders = self.autoencoders()
        looks = Examining(images=self.examined, images_by_seed=drawn, near=self.near, eps=self.eps)
        attention = AttendNetwork(
            attack=PGD(eps=self.eps, steps=20, step_size=self.eps / 8),
            images=self.attended,
            images_by_seed=drawn,
            kept=1,
        )
        found = {}
        for name, needs in self.trials(done).items():
            for attack in self.judges:
                own = self._at(attack)
                found[under(name, own.name)] = self._attacked(own, needs, under(name, own.name))
            for eps in self.budgets:
                label = under(name, f"pgd {budget(eps, 'linf')}")
                own = PGD(eps=eps, steps=20, step_size=eps / 8)
                found[label] = self._attacked(own, needs, label)
            for attack in self.course:
                label = under(name, attack.name)
                own = attack if attack.threat.norm == "l0" else self._at(attack)
                found[label] = self._attacked(own, needs, label, self.course_images)
            label = under(name, "attention")
            found[label] = attention.trials(needs, label)
            label = under(name, "examined")
            found[label] = looks.trials(needs, autoencoders, label)
        return found

    def autoencoders(self) -> list[Trial]:
        """Return the trials that train an autoencoder on each seed's training images."""
        made = TrainAutoencoder(
            data=self.data,
            learning=self.autoencoder,
            train_images=self.train_images,
            images_by_seed=self.images_by_seed or None,
        )
        return [made.trial(seed, self.device, self.threads) for seed in range(self.seeds)]

    def _at(self, attack: AnyAttack) -> AnyAttack:
        return attack.model_copy(update={"eps": self.eps})

    def _attacked(
        self, attack: AnyAttack, needs: list[Trial], label: str, images: int | None = None
    ) -> list[Trial]:
        made = AttackNetwork(
            attack=attack,
            images=images or self.images,
            images_by_seed=self.images_by_seed or None,
        )
        return made.trials(needs, label)

    def judged(self, done: Results) -> Sequence[Trial]:
        trained = [t for seed in zip(*self.trials(done).values(), strict=True) for t in seed]
        rest = [t for seed in zip(*self.measured(done).values(), strict=True) for t in seed]
        return [*trained, *self.autoencoders(), *rest]

    def all_cells(self, done: Results) -> Cells:
        """Return the results of trainings and of what was done to the networks."""
        there_are = how_many(self.data, "test")
        return Cells(
            {**self.trials(done), **self.measured(done)},
            done,
            images_drawn=self.images_by_seed and apart(self.images, self.seeds, there_are),
            there_are=there_are,
        )

    # -- findings ------------------------------------------------------------------------------

    def findings(self, done: Results) -> Findings:
        cells = self.all_cells(done)
        return Findings(
            effects=self.effects(cells),
            tables=page.tables(self, cells),
            figures=page.figures(self, cells),
            summary=page.summary(self, cells),
            notes=page.notes(self),
        )

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return lead.figures_of(self, result)

    def answer(self, judged: Sequence[stats.Claim]) -> str:
        return claims.answer(self, judged)

    def effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        return claims.effects(self, cells)
