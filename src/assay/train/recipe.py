"""How a network is trained, as a config. Never imports torch."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.config import Config, Number, Pixels, Threads

Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]


class AdamW(Config):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    >>> assay.train.Recipe(optimizer=assay.train.AdamW(lr=3e-3)).optimizer.lr
    0.003
    """

    name: Literal["adamw"] = "adamw"
    """The optimizer."""
    lr: Positive = 1e-3
    """Learning rate; the highest one where a schedule changes it."""
    weight_decay: NotNegative = 1e-2
    """Share of every parameter, biases and norms included, taken off per step, times the learning
    rate."""


class Adam(Config):
    """Adam (Kingma & Ba 2015); its weight decay is an L2 penalty on the gradient.

    >>> assay.train.Recipe(optimizer={"name": "adam"}).optimizer
    Adam(name='adam', lr=0.001, weight_decay=0.0)
    """

    name: Literal["adam"] = "adam"
    """The optimizer."""
    lr: Positive = 1e-3
    """Learning rate; the highest one where a schedule changes it."""
    weight_decay: NotNegative = 0.0
    """Factor of the parameters, biases and norms included, added to the gradient."""


class SGD(Config):
    """Stochastic gradient descent with momentum; its weight decay is an L2 penalty.

    >>> assay.train.SGD(momentum=0.9, nesterov=True).lr
    0.1
    """

    name: Literal["sgd"] = "sgd"
    """The optimizer."""
    lr: Positive = 0.1
    """Learning rate; the highest one where a schedule changes it."""
    momentum: Fraction = 0.9
    """Share of the last step that is kept."""
    nesterov: bool = False
    """Look ahead along the momentum (Nesterov 1983); needs momentum above 0."""
    weight_decay: NotNegative = 0.0
    """Factor of the parameters, biases and norms included, added to the gradient."""
    norm_bias_lr: Positive | None = None
    """Learning rate of the biases of batch and layer norms, over that of all else; they decay as
    fast as all else (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"); none: 1."""

    @model_validator(mode="after")
    def _looks_ahead_along_something(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=true needs momentum above 0")
        return self


Optimizer = Annotated[AdamW | Adam | SGD, Field(discriminator="name")]


class Constant(Config):
    """The same learning rate throughout, after the warm-up.

    >>> assay.train.Constant().factor(3, 10)
    1.0
    """

    name: Literal["constant"] = "constant"
    """The schedule."""
    warmup: Fraction = 0.0
    """Share of all steps in which the rate rises in a line to its highest."""

    def factor(self, step: int, total: int) -> float:
        """Return the learning rate of `step` (0 .. total - 1) over the highest, in (0, 1]."""
        return _ramp(self.warmup, step, total)[0]


class Cosine(Config):
    """Half a cosine from the highest learning rate towards the last (Loshchilov & Hutter 2017).

    >>> schedule = assay.train.Cosine()
    >>> [round(schedule.factor(step, 10), 2) for step in (0, 5)]
    [1.0, 0.5]
    """

    name: Literal["cosine"] = "cosine"
    """The schedule."""
    warmup: Fraction = 0.0
    """Share of all steps in which the rate rises in a line to its highest."""
    final: Annotated[Number, Field(ge=0, le=1)] = 0.0
    """Where the rate ends, over the highest."""

    def factor(self, step: int, total: int) -> float:
        """Return the learning rate of `step` (0 .. total - 1) over the highest, in (0, 1]."""
        rising, warm = _ramp(self.warmup, step, total)
        if step < warm:
            return rising
        return _cosine(1.0, self.final, (step - warm) / (total - warm))


class OneCycle(Config):
    """Up and down once, along cosines (Smith & Topin 2018); momentum stays.

    >>> schedule = assay.train.OneCycle(peak=0.5, start=0.1)
    >>> [round(schedule.factor(step, 10), 2) for step in (0, 4)]
    [0.1, 1.0]
    """

    name: Literal["one_cycle"] = "one_cycle"
    """The schedule."""
    peak: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    """Share of all steps after which the rate is highest."""
    start: Annotated[Number, Field(gt=0, le=1)] = 1 / 25
    """Where the rate starts, over the highest."""
    final: Annotated[Number, Field(ge=0, le=1)] = 4e-6
    """Where the rate ends, over the highest."""

    def factor(self, step: int, total: int) -> float:
        """Return the learning rate of `step` (0 .. total - 1) over the highest, in (0, 1]."""
        top, last = self.peak * total - 1, total - 1
        if step <= top:
            return _cosine(self.start, 1.0, step / top if top > 0 else 1.0)
        return _cosine(1.0, self.final, (step - max(top, 0.0)) / max(last - max(top, 0.0), 1e-9))


class Piecewise(Config):
    """Constant, and lower from certain steps on (He et al. 2016).

    >>> schedule = assay.train.Piecewise(at=(0.5,), by=0.1)
    >>> [schedule.factor(step, 10) for step in (4, 5)]
    [1.0, 0.1]
    """

    name: Literal["piecewise"] = "piecewise"
    """The schedule."""
    warmup: Fraction = 0.0
    """Share of all steps in which the rate rises in a line to its highest."""
    at: tuple[Fraction, ...] = (0.5, 0.75)
    """Shares of all steps after which the rate is multiplied by `by`, rising."""
    by: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    """What the rate is multiplied by each time."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at: the shares rise, each there once; seen {list(self.at)}")
        return self

    def factor(self, step: int, total: int) -> float:
        """Return the learning rate of `step` (0 .. total - 1) over the highest, in (0, 1]."""
        passed = sum(step >= share * total for share in self.at)
        return _ramp(self.warmup, step, total)[0] * float(self.by**passed)


Schedule = Annotated[Constant | Cosine | OneCycle | Piecewise, Field(discriminator="name")]


def _ramp(warmup: float, step: int, total: int) -> tuple[float, int]:
    """Return the factor of a linear warm-up at `step`, and how many steps it takes."""
    warm = round(warmup * total)
    return (min(1.0, (step + 1) / warm) if warm else 1.0), warm


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


class CrossEntropy(Config):
    """-log p_y, p = softmax(z) of the logits z.

    >>> assay.train.Recipe().loss == assay.train.CrossEntropy()
    True
    """

    name: Literal["cross-entropy"] = "cross-entropy"
    """The loss."""


class LogitNorm(Config):
    """Cross-entropy of z / (τ ‖z‖₂), the logits z brought to one length (Wei et al. 2022,
    "Mitigating neural network overconfidence with logit normalization").

    Cross-entropy can always be lowered by longer logits, of training images and of all others; here
    only their direction counts, and low confidence keeps its meaning for detecting outliers. The
    network's own logits are as they come: scores and probabilities are taken of z, as in the paper.

    >>> assay.train.Recipe(loss="logit-norm").loss.temperature
    0.04
    """

    name: Literal["logit-norm"] = "logit-norm"
    """The loss."""
    temperature: Positive = 0.04
    """τ, the paper's for CIFAR-10; smaller lets the network become more certain."""


class Trades(Config):
    """TRADES (Zhang et al. 2019): clean accuracy, and that nothing changes within the threat.

        L = CE(z(x), y) + β · KL(p(x) ‖ p(x′)),   x′ the attacked image

    The attack makes the second term rise. As in the authors' code clean and attacked images pass
    the network apart, so that each have batch statistics of their own.

    >>> assay.train.Recipe(loss={"name": "trades", "beta": 3}).loss.beta
    3.0
    """

    VERSION = 1

    name: Literal["trades"] = "trades"
    """The loss."""
    beta: NotNegative = 6.0
    """Weight of robustness (1/λ in the paper); 6 is the authors' for CIFAR-10."""


class IBP(Config):
    """Interval bound propagation (Gowal et al. 2018): the loss of the worst logits in the box.

        L = κ · CE(z(x), y) + (1 - κ) · CE(ẑ(x, ε), y)

    ẑ holds the greatest value that each z_k - z_y can have within ε of x in L∞. ε rises in a line
    from 0, and κ falls from 1: with the whole ε at once training stays at chance.

    >>> eps, kappa = assay.train.IBP(eps=0.3).at(0.0)
    >>> eps, kappa
    (0.0, 1.0)
    """

    VERSION = 1

    name: Literal["ibp"] = "ibp"
    """The loss."""
    eps: Annotated[Pixels, Field(gt=0)] = 0.3
    """The L∞ radius to certify, in pixel units of [0, 1]."""
    beyond: Annotated[Number, Field(ge=1)] = 1.1
    """The radius trained for, over the one to certify: the authors take 0.4 for 0.3 on MNIST, and
    1.1 times as much on CIFAR-10."""
    start: Fraction = 0.05
    """Share of all steps after which ε leaves 0."""
    end: Annotated[Number, Field(gt=0, le=1)] = 0.5
    """Share of all steps after which ε is as great as it gets, and κ is `kappa`."""
    kappa: Annotated[Number, Field(ge=0, le=1)] = 0.5
    """The least weight of the clean loss. Where it has fallen to 0, images do not pass by
    themselves in a network without batch norm (a third of a step is saved), and the accuracy that
    training reports is the share that is certified at the ε of the step."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end:g} comes after start {self.start:g}")
        return self

    def at(self, done: float) -> tuple[float, float]:
        """Return (ε, κ) once the share `done` of all steps is done."""
        risen = min(1.0, max(0.0, (done - self.start) / (self.end - self.start)))
        return self.eps * self.beyond * risen, 1 - (1 - self.kappa) * risen


Loss = Annotated[CrossEntropy | LogitNorm | Trades | IBP, Field(discriminator="name")]
PLAIN = CrossEntropy()
"""What every training had before there was a choice: its address names no loss."""


class Guard(Config):
    """Notices catastrophic overfitting (Wong et al. 2020), and goes back.

    A network trained against one step learns to make that step useless: it stops one step, and no
    longer several. On a few validation images the accuracy under several steps then falls, within a
    fraction of an epoch, while that under one step rises. Training goes back to the end of the last
    epoch before the fall. In L∞ one step is then taken from noise, as N-FGSM takes it (de Jorge et
    al. 2022); after a further collapse, and with any other attack, the step is halved.

    >>> assay.train.Recipe(guard={}).guard == assay.train.Guard()
    True
    """

    images: int = Field(default=256, ge=16)
    """Validation images that are attacked at each look, evenly spaced over the set."""
    looks: int = Field(default=2, ge=1)
    """Looks per epoch, the last one at its end."""
    steps: int = Field(default=10, ge=2)
    """Steps of the stronger attack."""
    fall: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """A collapse: the accuracy under several steps is below this share of its best so far, and
    the gap is exceeded."""
    gap: Annotated[Number, Field(gt=0, lt=1)] = 0.15
    """A collapse, besides: the accuracy under one step exceeds that under several by this much more
    than at the best."""
    response: Literal["return", "note"] = "return"
    """return: go back; note: say so in the history, and go on."""
    returns: int = Field(default=3, ge=0)
    """How often training goes back, at most; after that it stops."""


class Recipe(Config):
    """How a network is trained. `auto` is resolved by `assay.train.resolve` beforehand.

    >>> recipe = assay.train.Recipe(epochs=3, optimizer={"name": "sgd", "lr": 0.1})
    >>> recipe.epochs, recipe.optimizer.momentum
    (3, 0.9)
    """

    epochs: int = Field(default=20, ge=1)
    """Passes over the training data, at most."""
    batch_size: int = Field(default=64, ge=1)
    """Images per forward and backward pass."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients make one step."""
    optimizer: Optimizer = AdamW()
    """How a gradient becomes a step."""
    schedule: Schedule = Cosine()
    """How the learning rate changes from step to step."""
    loss: Loss = Field(default=PLAIN, exclude_if=lambda loss: bool(loss == PLAIN))
    """What is made small."""
    label_smoothing: Fraction = 0.0
    """Share of each label that is spread over all classes (Szegedy et al. 2016)."""
    mixup: NotNegative = 0.0
    """α of mixup (Zhang et al. 2018): every image is mixed with another of its batch, and its label
    likewise, in a share drawn once per batch from Beta(α, α); 0: no mixing."""
    grad_clip: NotNegative = 0.0
    """Largest L2 norm of the gradient over all weights; 0: not clipped."""
    patience: int = Field(default=0, ge=0)
    """Epochs without a lower validation loss (with a guard, a higher robust validation accuracy)
    after which training stops, and the weights of the best epoch are put back; 0: all epochs, and
    the last weights stay."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """What is computed in; bfloat16 is mixed precision, with float32 weights. auto: measured.
    On CUDA the convolutions of float32 are in TF32, as PyTorch's switches have it by default."""
    memory_format: Literal["channels_last", "contiguous", "auto"] = "channels_last"
    """How images lie in memory; the results agree to rounding. auto: measured."""
    threads: Threads = 1
    """Threads computed with; sums depend on it."""
    ema: Fraction | None = Field(default=None, exclude_if=lambda ema: ema is None)
    """Share of the averaged weights that each step keeps (exponential moving average; less in the
    first steps, (1 + t) / (10 + t)): they are what is validated and kept; none: no average."""
    guard: Guard | None = Field(default=None, exclude_if=lambda guard: guard is None)
    """Of an adversarial training: notice catastrophic overfitting, and let the best epoch be the
    one with the highest robust validation accuracy; none: do not."""

    @model_validator(mode="after")
    def _labels_stay_whole(self) -> Self:
        if self.mixup and isinstance(self.loss, Trades | IBP):
            raise ValueError(f"mixup mixes labels, which the loss {self.loss.name} does not take")
        return self

    @model_validator(mode="after")
    def _bounds_have_their_time(self) -> Self:
        if self.patience and isinstance(self.loss, IBP):
            raise ValueError(
                "patience goes by the loss of clean images, and would end the loss ibp, or put "
                "weights back, from before its eps has risen: drop patience"
            )
        return self


class Watch(Config):
    """How often a training is measured, and on what; measuring changes nothing.

    >>> assay.train.Watch(images=64).images
    64
    """

    every: int = Field(default=50, ge=1)
    """Measure at every n-th optimizer step; the first and the last are measured too."""
    images: int = Field(default=500, ge=1)
    """Validation images that each measurement evaluates, evenly spaced over the set."""
