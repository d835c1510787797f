"""What a loader is: it recognises how a model is named, and makes something of ours of it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from assay.config import canonical_json
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.errors import AssayError

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


@dataclass(frozen=True)
class About:
    """What a model says of itself before its weights are read.

    Attributes:
        classes: names of its outputs; None: it does not say.
        side: the height and width in pixels of the images that it takes; None: any, or not said.
        crop: the middle square that images are cropped to before they are scaled to `side`, as a
            share of their shorter side; None: they are squashed, not cropped.
    """

    classes: tuple[str, ...] | None = None
    side: int | None = None
    crop: float | None = 1.0


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
        """Return the files that the model is made of."""
        path = Path(spec)
        return [path] if path.is_file() else []

    def fingerprint(self, spec: str) -> str:
        """Return a digest of the model's name here and of its files, 64 hexadecimal digits."""
        files = [hashlib.sha256(file.read_bytes()).hexdigest() for file in self.files(spec)]
        named = [self.name, spec if not files else "", files]
        return hashlib.sha256(canonical_json(named).encode()).hexdigest()


FLAGS = {"args": "--model-args", "trust_program": "--trust-program"}


def refuse_what_is_not_taken(loader: Loader, spec: str, given: Given) -> None:
    """Refuse settings that this kind of model has no use for.

    Raises:
        AssayError: names them.
    """
    usual = Given()
    wrong = [
        FLAGS.get(name, f"--{name}")
        for name in ("weights", "args", "mean", "std", "channels", "outputs", "trust_program")
        if name not in loader.takes and getattr(given, name) != getattr(usual, name)
    ]
    if wrong:
        raise AssayError(f"{', '.join(wrong)} cannot be set for {spec}, {loader.what}")
