"""Data that a function of the user's gives: batches, a loader, a data set; pulled, never all read.

The function is named `file.py:function` or `package.module:function`, and is called with the split
if it has a parameter `split`, without anything otherwise. It gives (inputs, labels), or an
iterable of such batches or of single examples, or dicts of columns as `datasets` yields them.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from assay import stats
from assay.data.classes import by_name
from assay.data.splits import held_out
from assay.data.tables import LABEL_COLUMNS
from assay.errors import AssayError, distinct, numbered_apart, one_line, told, unknown
from assay.usercode import from_file, in_file, installed, misfit, names_function

PARTS = ("train", "validation", "test")
MOST_CLASSES = 100_000
"""More are no classes: identities, or a label for what is to be ignored."""
END = object()


@dataclass(frozen=True)
class Batch:
    """Some rows as they were given.

    Attributes:
        where: what it is called in messages: `data.py:test, batch 3`.
        inputs: images or texts, one per label.
        labels: numbers, or names of classes.
        metadata: further columns, one value per label.
    """

    where: str
    inputs: Any
    labels: list[int] | list[str]
    metadata: dict[str, list[Any]]


@dataclass
class Pulled:
    """What a function gave: its batches, one at a time, and what it calls the classes.

    Attributes:
        batches: ends after as many rows as were asked for: no more are pulled.
        names: names of the classes; None where it has none.
        whole: whether it has one part only, whichever is asked for.
        notes: what the user should know of it.
    """

    batches: Iterator[Batch]
    names: tuple[str, ...] | None
    whole: bool
    notes: list[str] = field(default_factory=list)


def counted(name: object, classes: Sequence[str]) -> bool:
    """Whether classes have no names but were counted in what a function gave: there may be more."""
    numbers = tuple(map(str, range(len(classes))))
    return names_function(str(name)) and tuple(classes) == numbers


def has_parts(spec: str) -> bool:
    """Whether a function gives a part by its name: it has a parameter `split`."""
    with _function(spec) as function:
        return _takes_split(function)


@contextmanager
def pulled(
    spec: str, split: str, inputs: Sequence[str], label: str | None, at_most: int | None
) -> Iterator[Pulled]:
    """Call the function and give its batches, while its neighbours can be found and random numbers
    are those of seed 0, so that a loader that shuffles gives the same rows each time.

    Args:
        spec: `file.py:function` or `package.module:function`.
        split: what it is called with, if it has a parameter `split`.
        inputs: the keys that images or texts may have in a dict.
        label: the key of labels; None: by usual names.
        at_most: rows that are pulled; None: all.

    Raises:
        AssayError: it fails, or what it gives is none of what it may give.
    """
    if split not in PARTS:
        raise unknown("split", split, PARTS)
    with _function(spec) as function, _seeded():
        named = {"split": split} if _takes_split(function) else {}
        if wrong := misfit(function, **named):
            raise AssayError(
                f"{spec} is called {'with split' if named else 'without arguments'} to give "
                f"batches, but {wrong}"
            )
        made = _tried(spec, lambda: function(**named))
        labels = (label,) if label is not None else (*LABEL_COLUMNS, "y")
        batches = _batches(spec, made, inputs, labels, at_most)
        yield Pulled(batches, _names(function, made, labels), not named)


def parted(
    split: str, keys: Sequence[int], labels: Sequence[int], found: Pulled, spec: str
) -> list[int]:
    """Return the rows of a split of what a function gave that has one part only: all of it is test;
    train and validation are nine tenths and a tenth of it, by content."""
    if not found.whole or split == "test":
        return list(range(len(keys)))
    out = held_out(np.array(keys, dtype=np.int64), np.array(labels, dtype=np.int64))
    found.notes.append(
        f"{spec} takes no split: a tenth of what it gives is held out for validation, and the rest "
        "is train"
    )
    return [int(row) for row in np.flatnonzero(out if split == "validation" else ~out)]


def gave(
    spec: str, labels: Sequence[int], what: str, batches: int, at_most: int | None
) -> tuple[str, ...]:
    """Return what is said of how much was pulled, a line each; `labels` are those of its rows."""
    whole = at_most is None or len(labels) < at_most
    said = f"{spec} gave {len(labels):,} {what} in {batches:,} batch{'es' * (batches != 1)}: "
    said += "that is all it has" if whole else "asked for no more"
    classes = len(set(labels))
    if whole or (classes > 1 and not stats.by_class(labels)):
        return (said,)
    return said, (
        f"{spec} gives its {what} class by class, and these are the first of them, of {classes} "
        f"class{'es' * (classes != 1)}: let it shuffle them (DataLoader(..., shuffle=True) gives "
        "the same order each time here), or ask for all (--images)"
    )


def numbered(
    spec: str, labels: Sequence[int | str], names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[int]]:
    """Return the classes and the number of each label.

    Raises:
        AssayError: for labels that are none of the classes, or numbers beside names.
    """
    kinds = {isinstance(label, str) for label in labels}
    if len(kinds) > 1:
        raise AssayError(f"{spec} gives labels that are numbers and others that are names")
    if kinds == {True}:
        classes = distinct(names or by_name(map(str, labels)), f"classes of {spec}")
        codes = {name: code for code, name in enumerate(classes)}
        odd = next((label for label in labels if label not in codes), None)
        if odd is not None:
            raise AssayError(
                f"{spec} gives the label {odd!r}, but its classes are "
                f"{one_line(', '.join(classes), 80)}"
            )
        return classes, [codes[str(label)] for label in labels]
    most = max(int(label) for label in labels)
    if names is not None and most >= len(names):
        raise AssayError(
            f"{spec} gives the label {most}, but names {len(names)} classes, numbered from 0: "
            f"{one_line(', '.join(names), 80)}"
        )
    if most >= MOST_CLASSES:
        raise AssayError(
            f"{spec} gives the label {most}: class numbers run from 0, to {MOST_CLASSES - 1:,} at "
            "most"
        )
    named = numbered_apart(names or map(str, range(most + 1)))
    return named, [int(y) for y in labels]


@contextmanager
def _function(spec: str) -> Iterator[Callable[..., Any]]:
    if in_file(spec):
        with from_file(spec) as function:
            yield function
    else:
        yield installed(spec)


@contextmanager
def _seeded() -> Iterator[None]:
    """Let all random numbers begin at seed 0, and go on afterwards where they were."""
    # NumPy: the generator that code of others draws from
    own, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(numpy)  # noqa: NPY002


def _takes_split(function: Callable[..., Any]) -> bool:
    try:
        return "split" in inspect.signature(function).parameters
    except ValueError:  # a builtin that does not say
        return False


def _tried(spec: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's code may raise
        raise AssayError(f"{spec} raised {told(error)}") from error


def _names(
    function: Callable[..., Any], made: Any, labels: Sequence[str]
) -> tuple[str, ...] | None:
    """Return the names of classes that a data set has: as torchvision's do (`classes`), as those of
    `datasets` do (`features`), or as an attribute `classes` of the function says."""
    for owner in (made, getattr(made, "dataset", None), function):
        names = getattr(owner, "classes", None)
        features = getattr(owner, "features", None)
        if names is None and isinstance(features, Mapping):
            declared = (getattr(features.get(label), "names", None) for label in labels)
            names = next((found for found in declared if found), None)
        if isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names):
            return tuple(names)
    return None


def _batches(
    spec: str, made: Any, inputs: Sequence[str], labels: Sequence[str], at_most: int | None
) -> Iterator[Batch]:
    elements = _elements(spec, made)
    number, left = 0, at_most
    while left is None or left > 0:
        element = _tried(f"{spec} (batch {number + 1})", lambda: next(elements, END))
        if element is END:
            break
        number += 1
        batch = _batch(f"{spec}, batch {number}", element, inputs, labels)
        if left is not None:
            batch = _first(batch, left)
            left -= len(batch.labels)
        yield batch
    if not number:
        raise AssayError(f"{spec} gave no batches: it ended at once")


def _elements(spec: str, made: Any) -> Iterator[Any]:
    """Return an iterator over what was made: over itself, if it is one batch as it stands."""
    several = isinstance(made, Mapping) and [hasattr(v, "column_names") for v in made.values()]
    if several and all(several):
        raise AssayError(
            f"{spec} gave several splits ({one_line(', '.join(map(str, made)), 80)}): return one "
            "of them"
        )
    if _is_pair(made) or isinstance(made, Mapping) or _is_frame(made):
        return iter([made])
    if isinstance(made, str | bytes) or made is None or hasattr(made, "ndim"):
        raise _not_batches(spec, made)
    if hasattr(made, "__getitem__") and hasattr(made, "__len__") and not hasattr(made, "__iter__"):
        count = _tried(spec, lambda: len(made))
        return (made[row] for row in range(count))
    if not hasattr(made, "__iter__"):
        raise _not_batches(spec, made)
    found: Iterator[Any] = _tried(spec, lambda: iter(made))
    return found


def _not_batches(where: str, made: Any) -> AssayError:
    return AssayError(
        f"{where} gave {_said(made)}: give (inputs, labels), or yield such batches; a DataLoader, "
        "a Dataset and dicts of columns do too"
    )


def _said(value: Any) -> str:
    """Return in words what a value is."""
    if value is None:
        return "nothing"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def _is_pair(made: Any) -> bool:
    """Whether a value is (inputs, labels), and no list of two batches or examples."""
    if not isinstance(made, tuple | list) or len(made) != 2:
        return False
    first = made[0]
    if isinstance(first, tuple):
        return isinstance(made, tuple) and all(isinstance(one, str) for one in first)
    return hasattr(first, "ndim") or (isinstance(first, list) and all(map(_is_input, first)))


def _is_frame(value: Any) -> bool:
    """Whether a value is a table of pandas or polars: columns by their names."""
    return hasattr(value, "columns") and hasattr(value, "dtypes")


def _is_input(value: Any) -> bool:
    picture = hasattr(value, "convert")
    return isinstance(value, str) or picture or getattr(value, "ndim", 0) in (2, 3)


def _batch(where: str, element: Any, inputs: Sequence[str], labels: Sequence[str]) -> Batch:
    further: dict[str, Any] = {}
    if _is_frame(element):
        element = {name: list(element[name]) for name in element.columns}
    if isinstance(element, Mapping):
        own = _key(where, element, inputs, "images or texts")
        other = _key(where, element, labels, "labels")
        x, y = element[own], element[other]
        further = {str(k): v for k, v in element.items() if k not in (own, other)}
    elif isinstance(element, tuple | list) and len(element) == 2:
        x, y = element
    else:
        raise _not_batches(where, element)
    y = _plain(y)
    if isinstance(y, str | bool | int | float):  # one example
        x, y = [x], [y]
        further = {name: [value] for name, value in further.items()}
    if isinstance(x, str):
        raise AssayError(f"{where} has one text, but {_said(y)} for its label: give one")
    _check_labels(where, y)
    count = len(x) if hasattr(x, "__len__") else -1
    if count != len(y):
        raise AssayError(f"{where} has {count if count >= 0 else 'no'} inputs, but {len(y)} labels")
    if not count:
        raise AssayError(f"{where} is empty: a batch has one example or more")
    # masks and the like are no columns, and as lists they would be large
    further = {name: v for name, v in further.items() if getattr(v, "ndim", 1) == 1}
    columns = {name: _plain(values) for name, values in further.items()}
    return Batch(where, x, y, {k: v for k, v in columns.items() if _is_column(v, count)})


def _key(where: str, element: Mapping[Any, Any], usual: Sequence[str], what: str) -> str:
    found = next((name for name in usual if name in element), None)
    if found is None:
        keys = one_line(", ".join(map(str, element)), 80)
        raise AssayError(f"{where} has no {what} (keys: {keys}; looked for {', '.join(usual)})")
    return found


def _plain(values: Any) -> Any:
    """Return labels, or a column, as Python has them: a list, or one value."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    if isinstance(values, list | tuple):  # of numbers of NumPy's, or of tensors
        return [one.item() if getattr(one, "ndim", 1) == 0 else one for one in values]
    return values.tolist() if hasattr(values, "tolist") else values


def _is_column(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(value is None or isinstance(value, str | int | float) for value in values)
    )


def _check_labels(where: str, labels: Any) -> None:
    if not isinstance(labels, list | tuple):
        raise AssayError(f"{where} has {_said(labels)} for labels: give one number per example")
    for label in labels:
        if isinstance(label, list):
            raise AssayError(
                f"{where} has labels of more than one number each ({len(label)}): give class "
                "numbers (N,); of one-hot vectors that is argmax(1)"
            )
        if not isinstance(label, str) and (isinstance(label, bool) or not isinstance(label, int)):
            raise AssayError(
                f"{where} has the label {one_line(repr(label), 40)}: give class numbers (integers "
                "from 0), or names"
            )
        if isinstance(label, int) and label < 0:
            raise AssayError(f"{where} has the label {label}: class numbers begin at 0")


def _first(batch: Batch, count: int) -> Batch:
    return Batch(
        batch.where,
        batch.inputs[:count],
        batch.labels[:count],
        {name: values[:count] for name, values in batch.metadata.items()},
    )
