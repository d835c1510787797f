"""Whether the labels of a data set are those of a model: how many outputs, and in which order."""

from __future__ import annotations

import shlex

from assay.data.classes import places
from assay.data.dataset import Dataset
from assay.data.walk import listed
from assay.errors import AssayError, one_line


def check_labels(model: str, own: tuple[str, ...], data: Dataset) -> None:
    """See that labels count the outputs of a model, whose names are `own`.

    Raises:
        AssayError: there are fewer or more of them, or one of them has another place.
    """
    others = data.classes
    if len(own) != len(others):
        raise AssayError(
            f"{model} has {len(own)} classes ({one_line(', '.join(own), 80)}), but {data.name} has "
            f"{len(others)} ({one_line(', '.join(others), 80)}): the labels do not fit its outputs"
        )
    moved = next((name for k, name in enumerate(own) if name in others and others[k] != name), None)
    if moved is not None:
        raise AssayError(
            f"class {moved!r} has another place in {data.name} than in {model}, so the labels do "
            f"not fit its outputs, which are {one_line(', '.join(own), 120)}"
        )


def order_of(model: str, own: tuple[str, ...] | None, data: Dataset) -> tuple[str, ...]:
    """Return what is said of the order of classes, where it is taken on trust: a line, or none.

    Args:
        model: what the model is called.
        own: what it calls its outputs; None: it does not say.
        data: the data whose classes they are taken to be.

    Raises:
        AssayError: the network says another one.
    """
    place = None if own is None else places(own, data.classes)
    if own is not None and place is not None:
        if place != list(range(len(place))):
            there = [data.classes[place.index(k)] for k in range(len(place))]
            raise AssayError(
                f"{model} has its classes in another order (id2label) than {data.name}: give "
                f"--classes {shlex.join(there)}"
            )
        return ()
    if own is not None and len(own) == len(data.classes):
        return (
            f"{model} calls its outputs {listed(list(own), 5)} (id2label), and they are taken to "
            f"be {listed(list(data.classes), 5)}, in this order; --classes names another",
        )
    if all(name.isdecimal() for name in data.classes):
        return ()
    alphabetical = " (in alphabetical order)" if list(data.classes) == sorted(data.classes) else ""
    return (
        f"the outputs of {model} are taken to be {listed(list(data.classes), 5)}{alphabetical}; "
        "--classes names another order",
    )
