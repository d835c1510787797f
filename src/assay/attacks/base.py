"""What an attack is: a frozen config whose author writes one generator, `search`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor

from assay.attacks.losses import cross_entropy, towards
from assay.config import Config
from assay.core.oracle import Access, Loss
from assay.core.random import Rows
from assay.core.threats import NormBall

if TYPE_CHECKING:
    from assay.attacks.result import AttackResult

Stop = Literal["fooled", "never"]
"""When an image leaves: once it is fooled, or never before the last step."""


@dataclass(frozen=True)
class Iterate:
    """What a search yields: its candidates, and what asking the model has cost since the last.

    Attributes:
        adversarial: (n, ...) the current candidate of each row still in play. It is read before
            the search goes on, so the search may overwrite it afterwards.
        logits: (n, K) what the model said about exactly these, or labels (n,) where it says no
            more. None: it was not asked, so nobody leaves here.
        spent: evaluations of the model per row since the last yield: a number, or int64 (n,).
    """

    adversarial: Tensor
    logits: Tensor | None = None
    spent: int | Tensor = 1


Search = Generator[Iterate, Tensor | None, None]


class Attack(Config):
    """A method of moving inputs, within a threat, so that a model errs.

    To add one: derive from this, tag it with `name: Literal["..."] = "..."`, give its `threat`
    and write `search`. Everything else (which rows are attacked, when they leave, counting,
    confirming, restarts, memory) is the runner's.
    """

    needs: ClassVar[Access] = "gradient"
    """The least access to the model that the method works with."""

    name: str
    """The method's name in configs."""

    @property
    def threat(self) -> NormBall:
        """What the attacker may do; the runner refuses anything outside it."""
        raise NotImplementedError

    @property
    def tries(self) -> int:
        """How many times a search is started on an image, each with draws of its own."""
        return 1

    def objective(self, targeted: bool) -> Loss:
        """Return the loss that `search` makes rise; restarts are compared by it too."""
        return towards(cross_entropy) if targeted else cross_entropy

    def search(
        self, model: Any, x: Tensor, y: Tensor, *, threat: NormBall, loss: Loss, rng: Rows
    ) -> Search:
        """Yield an `Iterate` per step, the last one being the result.

        `keep = yield Iterate(...)` returns the rows to go on with: None for all of them, or an
        index tensor by which everything that is held per row must be indexed (see `only`).

        Args:
            model: what may be asked, at the level of access in `needs`.
            x: (n, C, H, W) in [0, 1]; not to be changed.
            y: (n,) the label to leave, or, with a targeted loss, the target.
            threat: what the candidates must stay inside.
            loss: what is to rise.
            rng: one random generator per row.
        """
        raise NotImplementedError

    def perturb(
        self, model: Any, x: Tensor, y: Tensor, *, threat: NormBall, loss: Loss, rng: Rows
    ) -> Tensor:
        """Return the last candidate of every row: all steps, no filtering, nothing confirmed.

        This is what adversarial training calls; the arguments are those of `search`.
        """
        adversarial = x
        for iterate in self.search(model, x, y, threat=threat, loss=loss, rng=rng):
            adversarial = iterate.adversarial
        return adversarial.detach()

    def __call__(
        self, oracle: Any, x: Tensor, y: Tensor | None = None, **settings: Any
    ) -> AttackResult:
        """Attack every image of `x` and return what came of it; `settings` are those of `run`."""
        from assay.attacks.runner import run

        return run(self, oracle, x, y, **settings)


def only(keep: Tensor | None, *held: Any) -> tuple[Any, ...]:
    """Return each of `held` (tensors or `Rows`) at the rows to go on with; None keeps all."""
    return held if keep is None else tuple(item[keep] for item in held)
