"""What a loader is: it recognises how a model is named, and makes something of ours of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn

from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.disk import existing
from assay.errors import AssayError
from assay.models.loaders.preprocessing import Preprocess

EVERYTHING = frozenset({"weights", "args", "mean", "std", "channels", "outputs", "trust_program"})
"""The settings of `Given` that not every kind of model has a use for."""

FLAGS = {"args": "--model-args", "trust_program": "--trust-program"}

Channels = Literal["rgb", "bgr"]
"""The order of colours that a model takes; images are red, green, blue."""


@dataclass(frozen=True)
class Given:
    """What the user says of a model besides its name.

    Attributes:
        weights: a state dict for a network that code makes.
        args: what that code is called with, by name.
        classes: names of the outputs, in their order.
        mean, std: per channel, in the order of colours that the model takes; units of [0, 1].
        channels: that order.
        outputs: what the model returns.
        batch_size: rows evaluated at a time.
        trust_program: whether a file may be run that is a program.
    """

    weights: Path | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    channels: Channels = "rgb"
    outputs: Literal["logits", "probabilities"] = "logits"
    batch_size: int | None = None
    trust_program: bool = False

    def flags(self, names: Collection[str] = EVERYTHING) -> list[str]:
        """Return the flags of those of these settings that were given."""
        usual = Given()
        return [
            FLAGS.get(field.name, f"--{field.name}")
            for field in fields(self)
            if field.name in names and getattr(self, field.name) != getattr(usual, field.name)
        ]

    def classifier(self, module: nn.Module, notes: Sequence[str]) -> Classifier:
        """Return a network that code made, in eval mode, as the user says that it is used."""
        return Classifier(
            module,
            mean=self.mean,
            std=self.std,
            classes=self.classes,
            outputs=self.outputs,
            preprocess=Preprocess(blue_first=True) if self.channels == "bgr" else None,
            batch_size=self.batch_size,
            notes=notes,
        )


@dataclass(frozen=True)
class About:
    """What a model says of itself before its weights are read.

    Attributes:
        classes: names of its outputs; None: it does not say.
        side: the height and width in pixels of the images that it takes; None: any, or not said.
        crop: what is kept of an image that is brought to `side`, as in `core.crop`: a share of its
            shorter side; negative, of the squashed image; None: all of it, squashed.
        mode: how their pixels are interpolated then: nearest, bilinear or bicubic.
    """

    classes: tuple[str, ...] | None = None
    side: int | None = None
    crop: float | None = 1.0
    mode: str = "bicubic"


class Loader(ABC):
    """One kind of model that people bring.

    To add one: derive from this, name it, say what it `recognises`, and write `load`; then one line
    in `assay.models.loaders.registry`, or an entry point of the group "assay.loaders".
    """

    name: ClassVar[str]
    """The kind, in one word."""
    what: ClassVar[str]
    """The same in a few words, with an article."""
    takes: ClassVar[frozenset[str]] = frozenset()
    """The settings of `Given` that mean something here, besides classes and batch_size."""
    queried: ClassVar[bool] = False
    """Whether it gives a model that can only be queried: no layers and no gradients."""

    @abstractmethod
    def recognises(self, spec: str) -> bool:
        """Return whether `spec` names a model of this kind; nothing is run or imported."""

    @abstractmethod
    def load(self, spec: str, given: Given) -> Classifier | BlackBox:
        """Return the model on the CPU, in eval mode.

        Raises:
            AssayError: one line that says what is wrong, and what to do.
        """

    def about(self, spec: str) -> About:
        """Return what the model says of itself; nothing is run, no weights are read."""
        del spec
        return About()

    def files(self, spec: str) -> Sequence[Path]:
        """Return the files that the model is made of.

        Raises:
            AssayError: one is missing.
        """
        return [existing(Path(spec))]

    def part(self, spec: str) -> str:
        """Return which of the things in its files is meant; "" where it is all of them."""
        del spec
        return ""


def refuse_what_is_not_taken(loader: Loader, spec: str, given: Given) -> None:
    """Refuse settings that this kind of model has no use for.

    Raises:
        AssayError: names them.
    """
    wrong = given.flags(EVERYTHING - loader.takes)
    if wrong:
        raise AssayError(f"{', '.join(wrong)} cannot be set for {spec}, {loader.what}")
