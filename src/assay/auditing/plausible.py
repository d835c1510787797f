"""Is the model given what it was trained on? A report on one that is not looks like any other.

Measuring and judging are apart: the judges take numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from assay import stats
from assay.core.classifier import Classifier
from assay.core.halves import halves
from assay.core.images import digests
from assay.core.oracle import Oracle
from assay.data.dataset import drawn
from assay.errors import AssayError, one_line, told
from assay.report.flagged import flagged
from assay.report.schema import Flag

if TYPE_CHECKING:
    from assay.auditing.evidence import Evidence

FEW = 64
"""Images on which other preprocessing is tried."""
GAIN = 0.1
"""By how much accuracy must rise before something else is called better."""
SURE = 0.001
"""Greatest p-value with which it is: right models are audited far more often than wrong ones."""

REPEATED = 0.05
"""The share of copies above which images are called repeated."""

ASKED_AGAIN = 16
"""Images that a model is asked about twice."""
WAVERS = 0.01
"""How far a probability may be off from one time to the next: what rounding does in bfloat16, where
the order of a sum is not fixed."""

Labels = NDArray[np.int64]
Normalisation = tuple[tuple[float, ...] | None, tuple[float, ...] | None]

COLOUR: dict[str, Normalisation] = {
    "ImageNet's mean and std (--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225)": (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    "mean and std 0.5 (--mean 0.5 0.5 0.5 --std 0.5 0.5 0.5)": ((0.5,) * 3, (0.5,) * 3),
    "values of 0 to 255 (--mean 0 0 0 --std 0.00392157 0.00392157 0.00392157)": (
        (0.0,) * 3,
        (1 / 255,) * 3,
    ),
    "no mean and std": (None, None),
}
"""What models of colour images are trained with, by what mends it."""

GREY: dict[str, Normalisation] = {
    "MNIST's mean and std (--mean 0.1307 --std 0.3081)": ((0.1307,), (0.3081,)),
    "mean and std 0.5 (--mean 0.5 --std 0.5)": ((0.5,), (0.5,)),
    "values of 0 to 255 (--mean 0 --std 0.00392157)": ((0.0,), (1 / 255,)),
    "no mean and std": (None, None),
}
"""The same of grey images."""

BLUE_FIRST = "colours in the order blue, green, red (--channels bgr)"


def flags_of(evidence: Evidence) -> tuple[Flag, ...]:
    """Return the reasons to think that the model is not given what it was trained on: those that
    are up, and the others."""
    return looked_at(evidence.model, evidence.x, evidence.y, evidence.predictions, evidence.classes)


def looked_at(
    model: Oracle[Tensor], x: Tensor, y: Tensor, predictions: Tensor, classes: Sequence[str]
) -> tuple[Flag, ...]:
    """Return the same of a model that is not audited. It is asked about a few images twice; a
    network, besides, with other preprocessing.

    Args:
        x: float32 (N, C, H, W) in [0, 1].
        y, predictions: int64 (N,), the labels and what the model says; -1 where it has no answer.
    """
    said, meant = predictions.cpu().numpy(), y.cpu().numpy()
    looks: dict[str, Callable[[], Flag]] = {
        "PRE-001": lambda: near_chance(
            int((said == meant).sum()),
            len(meant),
            len(classes),
            network=isinstance(model, Classifier),
        ),
        "PRE-005": lambda: class_order(said, meant, classes),
        "PRE-008": lambda: wavering(*_asked_twice(model, x)),
    }
    if not isinstance(model, Classifier):
        looks["PRE-006"] = lambda: no_answer(int((said < 0).sum()), len(meant))
    if (copies := _copies(x)) > REPEATED * len(x):  # as a rule there are none to speak of
        looks["PRE-007"] = lambda: repeated(copies, len(x))
    if isinstance(model, Classifier):
        mean, std = _values(model.mean), _values(model.std)
        looks["PRE-002"] = lambda: mean_without_std(mean, std)
        looks["PRE-003"] = lambda: units(mean, std)
        looks["PRE-004"] = lambda: other_preprocessing(*_tried(model, x, y, said))
    return tuple(looked_for(code, looks[code]) for code in sorted(looks))


def asked_again(model: Oracle[Any], inputs: Any) -> Flag:
    """Return PRE-008 alone, of images or texts (N of them) that need no labels."""
    return looked_for("PRE-008", lambda: wavering(*_asked_twice(model, inputs)))


def warnings(flags: Sequence[Flag]) -> list[str]:
    """Return what is said of those that are up, a line each."""
    return [flagged(flag) for flag in flags if flag.raised and flag.code.startswith("PRE-")]


def looked_for(code: str, look: Callable[[], Flag]) -> Flag:
    """Return what a look finds, or that it could not be taken, and why."""
    try:
        return look()
    except Exception as error:  # whatever a user's model may raise
        return Flag(code=code, title="Could not be looked at", raised=None, detail=told(error))


def _values(given: Tensor | None) -> list[float] | None:
    return None if given is None else given.flatten().tolist()


# -- judging ---------------------------------------------------------------------------------


def near_chance(
    right: int, n: int, classes: int, *, network: bool = True, of: str = "images"
) -> Flag:
    """PRE-001: the accuracy is not known to be above that of guessing, 1 / K; of one class alone
    it cannot be, whatever the model, and the flag is not up.

    Args:
        right: images that are classified correctly, of `n`.
        classes: K.
        network: whether weights and preprocessing can be set from here.
        of: images or texts.
    """
    found = stats.proportion(right, n, of)
    raised = classes > 1 and found.low <= 1 / classes
    detail = f"{right} of {n} {of} are right; guessing among {classes} classes gives "
    detail += f"{100 / classes:.3g} %."
    if classes == 1:
        detail += " With one class nothing can be told from guessing."
    if raised and of == "texts":
        detail += (
            " Was its head trained for these classes, and are they in the order of its outputs "
            "(--classes)?"
        )
    elif raised and network:
        detail += (
            " Are the trained weights loaded (--weights), the inputs normalised as in training "
            "(--mean, --std) and the classes in the model's order (--classes)?"
        )
    elif raised:
        detail += (
            " Does it take images in [0, 1] of this size (--size; for an ONNX file that does not "
            "normalise by itself, --mean and --std), and are the classes in the order of its "
            "outputs (--classes)?"
        )
    return Flag(code="PRE-001", title="The model does no better than guessing", raised=raised,
                detail=detail)  # fmt: skip


def mean_without_std(mean: Sequence[float] | None, std: Sequence[float] | None) -> Flag:
    """PRE-002: inputs are shifted and not scaled."""
    raised = mean is not None and std is None
    detail = f"mean {_listed(mean)}, std {_listed(std)}."
    if raised:
        detail += " If the model was trained with both, give --std too."
    return Flag(code="PRE-002", title="A mean is given without a std", raised=raised, detail=detail)


def units(mean: Sequence[float] | None, std: Sequence[float] | None) -> Flag:
    """PRE-003: a mean that no pixel in [0, 1] can have."""
    wrong = mean is not None and max(mean) > 1
    detail = f"mean {_listed(mean)}, std {_listed(std)}; pixels go from 0 to 1."
    if wrong and mean is not None:
        divided = " ".join(f"{value / 255:.4g}" for value in mean)
        scale = " ".join(f"{value / 255:.4g}" for value in (std or [1.0] * len(mean)))
        detail += f" In these units it is --mean {divided} --std {scale}."
    return Flag(code="PRE-003", title="The mean is in units of 0 to 255", raised=wrong,
                detail=detail)  # fmt: skip


def other_preprocessing(
    now: NDArray[np.bool_], others: dict[str, NDArray[np.bool_]], *, of: str = "images"
) -> Flag:
    """PRE-004: with other preprocessing the model is right far more often.

    Args:
        now: which images are right as the model is given them, bool (N,).
        others: the same with other preprocessing, by what gives it.
        of: images or texts.
    """
    better = {}
    for name, right in others.items():
        test = stats.mcnemar(right, now)
        if test.p * len(others) <= SURE and test.difference.value >= GAIN:
            better[name] = test.difference.value
    detail = f"{now.sum()} of {len(now)} {of} are right as they are given"
    if better:
        best = max(better, key=lambda name: better[name])
        detail += f", {others[best].sum()} with {best}"
    elif others:
        most = max(int(right.sum()) for right in others.values())
        detail += f", at most {most} with other preprocessing ({len(others)} tried)"
    title = "The model is right far more often with other preprocessing"
    return Flag(code="PRE-004", title=title, raised=bool(better), detail=f"{detail}.")


def class_order(
    predictions: Labels, y: Labels, classes: Sequence[str], *, of: str = "images"
) -> Flag:
    """PRE-005: with its outputs in another order the model is right far more often.

    The order is found on half of each class and tried on the rest: an order that is chosen to fit
    some images fits them, whatever the model.

    Args:
        predictions, y: int64 (N,); -1 where the model has no answer.
        classes: the names, as the labels count them.
        of: images or texts.
    """
    answered = predictions >= 0
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    half = np.zeros(len(y), dtype=bool)
    half[halves(len(y), torch.from_numpy(y))[0].numpy()] = True
    chosen = answered & half
    np.add.at(counts, (predictions[chosen], y[chosen]), 1)
    # where nothing speaks for another place, a class keeps its own
    favour = counts + 0.5 * np.eye(len(classes))
    meant: Labels = linear_sum_assignment(favour, maximize=True)[1]
    held = answered & ~chosen
    now, then = predictions[held] == y[held], meant[predictions[held]] == y[held]
    test = stats.mcnemar(then, now)
    raised = bool(len(now)) and test.p <= SURE and test.difference.value >= GAIN
    detail = f"{now.sum()} of {len(now)} {of} are right, {then.sum()} with the order that fits."
    if raised:
        moved = [k for k in range(len(classes)) if meant[k] != k]
        some = ", ".join(f"{classes[k]} means {classes[int(meant[k])]}" for k in moved[:5])
        detail += f" {len(moved)} outputs have another's place ({one_line(some, 200)})"
        detail += f"; {_mended([classes[place] for place in meant.tolist()])}"
    return Flag(
        code="PRE-005",
        title="The classes are in another order than the model's outputs",
        raised=raised,
        detail=detail,
    )


def no_answer(silent: int, n: int) -> Flag:
    """PRE-006: what can only be queried has no answer for some images: NaN, infinity or null.

    Args:
        silent: images without one, of `n`.
    """
    detail = f"{silent} of {n} images have no answer (NaN, infinity or null)"
    if silent:
        detail += ", and count as wrong: accuracy, and what rests on it, is of an answer to each"
    return Flag(code="PRE-006", title="The model has no answer for some images",
                raised=silent > 0, detail=f"{detail}.")  # fmt: skip


def repeated(copies: int, n: int, *, of: str = "images") -> Flag:
    """PRE-007: images are there more than once, so that fewer are seen than are counted.

    Args:
        copies: images, of `n`, that are the same as one before them.
        of: images or texts.
    """
    same = "to the last bit" if of == "images" else "but for spaces and capitals"
    return Flag(
        code="PRE-007",
        title=f"{of.capitalize()} are there more than once",
        raised=True,
        detail=f"{copies} of {n} {of} are copies of others, {same}: intervals are those "
        f"of {n} different ones, and too narrow; leave the copies out.",
    )


def wavering(first: NDArray[Any], second: NDArray[Any]) -> Flag:
    """PRE-008: asked again about the same, the model answers something else.

    Args:
        first, second: probabilities (n, K), or labels (n,), of the same inputs; NaN or -1 where
            there was no answer.
    """
    n, scored = len(first), first.ndim == 2
    said = [answer.argmax(1) if scored else answer for answer in (first, second)]
    changed = int((said[0] != said[1]).sum())
    silent = np.isnan(first) | np.isnan(second) if scored else np.zeros(n, dtype=bool)
    off = float(np.abs(np.where(silent, 0.0, first - second)).max(initial=0.0)) if scored else 0.0
    raised = off > WAVERS if scored else changed > 0
    detail = f"Asked twice about {n} inputs, "
    detail += f"its probabilities differ by up to {off:.2g} and " if scored else ""
    detail += f"{changed} of {n} labels change"
    if raised:
        detail += (
            ": every figure is of one draw, and intervals leave out that another draw gives "
            "others; an attack by the gradient of one draw is weaker than by the mean of many, so "
            "that robustness is overstated. Is dropout on in eval mode? Otherwise let it return "
            "the mean of many draws, or draw from a fixed seed"
        )
    return Flag(code="PRE-008", title="The model answers differently each time", raised=raised,
                detail=f"{detail}.")  # fmt: skip


def _mended(order: Sequence[str]) -> str:
    if len(order) > 20:
        return "name the classes in the order of its outputs: --classes"
    names = " ".join(f'"{name}"' if " " in name else name for name in order)
    return f"it would be --classes {names}"


def _listed(values: Sequence[float] | None) -> str:
    return "none" if values is None else " ".join(f"{value:.4g}" for value in values)


# -- measuring -------------------------------------------------------------------------------


def _copies(x: Tensor) -> int:
    """Return how many images are the same as one before them."""
    return len(x) - len(set(digests(x)))


def _asked_twice(model: Oracle[Any], inputs: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what a model says of a few inputs, and of the same again: probabilities, or labels."""
    some = inputs[:ASKED_AGAIN]
    answers = [model.query(some).detach().cpu() for _ in range(2)]
    if answers[0].ndim == 2 and model.access != "scores":
        answers = [answer.double().softmax(1) for answer in answers]
    return answers[0].numpy(), answers[1].numpy()


