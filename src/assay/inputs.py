"""The way in: a model, the images it is put to the test on, and what computes, as one config.

`audit`, `attack` and `explain` are given these settings by the same flags, and load them here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from assay.config import Config, digest, read_yaml
from assay.core.blackbox import Answers, BlackBox
from assay.core.classifier import Classifier
from assay.core.crop import SCALED_FIRST
from assay.core.device import Device, device_here
from assay.core.misfits import of_channels
from assay.data import Dataset, load_data
from assay.data.called import counted
from assay.data.classes import in_order
from assay.data.dataset import to_float
from assay.data.load import BUNDLED
from assay.data.outputs import check_labels, order_of, scaled_again
from assay.errors import AssayError, distinct
from assay.models.http import HttpModel, Wire
from assay.models.loaders.base import About, Channels
from assay.models.loaders.registry import loader_of
from assay.models.loading import fingerprint, load_model, load_oracle
from assay.models.saved import saved

Loaded = Classifier | BlackBox | HttpModel
"""What a model is once it is loaded: a network, or what can only be queried."""

MOST_THREADS = 1024
MOST_ROWS = 1_000_000


class Inputs(Config):
    """A model, the data it is put to the test on, and what it computes with."""

    model: str
    """The network: path.safetensors made by assay; file.py:factory, a function of yours that
    returns a torch.nn.Module; package.module:function of an installed package; a Hugging Face
    folder or hub id; an .onnx file; or, with --access, file.py:function or a URL, which can only be
    queried."""
    data: str
    """A bundled name (digits, shapes), a hub id, a folder or a file of texts; or file.py:function,
    a function of yours that gives batches (images, labels) or (texts, labels): it is asked for as
    many as --images, and no more."""
    split: str = "test"
    """The part of the data that is used."""
    images: int = 1000
    """How many of its images are used, a stable random subset."""
    size: int | None = None
    """Scale the shorter side of every image to so many pixels and crop the middle square; none:
    images are brought to the size that the model names, or stay as they are."""
    weights: Path | None = None
    """Weights for file.py:factory: .safetensors, or a state dict (.pt)."""
    model_args: tuple[str, ...] = ()
    """What the function that makes the network is called with: name=value, as in YAML."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel that the model's inputs are normalised with, in [0, 1]."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel, likewise."""
    channels: Channels = "rgb"
    """The order of colours that the model takes; mean and std are in this order."""
    outputs: Literal["logits", "probabilities"] = "logits"
    """What the model returns."""
    trust_program: bool = False
    """Run a model file that is a program: of torch.export, or TorchScript."""
    classes: tuple[str, ...] | None = None
    """Names of the model's outputs, in their order; labels are matched to them by name. None: a
    file of assay says them itself, and of another model they are the classes of the data."""
    access: Answers | None = None
    """What a function or a service answers, which can only be queried."""
    timeout: float | None = None
    """Seconds that a service may take for an answer; none: 30."""
    header: tuple[str, ...] = Field(default=(), repr=False)
    """Sent with every request to a service, as "Name: value"; never written down."""
    wire: Wire = "npy"
    """How images travel to a service, which is posted JSON: npy, {"images": a float32 .npy in
    base64, (n, C, H, W) in [0, 1]}, answered by {"labels" or "scores" or "logits": [one per
    image]}; or instances, {"instances": [lists of numbers]}, answered by {"predictions": [one per
    image]}."""
    concurrency: int | None = None
    """Requests to a service that may be under way at once; none: one."""
    rate: float | None = None
    """Requests to a service that may be sent in a second; none: no limit."""
    max_queries: int | None = None
    """How many images a function or a service may be asked about; what needs more is then not run,
    and says so. none: any number."""
    device: Device = "auto"
    """Where the model computes; auto takes CUDA or MPS where there is one."""
    threads: int | None = None
    """Threads computed with; none: as many as there are cores."""
    batch_size: int | None = None
    """Images evaluated at a time, and in a request to a service; none: chosen by their size."""

    @field_validator("images", "size", "threads", "batch_size", "concurrency", "max_queries")
    @classmethod
    def _at_least_one(cls, count: int | None, info: Any) -> int | None:
        flag = f"--{info.field_name.replace('_', '-')}"
        if count is not None and count < 1:
            raise AssayError(f"{flag} must be at least 1, got {count}")
        if info.field_name == "threads" and count is not None and count > MOST_THREADS:
            raise AssayError(f"{flag} must be at most {MOST_THREADS:,}, got {count}")
        if info.field_name == "batch_size" and count is not None and count > MOST_ROWS:
            raise AssayError(f"{flag} must be at most {MOST_ROWS:,}, got {count}")
        return count

    @field_validator("classes")
    @classmethod
    def _once_each(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if names is None else distinct(names, "--classes")

    @field_validator("header")
    @classmethod
    def _name_and_value(cls, header: tuple[str, ...]) -> tuple[str, ...]:
        for text in header:
            name, colon, _ = text.partition(":")
            if not (name.strip() and colon):
                raise AssayError(f'--header is "Name: value", not {text!r}')
        return header

    @field_validator("model_args")
    @classmethod
    def _named_values(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            if not text.partition("=")[0].isidentifier() or "=" not in text:
                raise AssayError(
                    f"--model-args takes name=value, such as num_classes=10, not {text!r}"
                )
        return given

    @property
    def args(self) -> dict[str, Any]:
        """What the function that makes the network is called with, by name."""
        pairs = (text.partition("=") for text in self.model_args)
        return {name: read_yaml(value, where=f"--model-args {name}") for name, _, value in pairs}

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with every request, by name."""
        pairs = (text.partition(":") for text in self.header)
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def only_queried(self) -> bool:
        """Whether the model is a function or a service: no weights, no gradients."""
        service = "://" in self.model or self.timeout is not None or bool(self.header)
        service = service or self.wire != "npy" or self.concurrency is not None
        service = service or self.rate is not None or self.max_queries is not None
        if self.access is not None or service:
            return True
        loader = loader_of(self.model)
        return loader is not None and loader.queried

    @property
    def model_name(self) -> str:
        """What a page calls the model: the last part of its name, of `.` that of the folder."""
        path = Path(self.model)
        return path.name or path.resolve().name

    @cached_property
    def about(self) -> About:
        """What the model says of itself before it is loaded."""
        if self.access is not None or "://" in self.model:
            return About()
        loader = loader_of(self.model)
        return About() if loader is None else loader.about(self.model)

    @property
    def scaling(self) -> tuple[int | None, float | None]:
        """The side that images are brought to (None: none), and the crop before: as the user says,
        else as the model does."""
        if self.size is not None or self.data in BUNDLED:
            return self.size, 1.0
        return self.about.side, self.about.crop

    @property
    def interpolation(self) -> str:
        """How pixels are interpolated where images are brought to a size: as the model has it."""
        if self.size is not None or self.data in BUNDLED:
            return "bicubic"
        return self.about.mode


