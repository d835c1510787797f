"""SVG that stands inside a page: what may be in it, and nothing else."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_DRAWS = frozenset(
    (
        "svg",
        "g",
        "path",
        "rect",
        "circle",
        "line",
        "polyline",
        "polygon",
        "use",
        "defs",
        "clipPath",
        "text",
        "tspan",
        "title",
        "desc",
        "image",
    )
)


def only_drawing(svg: str) -> str:
    """Return `svg` as it is if it only draws.

    A result may come from somebody else's disk, and its figures are put into a page as they are.

    Raises:
        ValueError: for text that is not XML, or that has an element, a handler or an address
            that could run something or fetch something.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"this is no SVG: {error}") from error
    for element in root.iter():
        name = str(element.tag).rpartition("}")[2]
        if name not in _DRAWS:
            raise ValueError(f"an SVG in a report only draws: <{name}> may not be in it")
        for key, value in element.attrib.items():
            key = key.rpartition("}")[2]
            outside = key == "href" and not value.startswith(("#", "data:image/png;base64,"))
            if key.lower().startswith("on") or outside or _fetches(value):
                raise ValueError(f"an SVG in a report only draws: {key}={value[:40]!r}")
    return svg


def _fetches(css: str) -> bool:
    return bool(re.search(r"url\(\s*['\"]?(?!#)|@import|javascript:", css, re.IGNORECASE))
