"""What the docstring below each field of a config says, read from its source when it is asked for.

pydantic could do so as each class is made: that is a sixth of the time that a process takes to
start, and only help is ever asked for them.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel


def described(kind: type[BaseModel]) -> dict[str, str]:
    """Return what is said of each field of a config: nothing ("") where nothing is, or where the
    source is not to be had.

    >>> from assay.described import described
    >>> described(assay.NormBall)["norm"]
    'The norm: linf, l2, l1, or l0 (number of pixels changed).'
    """
    return {
        name: field.description or _said(kind, name) for name, field in kind.model_fields.items()
    }


def describe(schema: dict[str, Any], kind: type[BaseModel]) -> None:
    """Write into the JSON schema of a record what is said of its fields, and of those within."""
    for name, one in _met(kind).items():
        here = schema if one is kind else schema.get("$defs", {}).get(name, {})
        properties = here.get("properties", {})
        for key, said in described(one).items():
            if said and key in properties:
                properties[key]["description"] = said


def _met(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return a record and all that stand in its fields, however deep, by their names."""
    found: dict[str, type[BaseModel]] = {}
    waiting: list[Any] = [kind]
    while waiting:
        seen = waiting.pop()
        waiting += get_args(seen)
        if hasattr(seen, "model_fields") and seen.__name__ not in found:
            found[seen.__name__] = seen
            waiting += [field.annotation for field in seen.model_fields.values()]
    return found


def _said(kind: type, name: str) -> str:
    """Return what the class says of a field that was the last to have it."""
    for parent in kind.__mro__:
        if name in inspect.get_annotations(parent):
            return _classes(parent.__module__).get(parent.__qualname__, {}).get(name, "")
    return ""


@cache
def _classes(module: str) -> Mapping[str, Mapping[str, str]]:
    """Return what each class of a module, by its qualified name, says of its fields."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):  # typed into a console, say
        return {}
    return dict(_within(tree, ""))


def _within(node: ast.AST, name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield name + child.name, dict(_fields(child))
            yield from _within(child, f"{name}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _within(child, f"{name}{child.name}.<locals>.")
        elif isinstance(child, ast.stmt):
            yield from _within(child, name)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for line, below in pairwise(node.body):
        match line, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
