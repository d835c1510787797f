"""The autoencoder of detectors that reproduce images: trained on the reference, kept with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from assay.config import Config
from assay.core.random import Stream
from assay.data import Dataset
from assay.errors import AssayError
from assay.models.autoencoder import (
    AnyAutoencoder,
    Autoencoder,
    ConvAutoencoder,
    VariationalAutoencoder,
)
from assay.models.weights import Weights, load_weights
from assay.ood import Detector, FittedDetector
from assay.ood.ranks import RankAverage
from assay.tasks.autoencode import Autoencoding, learn

ABOUT, BELOW = "autoencoder", "autoencoder."
"""Where a kept detector says what its autoencoder is, and how the names of its weights begin."""


class _Kept(Config):
    network: AnyAutoencoder


def trained(
    detector: Detector, data: Dataset, epochs: int, device: str
) -> tuple[Autoencoder, AnyAutoencoder]:
    """Return an autoencoder that learned to reproduce the images, and what it is: the convolutions
    of the study `ood`, variational where the detector reads a bound on the likelihood.

    Raises:
        AssayError: the images are too small to be halved three times.
    """
    named = detector.of if isinstance(detector, RankAverage) else (detector.name,)
    network = VariationalAutoencoder() if "evidence-bound" in named else ConvAutoencoder()
    learning = Autoencoding(network=network, epochs=epochs, batch_size=64, lr=2e-3)
    stream = Stream(0).child("autoencoder")
    model = network.build(data.shape, stream.child("init")).to(device)
    learn(model, data, learning, stream.child("train"))
    return model, network


def with_its_autoencoder(
    fitted: FittedDetector, model: Autoencoder, network: AnyAutoencoder
) -> FittedDetector:
    """Return a detector that is saved together with its autoencoder."""
    weights = {BELOW + name: values.cpu() for name, values in model.state_dict().items()}
    about = {**fitted.about, ABOUT: _Kept(network=network).canonical()}
    return replace(fitted, state={**fitted.state, **weights}, about=about)


def autoencoder_of(fitted: FittedDetector, path: Path) -> Autoencoder:
    """Return the autoencoder that a detector kept by `assay detect --save` brings with it, in eval
    mode on the CPU: what `Embedding.with_autoencoder` is given before it scores.

    Args:
        fitted: the detector.
        path: the file that it was read from, for messages.

    Raises:
        AssayError: it brings none, or weights that do not fit.
    """
    if ABOUT not in fitted.about:
        raise AssayError(
            f"{path} reads what an autoencoder makes of images, and brings none: make it by assay "
            "detect --save, or use it from Python, by embedding.with_autoencoder(model)"
        )
    network = _Kept.parse(json.loads(fitted.about[ABOUT]), where=str(path)).network
    channels, height, width = map(int, fitted.about["shape"].split())
    model = network.build((channels, height, width), Stream(0))
    weights = {n.removeprefix(BELOW): v for n, v in fitted.state.items() if n.startswith(BELOW)}
    load_weights(model, Weights(weights, ""), path)
    return model.eval()
