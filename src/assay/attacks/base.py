"""What an attack is: a frozen config whose author writes one generator, `search`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias

from torch import Tensor

from assay.attacks.losses import cross_entropy, towards
from assay.config import Config
from assay.core.batches import X, detached, take
from assay.core.oracle import Access, Loss, Oracle, labels
from assay.core.random import Rows
from assay.core.threats import T

if TYPE_CHECKING:
    from assay.attacks.result import AttackResult

Stop = Literal["fooled", "never"]
"""When an image stops early: once it is fooled, or never before the last step."""


@dataclass(frozen=True)
class Iterate(Generic[X]):
    """What a search yields: its candidates, and what queries it has made since the last yield.

    Attributes:
        adversarial: images (n, C, H, W) or n texts: the current candidate of each row still in
            play. It is read before the search goes on, so the search may overwrite it afterwards.
        logits: (n, K) what the model said about exactly these, or labels (n,) where it says no
            more. None: it was not queried, so no row stops here.
        spent: evaluations of the model per row since the last yield: a number, or int64 (n,).
        ahead: the most evaluations per row that the next step may take, by which a query budget is
            kept. None: as many as this step took.

    >>> assay.attacks.Iterate(x, clf.query(x), ahead=1).spent
    1
    """

    adversarial: X
    logits: Tensor | None = None
    spent: int | Tensor = 1
    ahead: int | Tensor | None = None


Search: TypeAlias = Generator[Iterate[X], Tensor | None, None]


class Attack(Config, Generic[X, T]):
    """A method of moving inputs `X` within a threat `T`, so that a model errs: images within a
    `NormBall`, where nothing else is said; `Attack[list[str], Edits]` moves texts.

    To add one: derive from this, tag it with `name: Literal["..."] = "..."`, give its `threat`
    and write `search`. Everything else (which rows are attacked, early stops, counting,
    confirming, restarts, memory) is the runner's.

    >>> from assay.attacks import Attack, Iterate
    >>> from assay.core.threats import NormBall
    >>> class Darken(Attack):
    ...     name: Literal["darken"] = "darken"
    ...
    ...     @property
    ...     def threat(self):
    ...         return NormBall(norm="linf", eps=0.5)
    ...
    ...     def search(self, model, x, y, *, threat, loss, targeted, rng):
    ...         darker = (x - threat.eps).clamp_min(0)
    ...         yield Iterate(darker, model.query(darker))
    ...         yield Iterate(darker, spent=0)
    >>> Darken()(clf, x, y).queries.tolist() == [1 + 1 + 1] * 12
    True
    """

    needs: ClassVar[Access] = "gradient"
    """The least access to the model that the method works with."""
    minimum_norm: ClassVar[bool] = False
    """True of a method that looks for the nearest adversarial image, not for the highest loss
    within a budget: of two successes the runner then keeps the nearer one. Such methods are run
    on a float32 copy whatever the `precision`, since they end on the decision boundary."""

    name: str
    """The method's name in configs."""

    def model_post_init(self, _: Any) -> None:
        self.threat  # noqa: B018 - an eps that is none is refused when the attack is made

    @property
    def threat(self) -> T:
        """What the attacker may do; the runner refuses anything outside it."""
        raise NotImplementedError

    @property
    def starts(self) -> int:
        """How many times a search is started on an image, restarts included, each with its own
        draws."""
        return 1

    @property
    def opening(self) -> int:
        """The most evaluations per row that the first step of a search takes: like
        `Iterate.ahead`, it keeps a query budget."""
        return 1

    @property
    def breadth(self) -> int:
        """How many candidates per image the search holds at a time: its population. The runner
        keeps fewer images in play accordingly."""
        return 1

    @property
    def stages(self) -> tuple[Attack[X, T], ...]:
        """The attacks of a cascade, each of which meets the survivors of those before it, within
        the one threat; of any other method, the method alone."""
        return (self,)

    def objective(self, targeted: bool) -> Loss:
        """Return the loss that `search` makes rise; restarts are compared by it too."""
        return towards(cross_entropy) if targeted else cross_entropy

    def search(
        self,
        model: Any,
        x: X,
        y: Tensor,
        *,
        threat: T,
        loss: Loss,
        targeted: bool,
        rng: Rows,
    ) -> Search[X]:
        """Yield an `Iterate` per step, the last one being the result.

        `keep = yield Iterate(...)` returns the rows to go on with: None for all of them, or an
        index tensor by which everything that is held per row must be indexed (see `only`).
        A row may have to go on although its candidate fooled the model: with stop="never", or
        where the float32 original did not confirm it.

        Args:
            model: what may be queried, with the access in `needs`: `model.query(x)` returns
                logits (n, K) (of scores their logarithm), or labels (n,) where it says no more;
                `gradient(model, x, y, loss)` one forward and backward pass.
            x: images (n, C, H, W) in [0, 1], or n texts; not to be changed.
            y: (n,) the true class, or, if `targeted`, the target.
            threat: what the candidates must stay inside.
            loss: what is to rise, its targeted form if `targeted`.
            targeted: whether the model is to predict `y`, rather than anything else.
            rng: one random generator per row.
        """
        raise NotImplementedError

    def perturb(
        self,
        model: Any,
        x: X,
        y: Tensor,
        *,
        threat: T,
        loss: Loss,
        targeted: bool = False,
        rng: Rows,
    ) -> X:
        """Return the last candidate of every row: all steps, no filtering, nothing confirmed.

        This is what adversarial training calls; the arguments are those of `search`.
        """
        adversarial = x
        search = self.search(model, x, y, threat=threat, loss=loss, targeted=targeted, rng=rng)
        for iterate in search:
            adversarial = iterate.adversarial
        return detached(adversarial)

    def __call__(
        self, oracle: Oracle[X], x: X, y: Tensor | None = None, **settings: Any
    ) -> AttackResult[X, T]:
        """Attack every input of `x` and return the result; `settings` are those of `run`."""
        from assay.attacks.runner import run

        return run(self, oracle, x, y, **settings)


def only(keep: Tensor | None, *held: Any) -> tuple[Any, ...]:
    """Return each of `held` (tensors, texts, `Rows`) at the rows to go on with; None keeps all."""
    if keep is None:
        return held
    return tuple(take(item, keep) if isinstance(item, list) else item[keep] for item in held)


def wins(answer: Tensor, y: Tensor, targeted: bool) -> Tensor:
    """Return where an answer, logits (n, K) or labels (n,), is what the attacker wants: bool (n,).

    A row that the model did not answer (NaN) is never won.
    """
    said = labels(answer)
    return (said == y if targeted else said != y) & (said >= 0)
