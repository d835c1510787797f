"""What the user is told when the input is wrong: what was wrong, what was seen, what to do."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

MOST_NAMES = 40
"""Of more than these only the nearest are listed."""


class AssayError(Exception):
    """A mistake in what was asked. The command prints it as one line and exits with code 2.

    >>> try:
    ...     assay.load_data("digitz")
    ... except assay.AssayError as error:
    ...     print("digits" in str(error))
    True
    """


class NoSplit(AssayError):
    """The data can be read, and do not have the split that was asked for."""


def expanded(path: str | Path) -> Path:
    """Return a path with ~ and ~user as the folders they mean.

    Raises:
        AssayError: there is no such user, or no file can have such a name.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except (RuntimeError, OSError, ValueError) as error:
        raise AssayError(
            f"{one_line(str(path), 80)!r} is no path: {one_line(str(error), 80)}"
        ) from error
    return found


def told(error: BaseException) -> str:
    """Return an error in one line: ours as it is, another's with its type.

    >>> told(ValueError("no batch of 1"))
    'ValueError: no batch of 1'
    """
    if isinstance(error, AssayError):
        return " ".join(str(error).split())
    return f"{type(error).__name__}: {one_line(str(error)) or 'no message'}"


def one_line(text: str, most: int = 200) -> str:
    """Return `text` without line breaks and control characters, shortened to `most` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the name in `known` that `word` was most likely meant to be, or None."""
    names = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    return names[matches[0]] if matches else None


def distinct(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the names of classes, if none is there twice.

    Raises:
        AssayError: names the first that is; `where` says who gives them.

    >>> distinct(("cat", "dog"), "--classes")
    ('cat', 'dog')
    """
    found = tuple(names)
    places: dict[str, int] = {}
    for place, name in enumerate(found):
        if name in places:
            raise AssayError(
                f"{where}: {one_line(name, 60)!r} is there twice, as class {places[name]} and "
                f"class {place}; give each a name of its own"
            )
        places[name] = place
    return found


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that is there more than once, if any is.

    >>> repeated(("knn", "gen", "knn"))
    'knn'
    """
    count = Counter(names)
    return next((name for name in count if count[name] > 1), None)


def numbered_apart(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of classes that are known by their numbers: those that are there twice, as
    ImageNet's cranes, have their number beside them.

    Raises:
        AssayError: one is called as another is with its number.

    >>> numbered_apart(("crane", "dog", "crane"))
    ('crane (0)', 'dog', 'crane (2)')
    """
    found = tuple(names)
    count = Counter(found)
    return distinct(
        (name if count[name] == 1 else f"{name} ({number})" for number, name in enumerate(found)),
        "classes",
    )


def unknown(kind: str, seen: str, known: Iterable[str]) -> AssayError:
    """Return the error for a name that nothing answers to; it names the nearest known one.

    >>> str(unknown("study", "skp", ["skip", "attacks"]))
    "unknown study 'skp': did you mean 'skip'? Known: attacks, skip"
    """
    names = sorted(known)
    guess = nearest(seen, names)
    hint = f": did you mean {guess!r}?" if guess else "."
    if len(names) > MOST_NAMES:
        close = difflib.get_close_matches(seen, names, n=5, cutoff=0.3) or names[:5]
        return AssayError(f"unknown {kind} {seen!r}{hint} Of {len(names)}: {', '.join(close)}, …")
    return AssayError(f"unknown {kind} {seen!r}{hint} Known: {', '.join(names) or 'none'}")
