"""From a name to a model: saved ones, and those that somebody brings.

A model is named in a way that one of `assay.models.loaders` recognises. One that can only be
queried is also named by `file.py:function`, a function of images, or by the URL of a service (see
`load_oracle`). A user's Python file runs when it is named like this, and at no other time; a
weights file never runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from assay.config import canonical_json
from assay.core.blackbox import Answers, BlackBox
from assay.core.classifier import Classifier
from assay.disk import existing
from assay.errors import AssayError
from assay.models.formats import not_yet
from assay.models.http import ROWS, TIMEOUT, HttpModel, Wire
from assay.models.loaders.base import Channels, Given, Loader, refuse_what_is_not_taken
from assay.models.loaders.registry import loader_of
from assay.models.loaders.user_file import function_of


def load_model(
    spec: str | Path,
    *,
    weights: Path | str | None = None,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: Literal["logits", "probabilities"] = "logits",
    batch_size: int | None = None,
    args: Mapping[str, Any] | None = None,
    channels: Channels = "rgb",
    trust_program: bool = False,
) -> Classifier:
    """Return the model that `spec` names, as a classifier on the CPU, in eval mode.

    Args:
        spec: "path.safetensors" made by `save_model`; "file.py:factory", which is run: a function
            or class that gives a `torch.nn.Module`; "package.module:function" of an installed
            package; a Hugging Face folder or hub id; or a file of `torch.export` or TorchScript.
        weights: a state dict for the network that code makes: .safetensors, or .pt / .pth, read
            without running anything in it.
        args: what the factory or function is called with, by name.
        channels: the order of colours that the network takes.
        trust_program: run a file that is a program.
        classes, mean, std, outputs, batch_size: as for `Classifier`; what a file of ours says
            itself is used where these are not given.

    Raises:
        AssayError: one line that says what is wrong with the file, the factory or the weights.

    >>> from pathlib import Path
    >>> code = "from torch import nn; make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))"
    >>> _ = Path("mynet.py").write_text(code)
    >>> assay.load_model("mynet.py:make", mean=[0.5], std=[0.25]).query(x).shape
    torch.Size([12, 3])
    """
    spec = str(spec)
    if _is_url(spec):
        raise AssayError(f"{spec} is a service, which can only be queried; this needs a network")
    given = Given(
        weights=None if weights is None else Path(weights),
        args=args or {},
        classes=classes,
        mean=mean,
        std=std,
        channels=channels,
        outputs=outputs,
        batch_size=batch_size,
        trust_program=trust_program,
    )
    loader = _recognised(spec)
    made = _made(loader, spec, given)
    if not isinstance(made, Classifier):
        raise AssayError(f"{spec} is {loader.what}: it can only be queried; this needs a network")
    return made


def _recognised(spec: str) -> Loader:
    loader = loader_of(spec)
    if loader is None:
        raise _refusal(spec)
    return loader


def _made(loader: Loader, spec: str, given: Given) -> Classifier | BlackBox:
    refuse_what_is_not_taken(loader, spec, given)
    return loader.load(spec, given)


def _refusal(spec: str) -> AssayError:
    """Return what is said of a name that no loader recognises."""
    if Path(spec).exists() and (said := not_yet(Path(spec))):
        return AssayError(said)
    if (Path(spec) / "config.json").is_file():
        return AssayError(
            f"{spec}/config.json names no architecture, or is no JSON object: give the folder that "
            "save_pretrained of transformers wrote"
        )
    if (inside := Path(spec) / "model.safetensors").is_file():
        return AssayError(f"{spec} is a folder: name the file in it, {inside}")
    path = existing(Path(spec))
    if not path.stat().st_size:
        return AssayError(f"{spec} is empty: give a whole file")
    if path.suffix == ".py":
        return AssayError(f"{spec}: name the function that makes the network, {spec}:factory")
    return AssayError(
        f"{spec} has weights, but not the network they belong to: name the code that makes it, "
        f"`file.py:factory --weights {spec}`"
    )


def load_oracle(
    spec: Path | str,
    *,
    access: Answers | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int | None = None,
    timeout: float | None = None,
    headers: Mapping[str, str] | None = None,
    wire: Wire = "npy",
    concurrency: int | None = None,
    rate: float | None = None,
    max_queries: int | None = None,
    weights: Path | str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: Literal["logits", "probabilities"] = "logits",
    args: Mapping[str, Any] | None = None,
    channels: Channels = "rgb",
    trust_program: bool = False,
) -> Classifier | BlackBox | HttpModel:
    """Return the model that `spec` names, as far as it can be queried.

    Args:
        spec: what `load_model` takes; or, with `access`, a URL (`HttpModel` says what is sent), or
            `file.py:function`, a function of the user's as a `BlackBox` takes it: from a numpy
            array float32 (n, C, H, W) in [0, 1] to labels (n,), or scores or logits (n, K).
        access: what a function or a service answers: "labels", "scores" or "logits". None: `spec`
            names a network, which has gradients.
        classes: names of the outputs; a function or a service needs them.
        batch_size: rows evaluated at a time; None chooses.
        timeout: seconds that a service may take for one request; None leaves it at 30.
        headers: sent with every request to a service.
        wire: how images travel to it: a numpy file in JSON, or lists of numbers.
        concurrency: requests that may be under way at once; None: one.
        rate: requests that may be sent in a second.
        max_queries: how many images a function or a service may be asked about.
        weights, mean, std, outputs, args, channels, trust_program: as in `load_model`.

    Raises:
        AssayError: one line that says what is wrong, or missing, or does not go together.
    """
    spec = str(spec)
    served = _is_url(spec)
    paced = concurrency is not None or rate is not None
    if not served and (timeout is not None or headers or wire != "npy" or paced):
        raise AssayError(
            f"{spec} is no URL: time-out, headers, wire, concurrency and rate go with http://…"
        )
    given = Given(
        weights=None if weights is None else Path(weights),
        args=args or {},
        classes=classes,
        mean=mean,
        std=std,
        channels=channels,
        outputs=outputs,
        batch_size=batch_size,
        trust_program=trust_program,
    )
    loader = None if served else loader_of(spec)
    if loader is not None and loader.queried and access is not None:
        raise AssayError(
            f"{spec} is {loader.what}, which says itself what it answers: drop --access"
        )
    if not served and access is None and max_queries is not None:
        raise AssayError(f"--max-queries goes with a function or a service, not with {spec}")
    if not served and access is None:
        return _made(_recognised(spec), spec, given)
    wrong = [flag.removeprefix("--") for flag in given.flags()]
    if wrong:
        raise AssayError(
            f"{', '.join(wrong)} cannot be set from outside for {spec}, which takes images in "
            "[0, 1] and can only be queried; they go with a network"
        )
    if access is None:
        raise AssayError(f"say what {spec} answers: --access labels, scores or logits")
    if classes is None:
        raise AssayError(f"name the classes of {spec}: it can only be queried, and does not say")
    if served:
        return HttpModel(
            spec,
            classes=classes,
            access=access,
            timeout=TIMEOUT if timeout is None else timeout,
            batch_size=ROWS if batch_size is None else batch_size,
            headers=headers,
            wire=wire,
            concurrency=1 if concurrency is None else concurrency,
            rate=rate,
            most=max_queries,
        )
    function = function_of(spec)
    return BlackBox(
        function,
        classes=classes,
        access=access,
        batch_size=batch_size,
        name=spec,
        most=max_queries,
    )


def _is_url(spec: str) -> bool:
    return spec.lower().startswith(("http://", "https://"))


def fingerprint(spec: str, *, weights: Path | str | None = None) -> str:
    """Return a digest of the files that `spec` and `weights` name, as 64 hexadecimal digits.

    Nothing is run or loaded. Modules that a user's file imports are not part of it. Of a service it
    sees the URL alone: not whether another model is behind it by now.

    Raises:
        AssayError: for a file that is missing.
    """
    if _is_url(spec):
        return hashlib.sha256(canonical_json(["url", spec]).encode()).hexdigest()
    loader = loader_of(spec)
    files = [existing(Path(spec))] if loader is None else list(loader.files(spec))
    files += [] if weights is None else [existing(Path(weights))]
    parts = [_digest(file) for file in files]
    part = "" if loader is None else loader.part(spec)
    return hashlib.sha256(canonical_json([part, parts]).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
