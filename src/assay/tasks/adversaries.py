"""What training images are attacked by: attacks, N-FGSM, and images attacked once beforehand."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from assay.attacks import FGSM, PGD, AnyAttack, Attack
from assay.attacks.losses import cross_entropy
from assay.attacks.methods.gradient import GradientAttack, Iterative, uphill
from assay.config import Config, Number
from assay.core.classifier import Classifier
from assay.core.fast import FastCopy, Precision, fast_copy, renewed
from assay.core.oracle import Loss
from assay.core.random import Rows, Stream
from assay.core.threats import NormBall
from assay.data.dataset import Dataset
from assay.errors import AssayError
from assay.models.loading import load_model
from assay.runs.trial import Trial
from assay.runs.worker import Workspace
from assay.train import Recipe, Trades
from assay.train.guard import Adversary, Rivals
from assay.train.losses import divergence


class NFGSM(Config):
    """N-FGSM (de Jorge et al. 2022, "Make some noise"): one step from noise beyond the budget.

        x′ = clip(x + η + α · sign ∇L(x + η)),   η uniform in [-kε, kε]

    Nothing is projected on the ball, so that images leave it by design, up to (k + α/ε) ε from x:
    that is what keeps training by one step from collapsing. The network is attacked in eval mode,
    as all adversaries here; the authors attack it in training mode.
    """

    VERSION = 1

    name: Literal["n-fgsm"] = "n-fgsm"
    """The kind of hardening."""
    eps: Annotated[Number, Field(gt=0)] = 8 / 255
    """The L∞ budget that the network is to remain robust within, in pixel units of [0, 1]."""
    noise: Annotated[Number, Field(gt=0)] = 2.0
    """k: the noise, over the budget."""
    step: Annotated[Number, Field(gt=0)] = 1.0
    """Length of the step, over the budget."""

    @property
    def threat(self) -> NormBall:
        """What the network is to remain robust under."""
        return NormBall.parse({"norm": "linf", "eps": self.eps}, where=self.name)

    @property
    def judge(self) -> PGD:
        """What says how robust the network has become: ten steps within the budget."""
        return PGD(eps=self.eps, steps=10, step_size=self.eps / 4)

    def model_post_init(self, _: object) -> None:
        self.threat  # noqa: B018 - an eps that is none is refused when it is made

    def __call__(
        self, model: FastCopy | Classifier, x: Tensor, y: Tensor, rng: Rows, scale: float = 1.0
    ) -> Tensor:
        """Return the moved images; `scale` shortens the step."""
        reach = self.noise * self.eps
        start = (x + rng.uniform(tuple(x.shape[1:]), -reach, reach)).clamp_(0, 1)
        _, slope = uphill(model, start, y, cross_entropy)
        return start.add_(slope.sign_(), alpha=scale * self.step * self.eps).clamp_(0, 1)


class StaticMix(Config):
    """The course's mix: a share of the training images, attacked once and beforehand.

    They are attacked on the same network trained naturally, and replace their originals for good:
    against the weights as they become they grow old.
    """

    VERSION = 1

    name: Literal["static-mix"] = "static-mix"
    """The kind of hardening."""
    attack: AnyAttack = FGSM()
    """What they are attacked by, once, all steps."""
    share: Annotated[Number, Field(gt=0, le=1)] = 0.5
    """Share of the training images that are attacked; 0.5 is one to one."""

    @field_validator("attack")
    @classmethod
    def _moves_all(cls, attack: AnyAttack) -> AnyAttack:
        check_moves_all(attack)
        return attack


def check_moves_all(attack: Attack) -> None:
    """Refuse an attack that would not move every image, or whose further starts go for nothing.

    Raises:
        ValueError: says which.
    """
    if attack.starts > 1:
        raise ValueError(f"an image is attacked once: give {attack.name} one start")
    if len(attack.stages) > 1:
        raise ValueError(
            f"{attack.name} is a cascade, which meets survivors only: take one of its stages, such "
            f"as {attack.stages[0].name}"
        )


Hardening = Annotated[NFGSM | StaticMix, Field(discriminator="name")]


def against(
    attack: AnyAttack | NFGSM | None, recipe: Recipe, scale: float = 1.0
) -> Adversary | None:
    """Return what attacks each batch; None where nothing does.

    Args:
        attack: what attacks; None: nothing.
        recipe: its precision is that of the copy, its loss says what is to rise.
        scale: what the attack's step is multiplied by.
    """
    return None if attack is None else Attacking(attack, recipe, scale)


class Attacking:
    """Attacks each batch: all steps, from one start, on a fast copy of the network.

    The copy (batch norm folded, in the recipe's precision) takes the weights as they are at every
    batch, and is checked again; where it differs, the network itself serves. For TRADES the attack
    makes KL(p(x) ‖ p(x′)) rise. The arguments are those of `against`.
    """

    def __init__(self, attack: AnyAttack | NFGSM, recipe: Recipe, scale: float) -> None:
        self.attack = attack if isinstance(attack, NFGSM) else shortened(attack, scale)
        self.recipe = recipe
        self.scale = scale
        self._held: FastCopy | Classifier | None = None

    def __repr__(self) -> str:
        return f"Attacking({self.attack!r}, {self.scale:g})"

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor:
        if isinstance(self._held, FastCopy):
            copy, _ = renewed(self._held, x)
        else:
            precision: Precision = "bfloat16" if self.recipe.precision == "bfloat16" else "float32"
            self._held, _ = fast_copy(model, x, precision)
            copy = self._held
        if isinstance(self.attack, NFGSM):
            return self.attack(copy, x, y, rng, self.scale)
        loss, target = self.attack.objective(False), y
        if isinstance(self.recipe.loss, Trades):
            loss, target = divergence, copy.query(x).softmax(1)
        return moved_by(self.attack, copy, x, target, loss, rng)


def moved_by(
    attack: Attack, model: FastCopy | Classifier, x: Tensor, y: Tensor, loss: Loss, rng: Rows
) -> Tensor:
    """Return what an attack makes of every image, all of it within its threat.

    Raises:
        AssayError: it is not.
    """
    threat = attack.threat
    moved = attack.perturb(model, x, y, threat=threat, loss=loss, rng=rng)
    if not bool(threat.contains(x, moved).all()):
        raise AssayError(
            f"{attack.name} leaves its threat ({threat.describe()}): a training image was moved by "
            f"{float(threat.distance(x, moved).max()):.4g}. The attack's search has to project"
        )
    return moved


def shortened(attack: Attack, scale: float) -> Attack:
    """Return the attack with its step multiplied by `scale`; one without a step, its budget."""
    if scale == 1.0:
        return attack
    if isinstance(attack, PGD):
        return attack.model_copy(update={"step_size": scale * attack.length(attack.eps)})
    eps: float = attack.threat.eps
    return attack.model_copy(update={"eps": scale * eps})


def rivals(attack: AnyAttack | NFGSM | None, recipe: Recipe) -> Rivals | None:
    """Return what a recipe's guard looks at the training with: FGSM, and PGD of several steps of
    2.5 ε / steps, within the threat of the training's own attack; None without a guard.

    After a collapse training goes on against N-FGSM in place of an attack of one step in L∞: half a
    step collapses again, noise does not (docs/log.md). Any other attack has its step shortened.
    """
    if recipe.guard is None or attack is None:
        return None
    threat, steps = attack.threat, recipe.guard.steps
    budget = NormBall(norm=threat.norm, eps=threat.eps).model_dump()
    strong = PGD(**budget, steps=steps, step_size=2.5 * threat.eps / steps)
    plain = recipe.model_copy(update={"loss": Recipe().loss})
    fast, several = against(FGSM(**budget), plain), against(strong, plain)
    assert fast is not None
    assert several is not None

    def gentler(scale: float) -> Adversary:
        if isinstance(attack, Attack) and noisy_after(attack, recipe):
            made = against(NFGSM(eps=threat.eps), recipe, 2 * scale)  # at first the whole step
        else:
            made = against(attack, recipe, scale)
        assert made is not None
        return made

    return Rivals(fast, several, gentler)


def noisy_after(attack: Attack, recipe: Recipe) -> bool:
    """Return whether a training against this attack goes on with N-FGSM after a collapse: against
    one step in L∞ that makes the loss of the labels rise."""
    once = isinstance(attack, FGSM) or (isinstance(attack, PGD) and attack.steps == 1)
    return once and attack.threat.norm == "linf" and not isinstance(recipe.loss, Trades)


def check_hardening(
    attack: AnyAttack | None, hardening: NFGSM | StaticMix | None, recipe: Recipe
) -> None:
    """Refuse what does not go together.

    Raises:
        ValueError: says what.
    """
    if attack is not None and hardening is not None:
        raise ValueError(
            f"adversary {attack.name} and hardening {hardening.name}: give one of them"
        )
    moves = attack if attack is not None else hardening
    if isinstance(recipe.loss, Trades) and not _starts_beside(attack):
        raise ValueError(
            "the loss trades needs an adversary that follows gradients from beside the image, such "
            "as pgd with random_start: at the image itself the divergence has none"
        )
    if recipe.loss.name == "ibp" and moves is not None:
        raise ValueError(f"the loss ibp bounds every attack: drop {moves.name}")
    if recipe.guard is not None and not isinstance(moves, GradientAttack | NFGSM):
        raise ValueError(
            "recipe.guard looks at training against gradients: give an adversary such as pgd, or "
            "hardening n-fgsm"
        )


def _starts_beside(attack: AnyAttack | None) -> bool:
    """Return whether an attack takes one gradient after another, the first not at the image."""
    if not isinstance(attack, Iterative):
        return False
    x = torch.full((1, 3, 4, 4), 0.5)
    first, *_ = attack.start(x, attack.threat, Stream(0).rows([0]))
    return not torch.equal(first, x)


class Mixed:
    """Training images, a share of them attacked once.

    Args:
        config: which attack, and how many.
        natural: the network that they are attacked on.
        data: the training images.
        stream: where everything is drawn from.

    Attributes:
        rows: int64 (M,), which images of `data` were attacked.
        moved: uint8 (M, C, H, W), what they became, as an image file would keep them.
    """

    def __init__(
        self, config: StaticMix, natural: Classifier, data: Dataset, stream: Stream
    ) -> None:
        count = max(1, round(config.share * len(data)))
        order = torch.randperm(len(data), generator=stream.child("chosen").torch())
        self.rows = order[:count].sort().values
        self.data = data
        self._place = torch.full((int(data.ids.max()) + 1,), -1)
        self._place[data.ids[self.rows]] = torch.arange(count)
        parts = []
        attack = config.attack
        with natural.borrowed():
            for rows in torch.split(self.rows, 250):
                x = data.images[rows].float().div(255).to(natural.device)
                y = data.labels[rows].to(natural.device)
                model, _ = fast_copy(natural, x) if attack.needs == "gradient" else (natural, None)
                rng = stream.child("attack").rows(data.ids[rows]).to(natural.device)
                adv = moved_by(attack, model, x, y, attack.objective(False), rng)
                parts.append(adv.mul(255).round().to(torch.uint8).cpu())
        self.moved = torch.cat(parts)

    def __call__(self, x: Tensor, rng: Rows) -> Tensor:
        """Return the images (B, C, H, W), those that were attacked as they became."""
        place = self._place[rng.ids.cpu()].to(x.device)
        chosen = place >= 0
        x = x.clone()
        x[chosen] = self.moved[place[chosen].cpu()].to(x.device).float().div(255)
        return x

    def fooled(self, classifier: Classifier) -> float:
        """Return the share of the attacked images that a network gets wrong."""
        wrong = 0
        for rows in torch.split(torch.arange(len(self.rows)), 500):
            said = classifier.predict(self.moved[rows].float().div(255))
            wrong += int((said.cpu() != self.data.labels[self.rows[rows]]).sum())
        return wrong / len(self.rows)


def mix(
    hardening: NFGSM | StaticMix | None, data: Dataset, trial: Trial, work: Workspace
) -> Mixed | None:
    """Return the images that a static mix attacks beforehand, on the network that the trial needs;
    None without one."""
    if not isinstance(hardening, StaticMix):
        return None
    natural = load_model(work.needs[0].path("model.safetensors"))
    natural.model.to(trial.device)
    return Mixed(hardening, natural, data, Stream(trial.seed).child("mix"))
