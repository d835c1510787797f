"""Our own text classifiers: a pretrained encoder, a pooling, a linear head; and their files."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from assay.config import Config
from assay.core.random import Stream
from assay.core.text_embedding import pooled
from assay.core.texts import TextClassifier
from assay.disk import make_folder, write_atomic
from assay.errors import AssayError
from assay.models.adaptation import AnyAdaptation, Full
from assay.models.encoders import located, read_encoder, read_tokenizer
from assay.models.saved import TEXTS as KEY


class TextNetwork(Config):
    """A pretrained encoder with a new head, and what of it is trained."""

    VERSION = 1

    base: str = "minilm"
    """The encoder: minilm, which is in a package; a folder; or an id on the Hugging Face hub."""
    pooling: Literal["mean", "first"] = "mean"
    """What the head reads of the last layer: its mean over a text's tokens, or the first (CLS)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of what the head reads that is dropped in training."""
    adaptation: AnyAdaptation = Full()
    """What is trained."""

    def build(self, classes: int, stream: Stream) -> TextNet:
        """Return the network, float32, in eval mode; its head, and what is added to its encoder,
        depend on `stream` alone."""
        net = TextNet(read_encoder(located(self.base)), self.pooling, classes, self.dropout)
        with torch.no_grad():
            weight = net.head.weight
            weight.normal_(0.0, 0.02, generator=stream.child("head").torch())
            net.head.bias.zero_()
        self.adaptation.prepare(net, stream.child("adaptation"))
        return net.eval()

    def classifier(
        self, classes: Sequence[str], stream: Stream, *, device: str = "cpu"
    ) -> TextClassifier:
        """Return the network with the encoder's own tokenizer, ready to be trained."""
        found = located(self.base)
        net = self.build(len(classes), stream).to(device)
        tokenizer = read_tokenizer(found)
        return TextClassifier(net, tokenizer, classes=classes, max_length=found.max_length)


class TextNet(nn.Module):
    """Tokens (N, T), or their embeddings (N, T, D), to logits (N, classes)."""

    def __init__(
        self, encoder: nn.Module, pooling: Literal["mean", "first"], classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, classes)  # type: ignore[union-attr, arg-type]

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()  # type: ignore[operator, no-any-return]

    def features(self, attention_mask: Tensor, **given: Tensor) -> Tensor:
        """Return what the head reads (N, D)."""
        states = self.encoder(attention_mask=attention_mask, **given).last_hidden_state
        return pooled(states, attention_mask.bool(), self.pooling)

    def forward(self, attention_mask: Tensor, **given: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.features(attention_mask, **given)))
        return logits


class SavedText(Config):
    """What is beside the weights in a file of ours."""

    schema_version: Literal[1] = 1
    """Version of this record."""
    network: TextNetwork
    """Its config."""
    digest: str
    """Of the encoder's files."""
    classes: tuple[str, ...]
    """Names of the outputs, in their order."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of assay and torch that wrote it."""


def save_text(path: Path | str, clf: TextClassifier, network: TextNetwork) -> None:
    """Write what was trained, and all that is needed to use it with the encoder's files.

    Of a network whose encoder was trained these are all its weights, 91 MB of MiniLM; of LoRA and a
    head alone less than 2 MB. The file appears whole or not at all; equal contents give equal
    bytes.

    Raises:
        AssayError: where it cannot be written.
    """
    path = Path(path)
    kept = {name for name, p in clf.model.named_parameters() if p.requires_grad}
    about = SavedText(
        network=network,
        digest=located(network.base).digest,
        classes=clf.classes,
        versions={name: importlib.metadata.version(name) for name in ("assay", "torch")},
    )
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in clf.model.state_dict().items()
        if name in kept
    }
    make_folder(path.parent)
    write_atomic(path, save(tensors, metadata={KEY: about.canonical()}))


def is_text(path: Path | str) -> bool:
    """Return whether a file is a text classifier of ours; false for whatever else it is."""
    try:
        with safe_open(path, "pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_text_file(path: Path | str, *, batch_size: int | None = None) -> TextClassifier:
    """Return the classifier that `save_text` wrote.

    Raises:
        AssayError: for a file that is not one, or an encoder that is not there or is another one.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise AssayError(f"there is no file {path}") from error
    except (SafetensorError, OSError) as error:
        raise AssayError(f"{path} is not a whole safetensors file: {error}") from error
    try:
        about = SavedText.model_validate(json.loads(metadata[KEY]))
    except KeyError as error:
        raise AssayError(f"{path} holds tensors, but no text classifier of assay") from error
    except (ValidationError, ValueError) as error:
        raise AssayError(
            f"{path} was made by another version of assay, which this one cannot read"
        ) from error
    found = located(about.network.base)
    if found.digest != about.digest:
        raise AssayError(
            f"{path} was made from another {about.network.base} than is here now: its encoder has "
            f"changed (digest {about.digest[:12]}, here {found.digest[:12]})"
        )
    clf = about.network.classifier(about.classes, Stream(0))
    clf.batch_size = batch_size
    asked = {name for name, p in clf.model.named_parameters() if p.requires_grad}
    if set(state) != asked or _shapes(state) != _shapes(clf.model.state_dict(), asked):
        raise AssayError(f"the weights in {path} do not fit the network that it names")
    clf.model.load_state_dict(state, strict=False)
    return clf


def _shapes(state: dict[str, Any], some: set[str] | None = None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in state.items() if some is None or name in some}
