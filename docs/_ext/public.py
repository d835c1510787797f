"""`.. public:: assay.attacks`: every public class and function of a room, from its docstrings.

Docstrings are written to be read in a terminal: single backticks, and formulae set in. Here they
become the reStructuredText that autodoc reads. A config's fields stand below it, with those that it
inherits.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from assay.config import Config
from assay.described import described

SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Example):$")
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
MARKUP = re.compile(r"([*|]|(?<=\w)_(?!\w))")


def public(room: str) -> dict[str, Any]:
    """Return what a module offers of ours: classes and functions by name, classes first."""
    module = importlib.import_module(room)
    found = {name: getattr(module, name) for name in sorted(dir(module)) if name[0] != "_"}
    kinds = (inspect.isclass, inspect.isfunction)
    return {
        name: value
        for kind in kinds
        for name, value in found.items()
        if kind(value) and value.__module__.startswith("assay")
    }


def prose(line: str) -> str:
    """Escape what reStructuredText would take for markup, and set code as code."""
    parts = CODE.split(line)
    for place, part in enumerate(parts):
        if place % 2:
            joined = parts[place + 1][:1].isalnum()  # `Estimate`s
            parts[place] = f"``{part}``" + "\\ " * joined
        else:
            parts[place] = MARKUP.sub(r"\\\1", part)
    return "".join(parts)


def as_rst(lines: Sequence[str]) -> Iterator[str]:
    """Yield a docstring as reStructuredText: examples stay, what is set in becomes literal."""
    before, within, literal, example = "", False, False, False
    for line in lines:
        starts = not before.strip()
        set_in = line.startswith("    ") and not within
        if line.strip() and not line.startswith(" "):
            within, literal = bool(SECTION.match(line)), False
        if not line.strip():
            example = False
        if line.lstrip().startswith(">>> "):
            example = True
        elif set_in and starts and not literal:
            literal = True
            yield from ("::", "")
        as_it_is = literal or example or (within and SECTION.match(line))
        yield line if as_it_is else prose(line)
        before = line


def fields(kind: type[Config]) -> Iterator[str]:
    """Yield the settings of a config, by field, with what they mean."""
    yield ""
    for name, said in described(kind).items():
        if name != "name":
            yield f":param {name}: {prose(' '.join(said.split()))}"
    yield ""


def read(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    del app, name, options
    lines[:] = as_rst(lines)
    if what == "class" and inspect.isclass(obj) and issubclass(obj, Config):
        lines.extend(fields(obj))


class Public(SphinxDirective):
    """One entry per public name of a module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        room = self.arguments[0]
        text = [*as_rst(inspect.getdoc(importlib.import_module(room)).splitlines()), ""]
        offered = public(room)
        also = sorted(offered.keys() & public("assay").keys()) if room != "assay" else []
        if also:
            text += ["See also " + ", ".join(f":py:obj:`assay.{name}`" for name in also) + ".", ""]
        for name, value in offered.items():
            if name in also:
                continue
            if not inspect.isclass(value):
                text += [f".. autofunction:: {room}.{name}", ""]
                continue
            text += [f".. autoclass:: {room}.{name}"]
            text += [] if issubclass(value, Config) else ["   :members:"]
            text += [""]
        holder = nodes.section()
        holder.document = self.state.document
        self.state.nested_parse(StringList(text, source=room), 0, holder)
        return holder.children


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("public", Public)
    app.connect("autodoc-process-docstring", read, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
