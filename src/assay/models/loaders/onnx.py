"""ONNX models, which onnxruntime evaluates: they can be queried, and have no gradients.

What an exporter wrote beside one is followed: the preprocessing, and the names of its classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.core.blackbox import ALIKE_TOLERANCE, SUM_TOLERANCE, Answers, BlackBox
from assay.core.misfits import of_channels
from assay.disk import existing
from assay.errors import AssayError, told
from assay.models.loaders.base import About, Given, Loader
from assay.models.loaders.preprocessing import Preprocess
from assay.models.loaders.processor import (
    PROCESSOR,
    Processor,
    named_classes,
    read_object,
    read_processor,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROBES = 4
"""Random images by which it is seen whether a model answers with probabilities."""
CONFIG = "config.json"
LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])")
UNSAID = Processor(mode="bicubic")
"""How images are brought to the size of a model that says nothing of it: as folders are read."""


class Onnx(Loader):
    """An `.onnx` file, or a folder that holds one; the processor beside it is followed."""

    name = "onnx"
    what = "an ONNX model"
    takes = frozenset({"mean", "std", "channels", "outputs"})
    queried = True

    def recognises(self, spec: str) -> bool:
        if spec.lower().endswith(".onnx"):
            return True
        folder = Path(spec)
        return folder.is_dir() and bool(_held(folder)) and not any(folder.glob("*.safetensors"))

    def load(self, spec: str, given: Given) -> BlackBox:
        """Return the model as it can be queried.

        Rows that are positive and sum to 1 on a few random images are taken for probabilities.

        Raises:
            AssayError: for a file that is not there or no ONNX model, one that does not take images
                alone, has no output of one row of numbers per image, or takes another size than the
                processor beside it makes; for a folder of several.
        """
        file = _file(spec)
        session = _session(file)
        processor = _processor(file, session, spec)
        images = _Images(session, spec, given, processor)
        batch = images.batch or given.batch_size
        if images.batch and given.batch_size not in (None, images.batch):
            raise AssayError(
                f"{spec} takes batches of {images.batch} images and no others; drop --batch-size"
            )
        try:
            answered = _tried(images, given.batch_size or PROBES)
        except AssayError:
            raise
        except Exception as error:  # onnxruntime raises its own kinds for what fails while it runs
            raise AssayError(
                f"{spec} fails on random images of its own size{_advice(images)}: {told(error)}"
            ) from error
        if given.outputs == "probabilities" and _no_probabilities(answered):
            raise AssayError(
                f"{spec} answers with numbers from {answered.min():.4g} to {answered.max():.4g}, "
                "which are logits, not probabilities: drop --outputs"
            )
        access: Answers = "logits"
        if given.outputs == "probabilities" or _probabilities(answered):
            access = "scores"
        own = named_classes(read_object(_beside(file) / CONFIG))
        classes = given.classes or own or answered.shape[1]
        named = spec if Path(spec) == file else str(file)
        notes = [f"{named} is evaluated by onnxruntime: it can be queried, and has no gradients"]
        if (_beside(file) / PROCESSOR).is_file():
            notes.append(f"preprocessing of {spec}: {processor}")
            if images.bytes and (processor.mean or processor.std):
                notes.append(f"{spec} takes whole numbers of 0 to 255: mean and std are left out")
        notes += images.notes
        notes += [f"{spec} answers with probabilities"] if access == "scores" else []
        return BlackBox(
            images.run, classes=classes, access=access, batch_size=batch, name=spec, notes=notes
        )

    def about(self, spec: str) -> About:
        file = _file(spec)
        said = _processor(file, _session(file), spec)
        classes = named_classes(read_object(_beside(file) / CONFIG))
        return About(classes, said.side, said.crop, said.mode)

    def files(self, spec: str) -> Sequence[Path]:
        file = _file(spec)
        said = [path for name in (PROCESSOR, CONFIG) if (path := _beside(file) / name).is_file()]
        return [file, *_apart(file), *said]


# -- its folder -------------------------------------------------------------------------------


def _held(folder: Path) -> list[Path]:
    """Return the ONNX files of a folder: in it, or as exporters have it, in `onnx/`."""
    here = sorted(folder.glob("*.onnx"))
    return here or sorted(folder.glob("onnx/*.onnx"))


def _file(spec: str) -> Path:
    """Return the file that is meant: of several in a folder, `model.onnx`."""
    path = Path(spec)
    if not path.is_dir():
        return existing(path)
    found = _held(path)
    named = [file for file in found if file.name == "model.onnx"] or found
    if len(named) != 1:
        names = ", ".join(str(file.relative_to(path)) for file in named[:5])
        raise AssayError(f"{spec} holds {len(named)} ONNX models ({names}): name the file")
    return named[0]


def _apart(file: Path) -> list[Path]:
    """Return the files in its folder that hold weights of a model, those larger than a file of
    protobuf may be, in the order of their names.

    A tensor that is kept apart says where: an entry of a key, `location` (field 1), and a value
    (field 2), whose length stands before it, seven bits to a byte, the lowest first.
    """
    home = file.parent.resolve()
    return [at for at in _places(file) if at.is_file() and at.resolve().is_relative_to(home)]


def _places(file: Path) -> list[Path]:
    """Return the files where it says that its weights are, in the order of their names, whether or
    not they are there."""
    content = file.read_bytes()
    places = set()
    for found in LOCATION.finditer(content):
        length = sum((byte & 127) << 7 * k for k, byte in enumerate(found[1]))
        said = content[found.end() : found.end() + length].decode(errors="replace")
        places.add(file.parent / said.replace("\0", ""))
    return sorted(places)


def _beside(file: Path) -> Path:
    """Return the folder where an exporter writes what it says of a file."""
    return file.parent.parent if file.parent.name == "onnx" else file.parent


def _processor(file: Path, session: InferenceSession, spec: str) -> Processor:
    """Return the preprocessing that is said beside a file, to the size that it takes; without any,
    middle squares of that size, if it takes one alone.

    Raises:
        AssayError: it makes other images than the model takes.
    """
    said = read_processor(_beside(file)) or UNSAID
    _, height, width, _, _ = _laid_out(session, spec)
    if said.side is not None:
        if {height, width} - {0, said.side}:
            raise AssayError(
                f"{_beside(file) / PROCESSOR} makes images of {said.side} × {said.side} pixels, "
                f"and {spec} takes {height} × {width}: one of them is of another model"
            )
        return said
    return replace(said, side=height if height == width and height else None)


# -- its images -------------------------------------------------------------------------------


class _Images:
    """A session as a function of float32 (n, C, H, W) in [0, 1]."""

    def __init__(self, session: InferenceSession, spec: str, given: Given, said: Processor) -> None:
        self.session = session
        self.spec = spec
        self.channels, self.height, self.width, self.last, self.batch = _laid_out(session, spec)
        self.entry = session.get_inputs()[0]
        self.output, self.notes = _answer(session, spec)
        self.prepared = Preprocess(
            side=said.side,
            crop=said.crop,
            mode=said.mode,
            colour=self.channels == 3,
            blue_first=given.channels == "bgr" or said.blue_first,
        )
        self.bytes = self.entry.type == "tensor(uint8)"
        if self.bytes and (given.mean is not None or given.std is not None):
            raise AssayError(f"{spec} takes whole numbers of 0 to 255: drop --mean and --std")
        for flag, values in (("--mean", given.mean), ("--std", given.std)):
            if values is not None and self.channels and len(values) not in (1, self.channels):
                raise AssayError(
                    f"{flag} has {len(values)} values, and {spec} takes images of "
                    f"{self.channels} channels: give one value, or one per channel"
                )
        self.shift = _per_channel(said.mean if given.mean is None else given.mean, 0.0)
        self.scale = _per_channel(said.std if given.std is None else given.std, 1.0)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the answers (n, K)."""
        x = self.prepared(torch.from_numpy(images)).numpy()
        if self.channels and x.shape[1] != self.channels:
            said = of_channels(self.channels, x.shape[1])
            raise AssayError(f"these images are not for {self.spec}: {said}")
        x = np.rint(x * 255) if self.bytes else (x - self.shift) / self.scale
        x = x.transpose(0, 2, 3, 1) if self.last else x
        x = np.ascontiguousarray(x, dtype=TYPES[self.entry.type])
        if not self.batch:
            return self._asked(x)
        parts = [x[start : start + self.batch] for start in range(0, len(x), self.batch)]
        return np.concatenate(
            [self._asked(_padded(part, self.batch))[: len(part)] for part in parts]
        )

    def _asked(self, x: NDArray[Any]) -> NDArray[np.float32]:
        (answer,) = self.session.run([self.output], {self.entry.name: x})
        return np.asarray(answer, dtype=np.float32).reshape(len(x), -1)


TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
"""What onnxruntime calls the types of images."""


def _session(path: Path) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise AssayError(
            f"{path} is an ONNX model, and onnxruntime is not installed: pip install 'assay[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised, and need no print besides
    offered = onnxruntime.get_available_providers()
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in offered]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # onnxruntime raises its own kinds for what is wrong with a file
        raise AssayError(_unloaded(path, error)) from error


def _unloaded(path: Path, error: Exception) -> str:
    """Return why a file cannot be loaded, and what to do where that is known."""
    said = str(error)
    gone = [at.name for at in _places(path) if not at.is_file()] if "xternal data" in said else []
    if gone:
        return (
            f"{path} keeps its weights in another file, {', '.join(gone)}, which is not beside it: "
            "put it into the same folder"
        )
    if "Protobuf parsing failed" in said or "No graph was found" in said:
        size = path.stat().st_size
        return (
            f"{path} is no ONNX model, or not a whole one ({size:,} bytes): export or download it "
            "again"
        )
    return f"{path} cannot be loaded as an ONNX model: {told(error)}"


def _laid_out(session: InferenceSession, spec: str) -> tuple[int, int, int, bool, int]:
    """Return channels, height and width (0: any), whether channels come last, and the batch that it
    takes (0: any)."""
    inputs = session.get_inputs()
    shapes = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs)
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in TYPES:
        raise AssayError(
            f"{spec} does not take a batch of images alone, (n, C, H, W) or (n, H, W, C), but "
            f"{shapes}: query it through a function, file.py:function --access logits"
        )
    batch, one, two, three = (size if isinstance(size, int) else 0 for size in inputs[0].shape)
    if one in (1, 3) or three not in (1, 3):
        return one, two, three, False, batch
    return three, one, two, True, batch


