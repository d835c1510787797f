"""Saved models, and models that somebody brings.

A model is named by `path.safetensors`, which `save_model` wrote, by `file.py:factory`, a function
or class of the user's that makes the network, usually with `weights`, or in a way that one of
`assay.models.loaders` recognises. One that can only be queried is named by `file.py:function`, a
function of images, or by the URL of a service (see `load_oracle`). A user's Python file runs when
it is named like this, and at no other time; a weights file never runs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from assay.config import Config, canonical_json
from assay.core.blackbox import Answers, BlackBox
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.disk import make_folder, write_atomic
from assay.errors import AssayError, nearest, told, unknown
from assay.models.formats import not_yet
from assay.models.http import ROWS, TIMEOUT, HttpModel, Wire
from assay.models.loaders.base import Channels, Given, Loader, refuse_what_is_not_taken
from assay.models.loaders.preprocessing import Preprocess
from assay.models.loaders.registry import loader_of
from assay.models.weights import load_weights, read_weights

TEXTS = "assay-text"
"""The key of text classifiers (`models.textnet`)."""
KEY = "assay"
"""The one key of our metadata: a safetensors file keeps several in no fixed order."""


class Saved(Config):
    """What is beside the weights in a file of ours."""

    schema_version: Literal[1] = 1
    """Version of this record."""
    config: dict[str, Any]
    """The network's config."""
    in_shape: tuple[int, int, int]
    """Channels, height and width of an input."""
    classes: tuple[str, ...]
    """Names of the outputs, in their order."""
    mean: tuple[float, ...] | None = None
    """Mean of each channel in [0, 1], taken off before the network; None: nothing is."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel, divided by before the network; None: nothing is."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of assay and torch that wrote it."""


def save_model(
    path: Path | str,
    module: nn.Module,
    config: Config,
    *,
    in_shape: tuple[int, int, int],
    classes: Sequence[str],
    mean: Sequence[float] | Tensor | None = None,
    std: Sequence[float] | Tensor | None = None,
) -> None:
    """Write weights and all that is needed to use them; equal contents give equal bytes.

    The file appears whole or not at all.

    Args:
        path: where to write, by custom "….safetensors".
        module: the network that `config` built.
        config: its config, one of `assay.models.Network`.
        in_shape: channels, height and width of an input.
        classes: names of the outputs.
        mean, std: the preprocessing, as a `Classifier` has it.

    Raises:
        AssayError: where it cannot be written.
    """
    path = Path(path)
    about = Saved(
        config=config.model_dump(mode="json"),
        in_shape=in_shape,
        classes=tuple(classes),
        mean=None if mean is None else tuple(float(value) for value in mean),
        std=None if std is None else tuple(float(value) for value in std),
        versions={name: importlib.metadata.version(name) for name in ("assay", "torch")},
    )
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }
    content = save(tensors, metadata={KEY: about.canonical()})
    make_folder(path.parent)
    write_atomic(path, content)


