"""How easily is a text classifier fooled, and what remains once constraints are those that people
accepted?

A fine-tuned MiniLM is attacked in two settings: permissive, with the constraints of the papers, and
strict, with those under which people agreed that meaning and grammar were kept (Morris et al.
2020). Every claim names its setting, since success rates of attacks on words are mostly a matter of
that. Similarity is judged by the frozen, pretrained MiniLM: other weights than those attacked, of
the same origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from assay import stats
from assay.attacks.text.methods.hotflip import HotFlip
from assay.attacks.text.methods.names import Names
from assay.attacks.text.methods.spelling import Misspell
from assay.attacks.text.methods.substitute import Substitute
from assay.attacks.text.registry import AnyTextAttack
from assay.config import Number
from assay.report.result import Drawing, Inputs, StudyResult
from assay.runs.entry import Result
from assay.runs.results import Results
from assay.runs.trial import Cost, Trial
from assay.studies.base import Findings, Study
from assay.studies.cells import Cells
from assay.studies.on_images import per_image
from assay.studies.words import page
from assay.tasks.attack_text import AttackText
from assay.tasks.augment_text import Exchange
from assay.tasks.images import apart
from assay.tasks.texts import part
from assay.tasks.train_text import TASK, TrainText, expected_seconds, settings
from assay.train import AdamW, Cosine, Recipe

NATURAL, AUGMENTED = "natural", "augmented"


def short(texts: int, epochs: int) -> dict[str, Any]:
    """Return a training on few texts."""
    recipe = Recipe(
        epochs=epochs,
        batch_size=16,
        optimizer=AdamW(lr=1e-4, weight_decay=0.01),
        schedule=Cosine(warmup=0.1),
        grad_clip=1.0,
        precision="bfloat16",
    )
    made = TrainText(train_texts=texts, validated=False, test_texts=400, recipe=recipe)
    return made.model_dump(mode="json")


class WordStudy(Study):
    """Attacks on the words and characters of a fine-tuned text classifier, in two settings."""

    NAME: ClassVar[str] = "words"
    INPUTS: ClassVar[Inputs] = "texts"
    QUESTION: ClassVar[str] = "How easily is a text classifier fooled, by which attack?"
    METRICS: ClassVar[Sequence[str]] = ("success_share", "robust_accuracy", "test_accuracy")
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "seeds": 2,
            "texts": 6,
            "training": short(48, 1),
            "attacks": (
                {"name": "substitute"},
                {"name": "substitute", "setting": "strict"},
                {"name": "misspell", "edits": ["homoglyph"], "tries": 2},
            ),
        },
        "quick": {"texts": 30, "training": short(1000, 2)},
        "augmented": {
            "seeds": 5,
            "texts": 30,
            "training": short(1000, 2),
            "exchange": {"share": 0.3, "copies": 1},
        },
        "full": {
            "seeds": 5,
            "texts": 200,
            "exchange": {"share": 0.3, "copies": 1},
            "attacks": (
                *({"name": "substitute"}, {"name": "substitute", "setting": "strict"}),
                {"name": "substitute", "substitutes": "neighbours"},
                *({"name": "hotflip"}, {"name": "hotflip", "setting": "strict"}),
                *({"name": "word-genetic"}, {"name": "word-genetic", "setting": "strict"}),
                *({"name": "misspell"}, {"name": "misspell", "setting": "strict"}),
                {"name": "misspell", "edits": ["keyboard"]},
                {"name": "misspell", "edits": ["homoglyph"]},
                {"name": "misspell", "edits": ["wide"]},
                {"name": "misspell", "edits": ["zero-width"]},
                {"name": "names"},
            ),
        },
    }

    data: str = "rotten_tomatoes"
    """Data set of texts: a name, a hub id, a folder or a file."""
    training: TrainText = TrainText()
    """How the classifier is trained; its encoder too, since the pretrained one is the judge."""
    exchange: Exchange | None = None
    """Also attack a classifier that was trained on copies with words exchanged (adversarial
    training by augmentation); none: do not."""
    attacks: tuple[AnyTextAttack, ...] = Field(
        default=(
            Substitute(),
            Substitute(setting="strict"),
            HotFlip(),
            Misspell(setting="strict"),
            Misspell(edits=("homoglyph",)),
            Misspell(edits=("zero-width",)),
            Names(),
        ),
        min_length=1,
    )
    """The attacks, each with its setting."""
    texts: int = Field(default=100, ge=4)
    """How many test texts of every classifier are attacked; each seed draws its own."""
    sample: int = Field(default=30, ge=0)
    """How many attacked sentences the page shows, for whoever reads it to judge."""
    delta: Number = Field(default=0.05, ge=0, lt=1)
    """Smallest share of texts that matters."""

    @property
    def classifiers(self) -> tuple[str, ...]:
        """What the classifiers are called."""
        return (NATURAL,) if self.exchange is None else (NATURAL, AUGMENTED)

    # -- trials --------------------------------------------------------------------------------

    def networks(self) -> dict[str, list[Trial]]:
        """Return the trainings, one per seed, by what they are called."""
        recipe = self.training.recipe.model_copy(update={"threads": self.threads})
        plain = self.training.model_copy(update={"data": self.data, "recipe": recipe})
        found = {NATURAL: plain.trials(range(self.seeds), self.device, "classifier")}
        if self.exchange is not None:
            more = plain.model_copy(update={"exchanged": self.exchange})
            label = "classifier trained on exchanged words too"
            found[AUGMENTED] = more.trials(range(self.seeds), self.device, label)
        return found

    def trials(self) -> dict[str, list[Trial]]:
        """Return the trials of every cell (an attack on a classifier), one per seed."""
        found = {}
        for network, needs in self.networks().items():
            for attack in self.attacks:
                name = page.cell(page.named(attack), network)
                kept = -(-self.sample // max(1, 2 * self.seeds))
                found[name] = AttackText(
                    attack=attack, texts=self.texts, texts_by_seed=True, kept=kept
                ).trials(needs, name)
        return found

    def plan(self, done: Results) -> Sequence[Trial]:
        del done
        trained = [trial for trials in self.networks().values() for trial in trials]
        attacked = [trial for seed in zip(*self.trials().values(), strict=True) for trial in seed]
        return [*trained, *attacked]

    def cost(self, trial: Trial) -> Cost | None:
        if trial.task != TASK:
            return None
        return Cost(expected_seconds(settings(trial)), 92_000_000)

    # -- findings ------------------------------------------------------------------------------

    def findings(self, done: Results) -> Findings:
        networks = {f"{name} classifier": trials for name, trials in self.networks().items()}
        there_are = len(part(self.data, "test"))
        cells = Cells(
            {**networks, **self.trials()},
            done,
            images_drawn=apart(self.texts, self.seeds, there_are),
            there_are=there_are,
        )
        return Findings(
            effects=self.effects(cells),
            tables=page.tables(self, cells),
            figures=page.figures(self, cells),
            notes=page.notes(self),
        )

    def answer(self, claims: Sequence[stats.Claim]) -> str:
        return page.answer(claims)

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return page.leading(result)

    def effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        loose, strict = "substitute, permissive", "substitute, strict"
        found = []
        if loose in cells.names:
            found.append(
                cells.effect(
                    "words.substitute",
                    "In the permissive setting, greedy substitution of at most a fifth of the "
                    "words fools the classifier on 70 % of the texts or more.",
                    delta=0.7,
                    of=(loose,),
                    value=success,
                    images=lambda rows: per_image(rows, (1.0,), "success_share"),
                    floor="success_share",
                    unit="fraction",
                    why_delta="Below it, the field's headline of four in five fooled is not met.",
                )
            )
        if loose in cells.names and strict in cells.names:
            found.append(
                cells.difference(
                    "words.strict",
                    "Greedy substitution fools at least 30 points fewer of the texts in the strict "
                    "setting than in the permissive one.",
                    loose,
                    strict,
                    "success_share",
                    delta=0.3,
                    why_delta="With less, success would not be mostly a matter of the setting.",
                )
            )
        for kind, form, text in (
            ("homoglyph", "latin", "Mapping homoglyphs back to Latin letters"),
            ("zero-width", "seen", "Removing zero-width characters"),
        ):
            name = f"misspell {kind}, permissive"
            if name in cells.names:
                found.append(
                    cells.effect(
                        f"words.{kind}",
                        f"{text} lowers the success of an attack by them, in the permissive "
                        f"setting, by {100 * self.delta:g} points or more.",
                        delta=self.delta,
                        of=(name,),
                        value=undone_by(form),
                        why_delta="With less, the normal form would be no defence worth its step.",
                    )
                )
        hard = page.cell(loose, AUGMENTED)
        if hard in cells.names:
            found.append(
                cells.difference(
                    "words.augmented",
                    "Training on copies with words exchanged as well lowers the success of greedy "
                    "substitution, in the permissive setting, by "
                    f"{100 * self.delta:g} points or more.",
                    loose,
                    hard,
                    "success_share",
                    delta=self.delta,
                    why_delta="With less, nobody would train on exchanged words for it.",
                )
            )
        return tuple(found)


def success(run: Result) -> float:
    """Return the share of the correctly classified texts that were fooled."""
    return float(run.metrics["success_share"])


def undone_by(form: str) -> Any:
    """Return how much success a normal form of the texts takes away, as a function of a run."""

    def undone(run: Result) -> float:
        return float(run.metrics["success_share"] - run.metrics[f"{form}_share"])

    return undone
