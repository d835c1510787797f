"""SVG that is embedded in a page: read, checked against what may be in it, and written anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_WORDS = frozenset(("text", "tspan", "title", "desc"))
"""Elements that hold text, and no element but a tspan: a browser reads HTML in a title."""
_SHAPES = frozenset(("path", "rect", "circle", "ellipse", "line", "polyline", "polygon"))
_DRAWS = _WORDS | _SHAPES | {"svg", "g", "defs", "clipPath", "use", "image"}
_MOST_NESTED = 64

_FILL = frozenset(("fill", "fill-opacity", "fill-rule", "clip-rule", "opacity", "color"))
_STROKE = frozenset(
    f"stroke{part}"
    for part in ("", "-opacity", "-width", "-linecap", "-linejoin", "-dasharray", "-dashoffset")
)
_FONT = frozenset(("font", "font-family", "font-size", "font-style", "font-weight", "text-anchor"))
_STYLES = _FILL | _STROKE | _FONT | {"image-rendering", "width", "max-width", "height"}
"""What a style may set: nothing that would place a figure over the rest of the page."""
_PLACES = frozenset(("x", "y", "dx", "dy", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry"))
_PLAIN = _STYLES | _PLACES | {"d", "points", "transform", "viewBox", "clip-path"}
_SAID = frozenset(("role", "aria-label", "aria-hidden"))

_OWN = re.compile(r"#[\w-]+")
_PNG = re.compile(r"data:image/png;base64,[A-Za-z0-9+/\s]*={0,2}\s*")
_VALUE = re.compile(r"(?:url\(#[\w-]+\)|(?!url)[\w\s.,()%#+'-])*", re.IGNORECASE)
"""Numbers, colours, names, functions: no address, no CSS escape, no comment."""


def only_drawing(svg: str) -> str:
    """Return `svg` written anew, if it only draws; a figure of `inline_svg` comes back as it is.

    A result may come from somebody else's disk, and its figures are put into a page as markup.
    What a reader of XML passes over (comments, processing instructions) is not in what is returned.

    Raises:
        ValueError: for text that is not XML, that declares a document type (and so entities), or
            that has an element, an attribute, a style or an address that is not known to be
            harmless.
    """
    if "<!DOCTYPE" in svg:
        raise ValueError("an SVG in a report only draws: <!DOCTYPE may not be in it")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"this is no SVG: {error}") from error
    if _name(root) != "svg":
        raise ValueError(f"this is no SVG, but <{_name(root)}>")
    paths = {element.get("id") for element in root.iter() if _name(element) == "path"}
    return "".join(_written(root, paths, depth=0))


def _written(element: ElementTree.Element, paths: set[str | None], depth: int) -> Iterator[str]:
    name = _name(element)
    if name not in _DRAWS:
        raise ValueError(f"an SVG in a report only draws: <{name}> may not be in it")
    if depth > _MOST_NESTED:
        raise ValueError(f"an SVG in a report only draws: it is nested {depth} deep")
    attributes = "" if depth else f' xmlns="{_SVG}"'
    for key, value in element.attrib.items():
        if not _harmless(name, key, value, paths):
            raise ValueError(f"an SVG in a report only draws: {key[:40]}={value[:40]!r}")
        attributes += f' {key}="{escape(value)}"'
    if element.text is None and not len(element):
        yield f"<{name}{attributes}/>"
        return
    yield f"<{name}{attributes}>{_text(name, element.text)}"
    for child in element:
        if name in _WORDS and _name(child) != "tspan":
            raise ValueError(f"an SVG in a report only draws: <{_name(child)}> inside <{name}>")
        yield from _written(child, paths, depth + 1)
        yield _text(name, child.tail)
    yield f"</{name}>"


def _name(element: ElementTree.Element) -> str:
    """Return the name of an element of SVG; of another namespace, with it, which is never known."""
    return element.tag.removeprefix(f"{{{_SVG}}}")


def _text(inside: str, text: str | None) -> str:
    """Return the text of an element that shows it, and the white space of any other."""
    text = text or ""
    if inside not in _WORDS and text.strip():
        raise ValueError(f"an SVG in a report only draws: {text.strip()[:40]!r} inside <{inside}>")
    return escape(text, quote=False)


def _harmless(element: str, key: str, value: str, paths: set[str | None]) -> bool:
    if key == "href":
        if element == "use":  # of a path alone: uses of uses grow without bound
            return bool(_OWN.fullmatch(value)) and value[1:] in paths
        return element == "image" and bool(_PNG.fullmatch(value))
    if key == "id":
        return bool(_OWN.fullmatch(f"#{value}"))
    if key == "style":
        settings = [one.partition(":") for one in value.split(";") if one.strip()]
        return all(name.strip() in _STYLES and _VALUE.fullmatch(said) for name, _, said in settings)
    return key in _SAID or (key in _PLAIN and bool(_VALUE.fullmatch(value)))