def _answer(session: InferenceSession, spec: str) -> tuple[str, tuple[str, ...]]:
    """Return the output that holds a row of numbers per image, and what is to be said of it."""
    outputs = session.get_outputs()
    rows = [one for one in outputs if one.type in TYPES and len(one.shape) == 2]
    rows = rows or [one for one in outputs if one.type in TYPES and len(one.shape) == 4]
    if not rows:
        shapes = ", ".join(f"{one.name} {one.shape} {one.type}" for one in outputs)
        raise AssayError(
            f"{spec} has no output of numbers (n, K) per image, but {shapes}: export it with its "
            "logits as an output, or query its labels through a function, file.py:function "
            "--access labels"
        )
    others = [one.name for one in outputs if one is not rows[0]]
    said = f"of its outputs {rows[0].name} is used, not {', '.join(others)}"
    return rows[0].name, ((said,) if others else ())


def _per_channel(values: Any, usual: float) -> NDArray[np.float32]:
    given = np.asarray([usual] if values is None else list(values), dtype=np.float32)
    return given.reshape(1, -1, 1, 1)


def _padded(part: NDArray[Any], rows: int) -> NDArray[Any]:
    return np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])


def _random(images: _Images) -> NDArray[np.float32]:
    """Return a few images of the size and the channels that are taken; 224 pixels where any are."""
    shape = (PROBES, images.channels or 3, images.height or 224, images.width or 224)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _tried(images: _Images, rows: int) -> NDArray[np.float32]:
    """Return the answers to random images, which are given so many at a time."""
    x = _random(images)
    return np.concatenate([images.run(x[k : k + rows]) for k in range(0, len(x), rows)])


def _advice(images: _Images) -> str:
    """Return, after a comma, what to do about a model that fails on images of its own size."""
    if not images.channels:
        return (
            f", since {images.entry.name} {images.entry.shape} says neither how many channels it "
            "takes nor where: export it with these fixed, or query it through a function, "
            "file.py:function --access logits"
        )
    with suppress(Exception):  # it fails on one image too
        _tried(images, 1)
        return ", except one at a time: give --batch-size 1, or export it for batches of any size"
    return ""


def _no_probabilities(rows: NDArray[np.float32]) -> bool:
    return bool(rows.min() < -SUM_TOLERANCE or np.abs(rows.sum(1) - 1).max() > SUM_TOLERANCE)


def _probabilities(rows: NDArray[np.float32]) -> bool:
    return bool(rows.min() >= 0 and np.abs(rows.sum(1) - 1).max() < ALIKE_TOLERANCE)