def load_part(inputs: Inputs, split: str | None = None, *, at_most: int | None = None) -> Dataset:
    """Return a part of the data, all of it; of its labels `classes` gives the order.

    Args:
        inputs: what the user named.
        split: another part than that of `inputs`.
        at_most: how many images a function is asked for; None: as many as `inputs` says.

    Raises:
        AssayError: for data that cannot be read, or cannot be scaled.
    """
    size, crop = inputs.scaling
    data = load_data(
        inputs.data,
        split=split or inputs.split,
        size=size,
        crop=crop,
        mode=inputs.interpolation,
        at_most=at_most or inputs.images,
    )
    classes = inputs.classes or inputs.about.classes
    if counted(inputs.data, data.classes):
        if classes is None and _is_ours(inputs):
            classes = saved(inputs.model).classes
        if classes is not None and len(classes) > len(data.classes):
            return replace(data, classes=tuple(classes))
    return data if classes is None else in_order(data, classes)


def _is_ours(inputs: Inputs) -> bool:
    """Whether the model is a file that assay wrote, and names its classes."""
    return inputs.model.endswith(".safetensors")


def described(inputs: Inputs, data: Dataset) -> str:
    """Return which data these are, and what was done to them: `digits (test)`."""
    return f"{data.name} ({data.split}{scaled(inputs)})"


def scaled(inputs: Inputs) -> str:
    """Return what was done to the images, after a comma; "" where they are as they were."""
    size, crop = inputs.scaling
    if size is None:
        return ""
    if crop is None:
        return f", squashed to {size} × {size}"
    if crop < 0:
        return f", squashed, the middle {-100 * crop:.1f} % of {size} × {size}"
    share = "" if crop >= SCALED_FIRST else f" ({100 * crop:.1f} % of the shorter side)"
    return f", middle squares{share} scaled to {size} × {size}"


