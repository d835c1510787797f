"""Whether a data set is for a model: how many outputs its labels count, in which order, and of
which size its images are."""

from __future__ import annotations

import shlex

from assay.data.classes import places
from assay.data.dataset import Dataset
from assay.data.walk import listed
from assay.errors import AssayError, nearest, one_line


def check_labels(model: str, own: tuple[str, ...], data: Dataset) -> None:
    """See that labels count the outputs of a model, whose names are `own`.

    Raises:
        AssayError: there are fewer or more of them, or one of them has another place.
    """
    others = data.classes
    if len(own) == 1 and len(names := own[0].split(",")) == len(others):
        apart = one_line(shlex.join(name.strip() for name in names), 120)
        raise AssayError(
            f"{own[0]} is read as one name: put spaces between them, --classes {apart}"
        )
    if len(own) != len(others):
        counted = f"{len(own)} class{'' if len(own) == 1 else 'es'}"
        raise AssayError(
            f"{model} has {counted} ({one_line(', '.join(own), 80)}), but {data.name} has "
            f"{len(others)} ({one_line(', '.join(others), 80)}): the labels do not fit its outputs"
        )
    moved = next((name for k, name in enumerate(own) if name in others and others[k] != name), None)
    strange = next((name for name in own if name not in others), None)
    if moved is not None and strange is not None:
        guess = nearest(strange, [name for name in others if name not in own])
        meant = f" (did you mean {guess}?)" if guess else ""
        raise AssayError(
            f"class {strange!r} of {model} is none of {data.name}{meant}, so its outputs are in an "
            f"order that cannot be matched by name to {one_line(', '.join(others), 120)}: name "
            "them by --classes as the data do"
        )
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
    if list(data.classes) == [str(k) for k in range(len(data.classes))]:
        return ()  # a number is its output
    alphabetical = " (in alphabetical order)" if list(data.classes) == sorted(data.classes) else ""
    return (
        f"the outputs of {model} are taken to be {listed(list(data.classes), 5)}{alphabetical}; "
        "--classes names another order",
    )


def scaled_again(model: str, side: int | None, data: Dataset, *, asked: bool) -> tuple[str, ...]:
    """Return what is said of a model that scales images to another size itself: a line, or none.

    Args:
        model: what the model is called.
        side: height and width of what it takes; None: any.
        data: its images.
        asked: whether the user chose their size.
    """
    height, width = data.images.shape[2:]
    if side is None or height == width == side:
        return ()
    flag = "; without --size they are brought to its own" if asked else ""
    return (
        f"{model} takes images of {side}×{side} pixels, and those of {height}×{width} are scaled "
        f"to that each time: attacks change pixels of {height}×{width}{flag}",
    )