def saved(path: Path | str) -> Saved:
    """Return what is beside the weights in a file of ours; the weights are not read.

    Raises:
        AssayError: for a file that is missing, corrupt, or not ours.
    """
    path = _existing(Path(path))
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise AssayError(f"{path} is not a whole safetensors file: {error}") from error
    if TEXTS in metadata:
        raise AssayError(
            f"{path} is a classifier of texts, and this takes one of images: assay audit and, in "
            "Python, assay.load_text take it"
        )
    if KEY not in metadata:
        raise AssayError(
            f"{path} was not made by assay, so the network it belongs to is not known: name the "
            f"code that makes it, `file.py:factory --weights {path}`"
        )
    try:
        return Saved.model_validate_json(metadata[KEY])
    except ValidationError as error:
        raise AssayError(
            f"{path} was made by another version of assay, which this one cannot read"
        ) from error


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
    loader = loader_of(spec)
    if loader is not None:
        made = _made(loader, spec, given)
        if not isinstance(made, Classifier):
            raise AssayError(
                f"{spec} is {loader.what}: it can only be queried; this needs a network"
            )
        return made
    if ".py:" in spec:
        module = _from_factory(spec, given.args)
        notes: tuple[str, ...] = (f"no --weights: those of {spec} are what the factory made",)
        if weights is not None:
            path = _existing(Path(weights))
            notes = load_weights(module, read_weights(path), path)
        return Classifier(
            _eval(module),
            mean=mean,
            std=std,
            classes=classes,
            outputs=outputs,
            preprocess=Preprocess(blue_first=True) if channels == "bgr" else None,
            batch_size=batch_size,
            notes=notes,
        )
    if args or channels != "rgb" or trust_program:
        raise AssayError(
            "--model-args, --channels and --trust-program go with models of other makers, not with "
            f"{spec}"
        )
    if Path(spec).exists() and (said := not_yet(Path(spec))):
        raise AssayError(said)
    path = _existing(Path(spec))
    if path.suffix == ".py":
        raise AssayError(f"{spec}: name the function that makes the network, {spec}:factory")
    if path.suffix != ".safetensors":
        raise AssayError(
            f"{spec} has weights, but not the network they belong to: name the code that makes "
            f"it, `file.py:factory --weights {spec}`"
        )
    if weights is not None:
        raise AssayError(f"{spec} has its own weights; --weights goes with file.py:factory")
    found = saved(path)
    module = _build(found, path)
    load_weights(module, read_weights(path), path)
    return Classifier(
        module.eval(),
        mean=found.mean if mean is None else mean,
        std=found.std if std is None else std,
        classes=found.classes if classes is None else classes,
        outputs=outputs,
        batch_size=batch_size,
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
        weights, mean, std, outputs, args, channels, trust_program: as in `load_model`.

    Raises:
        AssayError: one line that says what is wrong, or missing, or does not go together.
    """
    spec = str(spec)
    served = _is_url(spec)
    if not served and (timeout is not None or headers or wire != "npy"):
        raise AssayError(f"{spec} is no URL: time-out, headers and wire go with http://…")
    loader = None if served else loader_of(spec)
    if loader is not None and loader.queried:
        if access is not None:
            raise AssayError(f"{spec} is {loader.what}, which says itself what it answers: drop "
                             "--access")  # fmt: skip
        return _made(
            loader,
            spec,
            Given(
                None if weights is None else Path(weights),
                args or {},
                classes,
                mean,
                std,
                channels,
                outputs,
                batch_size,
                trust_program,
            ),
        )
    if not served and access is None:
        return load_model(
            spec,
            weights=weights,
            mean=mean,
            std=std,
            classes=classes,
            outputs=outputs,
            batch_size=batch_size,
            args=args,
            channels=channels,
            trust_program=trust_program,
        )
    given = {"weights": weights, "mean": mean, "std": std}
    wrong = [name for name, value in given.items() if value is not None]
    wrong += ["outputs"] if outputs != "logits" else []
    wrong += ["model-args"] if args else []
    wrong += ["channels"] if channels != "rgb" else []
    wrong += ["trust-program"] if trust_program else []
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
        )
    function = _function(spec)
    return BlackBox(function, classes=classes, access=access, batch_size=batch_size, name=spec)


def _made(loader: Loader, spec: str, given: Given) -> Classifier | BlackBox:
    refuse_what_is_not_taken(loader, spec, given)
    return loader.load(spec, given)


def _is_url(spec: str) -> bool:
    return spec.lower().startswith(("http://", "https://"))


def _function(spec: str) -> Callable[..., Any]:
    """Return a user's function of one array."""
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py"):
        raise AssayError(
            f"--access goes with file.py:function, a function of images, or with a URL; {spec} is "
            "neither"
        )
    path = _existing(Path(file)).resolve()
    with _beside(path):
        function = _run(path, file, name)
    if isinstance(function, nn.Module) or inspect.isclass(function):
        raise AssayError(
            f"{spec} is a network: drop --access, or name a function that takes a numpy array"
        )
    if misfit := _misfit(function, None):
        raise AssayError(
            f"{spec} cannot be called with one array of images ({misfit}): drop --access if it "
            "makes a network"
        )
    return function


def _misfit(function: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """Return why a function cannot be called with these arguments; empty where it can, or where it
    does not say what it takes, as builtins do."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError as error:
        return str(error)
    except ValueError:
        pass
    return ""


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
    if loader is not None:
        return loader.fingerprint(spec)
    path, _, factory = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    files = [path] if weights is None else [path, weights]
    parts = [hashlib.sha256(_existing(Path(file)).read_bytes()).hexdigest() for file in files]
    return hashlib.sha256(canonical_json([factory, parts]).encode()).hexdigest()


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        raise AssayError(f"{path} is a folder; name a file in it")
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    alike = [o.name for o in beside if o.is_file() and o.suffix == path.suffix]
    guess = nearest(path.name, alike)
    hint = f"; did you mean {path.parent / guess}?" if guess else ""
    raise AssayError(f"there is no file {path}{hint}")


def _build(found: Saved, path: Path) -> nn.Module:
    """Return the network of a file of ours, its weights still random."""
    from assay.models import Network

    try:
        config: Any = TypeAdapter(Network).validate_python(found.config)
    except ValidationError as error:
        raise AssayError(
            f"{path} holds a network {found.config.get('name')!r} that is not known here, or whose "
            "settings have changed; install the package or the version of assay that made it"
        ) from error
    _weights_suffice(config, found, path)
    built: nn.Module = config.build(found.in_shape, len(found.classes), Stream(0))
    return built


def _weights_suffice(config: Any, found: Saved, path: Path) -> None:
    """Refuse a file whose settings ask for a larger network than it has weights for, before any
    memory is taken for it."""
    with safe_open(path, "pt") as file:
        held = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    asked = max(_numbers(found.config), default=0)
    if asked <= held:
        try:
            with torch.device("meta"):  # shapes alone
                plan: nn.Module = config.build(found.in_shape, len(found.classes), Stream(0))
        except Exception:  # a package's network that cannot be made so
            return
        asked = sum(value.numel() for value in plan.state_dict().values())
    if asked > held:
        raise AssayError(
            f"{path} does not fit its own settings: they make a network of {asked:,} values or "
            f"more, and it holds {held:,}"
        )


def _numbers(settings: Any) -> Iterator[int]:
    """Yield every integer in a network's settings: a width or a depth that is more than all of its
    weights is none."""
    if isinstance(settings, Mapping):
        settings = list(settings.values())
    if isinstance(settings, list | tuple):
        for value in settings:
            yield from _numbers(value)
    elif isinstance(settings, int):
        yield settings


def _from_factory(spec: str, args: Mapping[str, Any]) -> nn.Module:
    """Run a user's file, call the factory in it, and return the network that it gives."""
    file, _, name = spec.rpartition(":")
    path = _existing(Path(file)).resolve()
    with _beside(path):
        factory = _run(path, file, name)
        misfit = "" if isinstance(factory, nn.Module) else _misfit(factory, **args)
        if misfit:
            called = f"with {', '.join(args)}" if args else "without arguments"
            raise AssayError(
                f"{spec} is called {called} to make a network, but {misfit}: set what it needs by "
                "--model-args; or, if it is a function of images, say what it answers, --access "
                "labels, scores or logits"
            )
        try:
            made = factory if isinstance(factory, nn.Module) else factory(**args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a user's code may raise
            raise AssayError(f"{spec} raised {told(error)}") from error
    if not isinstance(made, nn.Module):
        raise AssayError(f"{spec} gave {type(made).__name__}, not a torch.nn.Module")
    return made


def _eval(module: nn.Module) -> nn.Module:
    """Return the module in eval mode; one that was exported, or is frozen, is in no other."""
    with suppress(NotImplementedError, RuntimeError):
        module.eval()
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a user's file find its neighbours, as it does when it is run."""
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # the file may have taken it off itself
            sys.path.remove(folder)


def _run(path: Path, file: str, name: str) -> Callable[..., Any]:
    """Run a Python file as a module of its own and return what is called `name` in it."""
    inside = f"assay_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    loader = importlib.util.spec_from_file_location(inside, path)
    assert loader is not None  # the name ends in .py
    assert loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.modules[inside] = module  # dataclasses and pickles of the file look themselves up here
    try:
        loader.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's code may raise
        raise AssayError(f"{file} cannot be run: {told(error)}") from error
    known: Mapping[str, Any] = vars(module)
    if name not in known:
        own = [key for key, value in known.items() if callable(value) and not key.startswith("_")]
        raise unknown(f"function in {file}", name, own)
    if not callable(known[name]):
        raise AssayError(f"{file}:{name} is {type(known[name]).__name__}, not a function or class")
    factory: Callable[..., Any] = known[name]
    return factory
