"""What studies of trained networks share: the networks that they put to the test.

The networks are trials of their own, and shared: the default is the best of the study `skip`, so
whoever has run that one trains nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from assay.attacks.methods.pgd import PGD
from assay.attacks.registry import AnyAttack
from assay.runs.results import Results
from assay.runs.trial import Cost, Trial
from assay.studies.base import Study
from assay.studies.cell_study import check_data
from assay.studies.cells import Cells
from assay.studies.skip import Skip
from assay.tasks.images import BY_SEED, apart, how_many
from assay.tasks.train import TASK, TrainNetwork, settings
from assay.tasks.train_time import expected_seconds

NATURAL, ROBUST = "natural", "robust"


def of_skip(preset: str, depth: int) -> TrainNetwork:
    """Return the training of a network with skip connections of the study `skip`."""
    return Skip.parse(Skip.preset_values(preset)).cell(depth, True, "batch", "he")


class SubjectStudy(Study):
    """A study of trained networks, one per seed, and of the same trained against an attack."""

    network: TrainNetwork = of_skip("quick", 5)
    """What is put to the test: the default is the best network of the study `skip`, and shared with
    it. Its data are the study's."""
    robust: AnyAttack | None = None
    """Also put the same network to the test trained against this attack (adversarial training);
    none: do not."""
    images_by_seed: bool = False
    """Each seed draws its images anew, so that claims are about images in general, not about those
    of one draw; presets do."""

    @classmethod
    def preset_values(cls, preset: str) -> dict[str, Any]:
        return {BY_SEED: True, **super().preset_values(preset)}

    @property
    def drawn(self) -> bool | None:
        """What tasks are told of it: none, where seeds share their images."""
        return self.images_by_seed or None

    def networks(self) -> dict[str, list[Trial]]:
        """Return the trials that train the networks, one per seed, by what they are called."""
        recipe = self.network.recipe.model_copy(update={"threads": self.threads})
        natural = self.network.model_copy(
            update={"data": self.data, "recipe": recipe, BY_SEED: self.drawn}
        )
        found = {NATURAL: natural.trials(range(self.seeds), self.device, "network")}
        if self.robust is not None:
            hardened = natural.model_copy(update={"adversary": self.robust})
            label = "network trained against attacks"
            found[ROBUST] = hardened.trials(range(self.seeds), self.device, label)
        return found

    def network_cells(self) -> dict[str, list[Trial]]:
        """Return the trials of the networks as cells of a table."""
        return {f"{name} network": trials for name, trials in self.networks().items()}

    def cells(self, trials: Mapping[str, Sequence[Trial]], done: Results, images: int) -> Cells:
        """Return the results so far of the networks, and of these trials on so many of the test
        images."""
        there_are = how_many(self.data, "test", size=self.network.size)
        return Cells(
            {**self.network_cells(), **trials},
            done,
            images_drawn=self.images_by_seed and apart(images, self.seeds, there_are),
            there_are=there_are,
        )

    def resolved(self) -> Self:
        made = super().resolved()
        network = made.network.model_copy(update={"data": made.data})
        check_data(network)
        recipe = network.settled(made.device)
        return made.model_copy(update={"network": network.model_copy(update={"recipe": recipe})})

    def cost(self, trial: Trial) -> Cost | None:
        if trial.task != TASK:
            return None
        return Cost(expected_seconds(settings(trial), trial.device), 2_000_000)


def cell(what: str, network: str = NATURAL) -> str:
    """Return what a cell is called of a network of that kind under `what`."""
    return what if network == NATURAL else f"{what}, {network}"


def hardening(eps: float, steps: int = 7) -> PGD:
    """Return the adversary of adversarial training by plain PGD (Madry et al. 2018, with seven
    steps for CIFAR-10), each step a quarter of the budget."""
    return PGD(eps=eps, steps=steps, step_size=eps / 4)
