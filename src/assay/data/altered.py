"""What reading does to the pixels of some images, in words: it is what the field's loaders do, and
whoever expects otherwise has to know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

Cause = Literal["transparent", "several", "turned"]
"""Why pixels are not those that a viewer shows, or the file holds: see `SAID`."""

SAID: Mapping[Cause, str] = {
    "transparent": (
        "{where} have transparent pixels: their own colours count, and transparency does not, as "
        "in torchvision, timm and Keras; for a background, lay copies on it (magick IN "
        "-background white -flatten OUT)"
    ),
    "several": (
        "{where} hold several pictures each (an animation, or pages): the first counts; save the "
        "others as files of their own if they are meant"
    ),
    "turned": (
        "{where} are turned as their EXIF orientation says, as viewers and datasets do; "
        "torchvision.datasets.ImageFolder and Keras do not: for a model trained by these, take the "
        "tag out of copies (exiftool -Orientation= FILES)"
    ),
}
"""What is said of each cause; nothing is done about it but that."""


def notes_on(
    rows: Iterable[tuple[int, Cause]], title: Callable[[int], str], of: str
) -> tuple[str, ...]:
    """Return one line per cause: how many images it is about, and the first of them.

    Args:
        rows: images, by their number, and what was done to each.
        title: what an image is called, by its number.
        of: what they are counted of: `200 images of test`.

    >>> notes_on([(3, "several"), (7, "several")], "{}.gif".format, "9 images")[0][:58]
    '2 of 9 images (the first: 3.gif) hold several pictures eac'
    """
    seen: dict[Cause, list[int]] = {}
    for row, cause in rows:
        seen.setdefault(cause, []).append(row)
    return tuple(
        said(cause, f"{len(seen[cause]):,} of {of} (the first: {title(min(seen[cause]))})")
        for cause in SAID
        if cause in seen
    )


def said(cause: Cause, where: str) -> str:
    """Return what is said of a cause, of the images named by `where`."""
    return SAID[cause].format(where=where)


def counted_on(parts: Sequence[Sequence[tuple[int, Cause]]], size: int) -> list[tuple[int, Cause]]:
    """Return what was done to the images of parts of `size` images each, numbered through."""
    return [(k * size + row, cause) for k, part in enumerate(parts) for row, cause in part]