def _tried(
    clf: Classifier, x: Tensor, y: Tensor, said: NDArray[Any]
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.bool_]]]:
    """Return which of a few images are right as they are given, by the predictions `said`, and with
    other preprocessing."""
    rows = drawn(torch.arange(len(x)))[:FEW]
    x, y = x[rows], y[rows]
    others = {}
    for name, other in _others(clf, x.shape[1]):
        try:
            others[name] = (other.predict(x) == y).numpy()
        except AssayError:  # it does not take such images
            continue
    return said[rows.numpy()] == y.numpy(), others


def _others(clf: Classifier, channels: int) -> Iterator[tuple[str, Classifier]]:
    """Yield the same model with other preprocessing, by what gives it."""
    known: dict[str, Normalisation] = {3: COLOUR, 1: GREY}.get(channels, {})
    own = (_values(clf.mean), _values(clf.std))
    rest: dict[str, Any] = {
        "classes": clf.classes,
        "outputs": clf.outputs,
        "batch_size": clf.batch_size,
    }
    for name, (mean, std) in known.items():
        if own != tuple(None if v is None else _values(torch.tensor(v)) for v in (mean, std)):
            other = Classifier(clf.model, mean=mean, std=std, preprocess=clf.preprocess, **rest)
            yield name, other
    if channels == 3:
        before = clf.preprocess

        def flipped(x: Tensor) -> Tensor:
            return x.flip(1) if before is None else before(x.flip(1))

        yield (
            BLUE_FIRST,
            Classifier(clf.model, mean=clf.mean, std=clf.std, preprocess=flipped, **rest),
        )