def load(inputs: Inputs, data: Dataset, *, labelled: bool = True) -> Loaded:
    """Return the model on its device; sets the threads that torch computes with.

    Args:
        inputs: what the user named.
        data: its data: the classes of a model that does not name its own.
        labelled: whether the labels are used, and must be those of the model.

    Raises:
        AssayError: for what cannot be loaded, settings that do not go together, or data that the
            model is not for.
    """
    if inputs.threads is not None:
        torch.set_num_threads(inputs.threads)
    if inputs.only_queried:
        if inputs.device != "auto":
            raise AssayError(
                f"--device cannot be set for {inputs.model}, which can only be queried; it goes "
                "with a network"
            )
        own = inputs.classes or inputs.about.classes
        if labelled and own:
            check_labels(inputs.model, own, data)
        oracle = load_oracle(
            inputs.model,
            access=inputs.access,
            classes=own or data.classes,
            batch_size=inputs.batch_size,
            timeout=inputs.timeout,
            headers=inputs.headers or None,
            wire=inputs.wire,
            concurrency=inputs.concurrency,
            rate=inputs.rate,
            max_queries=inputs.max_queries,
            weights=inputs.weights,
            mean=inputs.mean,
            std=inputs.std,
            outputs=inputs.outputs,
            args=inputs.args,
            channels=inputs.channels,
            trust_program=inputs.trust_program,
        )
        if isinstance(oracle, BlackBox) and inputs.access is None:  # a file, which may say them
            if labelled and not inputs.classes:
                oracle.notes += order_of(inputs.model, inputs.about.classes, data)
            side, asked = inputs.about.side, inputs.size is not None
            oracle.notes += scaled_again(inputs.model, side, data, asked=asked)
        return oracle
    ours = _is_ours(inputs)
    named = counted(inputs.data, data.classes) or ours or inputs.about.classes is not None
    clf = load_model(
        inputs.model,
        weights=inputs.weights,
        classes=inputs.classes or (None if named else data.classes),
        mean=inputs.mean,
        std=inputs.std,
        outputs=inputs.outputs,
        batch_size=inputs.batch_size,
        args=inputs.args,
        channels=inputs.channels,
        trust_program=inputs.trust_program,
    )
    if ours:
        _takes(inputs.model, data)
    if labelled and (ours or inputs.about.classes is not None or inputs.classes):
        check_labels(inputs.model, clf.classes, data)
    if labelled and not ours and not inputs.classes:
        clf.notes += order_of(inputs.model, inputs.about.classes or _own_names(clf.model), data)
    clf.model.to(device_here(inputs.device))
    if counted(inputs.data, data.classes):
        clf.query(to_float(data.images[:1]))  # it knows its classes once it has answered
    return clf


def of_all_classes(inputs: Inputs, data: Dataset, model: Loaded) -> Dataset:
    """Return the data with the classes of the model, where a function gave it that names none: the
    highest label that it gave says no more than that there are so many.

    Raises:
        AssayError: the model has fewer outputs.
    """
    if not counted(inputs.data, data.classes):
        return data
    own = model.classes
    if len(own) < len(data.classes):
        raise AssayError(
            f"{data.name} gives labels up to {len(data.classes) - 1}, but {inputs.model} has "
            f"{len(own)} outputs (0 to {len(own) - 1}): these data do not fit this model"
        )
    return replace(data, classes=own)


def load_network(inputs: Inputs, data: Dataset, *, labelled: bool = True) -> Classifier:
    """Return the model as `load` does, if it is a network.

    Raises:
        AssayError: likewise, and for what can only be queried.
    """
    if inputs.only_queried:
        raise AssayError(
            f"{inputs.model} can only be queried: it has no layers and no gradients, "
            "which this needs; give a network, path.safetensors or file.py:factory"
        )
    clf = load(inputs, data, labelled=labelled)
    assert isinstance(clf, Classifier)
    return clf


def _takes(model: str, data: Dataset) -> None:
    channels = saved(model).in_shape[0]
    if channels != data.shape[0]:
        raise AssayError(
            f"{model} takes images of {channels} channel{'s' * (channels > 1)}, but those of "
            f"{data.name} have {data.shape[0]}: {of_channels(channels, data.shape[0])}"
        )


def _own_names(module: nn.Module) -> tuple[str, ...] | None:
    """Return what a network that code made calls its outputs, as Hugging Face's do (id2label);
    None where it does not say."""
    for part in module.modules():
        names = getattr(getattr(part, "config", None), "id2label", None)
        if isinstance(names, Mapping) and all(isinstance(key, int) for key in names):
            found = tuple(str(names[key]) for key in sorted(names))
            return None if all(name.startswith("LABEL_") for name in found) else found
    return None


def called(inputs: Inputs, model: Loaded) -> str:
    """Return what the model is called: of a service the address, without the key it may end in."""
    if isinstance(model, HttpModel):
        return model.address
    return "/".join([part for part in Path(inputs.model).parts if part != ".."][-2:])


def mark(inputs: Inputs, model: Loaded) -> str:
    """Return what the model is known by when a command is given again.

    Of a network that is its weights and the code of its file; of a function the file; of a
    service its address, with a digest of the whole URL: what answers there may change, and nobody
    would know.
    """
    if isinstance(model, Classifier):
        code = fingerprint(inputs.model) if ".py:" in inputs.model else ""
        return digest([model.fingerprint, code])
    if isinstance(model, HttpModel):
        return f"{model.address} ({model.access}, {fingerprint(inputs.model)[:12]})"
    return digest([fingerprint(inputs.model), model.access])
