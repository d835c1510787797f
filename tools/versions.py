"""Hold every component's VERSION against its source.

The VERSION of a component is part of the address of the trials that use it: when its code computes
something else, the VERSION must rise, or old results would be taken for new ones.

    python tools/versions.py --check                    what `make lint` runs
    python tools/versions.py --update                   after VERSION was raised, or for new ones
    python tools/versions.py --update --waive "why"     the change computes the same as before

A component's source is its module and what that imports from its own room, without comments and
docstrings; the room's registry is left out, since what may be chosen does not change what is.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "assay"
RECORD = ROOT / "tools" / "versions.json"
ROOMS = ("attacks", "data", "explain", "models", "ood", "tasks", "train")
WHOLE_ROOM = {"Recipe": "train"}
"""Configs that are read by all of a room, rather than carried out in their own module."""


def components() -> dict[str, type]:
    """Return the configs that trials name: tagged ones, those with a VERSION, and WHOLE_ROOM."""
    from assay.config import Config

    for room in ROOMS:
        for file in sorted((SRC / room).rglob("*.py")):
            importlib.import_module(_module(file))

    def below(kind: type) -> set[type]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    return {
        kind.__name__: kind
        for kind in sorted(below(Config), key=lambda kind: kind.__name__)
        if kind.__module__.split(".")[:1] == ["assay"]
        and kind.__module__.split(".")[1] in ROOMS
        and (_is_tagged(kind) or "VERSION" in vars(kind) or kind.__name__ in WHOLE_ROOM)
    }


def _is_tagged(kind: Any) -> bool:
    name = kind.model_fields.get("name")
    return name is not None and isinstance(name.default, str)


def _module(file: Path) -> str:
    parts = ("assay", *file.relative_to(SRC).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def sources(kind: type) -> list[Path]:
    """Return the files whose change may change what `kind` computes."""
    if kind.__name__ in WHOLE_ROOM:
        return sorted((SRC / WHOLE_ROOM[kind.__name__]).rglob("*.py"))
    room = kind.__module__.split(".")[1]
    files = {_module(file): file for file in (SRC / room).rglob("*.py")}
    found: set[str] = set()
    waiting = [kind.__module__]
    while waiting:
        module = waiting.pop()
        if module in found or module.endswith(".registry"):
            continue
        found.add(module)
        for node in ast.walk(ast.parse(files[module].read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in files:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                waiting += (names & files.keys()) or [node.module]
    return sorted(files[module] for module in found)


def digest(files: list[Path]) -> str:
    """Return a digest of what the files say to Python; the same for every version of Python."""
    trees = [_plain(ast.parse(file.read_text())) for file in files]
    return hashlib.sha256(json.dumps(trees).encode()).hexdigest()[:16]


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(item) for item in node if not _is_text(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    return [type(node).__name__, *([k, _plain(v)] for k, v in fields if v not in (None, []))]


def _is_text(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def compare(recorded: dict[str, Any], current: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what only has to be recorded, and what needs a VERSION or a waiver."""
    stale = [f"{name}: is gone" for name in recorded if name not in current]
    unstated = []
    for name, now in current.items():
        before = recorded.get(name)
        if before is None:
            stale.append(f"{name}: is new")
        elif before["version"] != now["version"]:
            stale.append(f"{name}: VERSION went from {before['version']} to {now['version']}")
        elif before["source"] != now["source"]:
            unstated.append(f"{name}: its source changed, its VERSION did not")
    return stale, unstated


def main() -> int:
    parser = argparse.ArgumentParser(description="Hold components' VERSION against their source.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail on a change that is not stated")
    action.add_argument("--update", action="store_true", help="record the versions as they are")
    parser.add_argument("--waive", metavar="REASON", help="why a change needs no new VERSION")
    asked = parser.parse_args()

    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    current: dict[str, dict[str, Any]] = {
        name: {"version": kind.VERSION, "source": digest(sources(kind))}  # type: ignore[attr-defined]
        for name, kind in components().items()
    }
    stale, unstated = compare(recorded, current)
    if asked.check:
        for line in (*stale, *unstated):
            print(line)
        if stale or unstated:
            print(
                "Where it computes something else, raise VERSION and run tools/versions.py --update"
                '; where not, run it with --update --waive "why".'
            )
        return 1 if stale or unstated else 0
    if unstated and not asked.waive:
        print("\n".join(unstated))
        print('Raise VERSION, or add --waive "why it computes the same as before".')
        return 1
    for name, now in current.items():
        before = recorded.get(name, {})
        if before.get("version") == now["version"] and before.get("waived"):
            now["waived"] = before["waived"]
        if any(line.startswith(f"{name}:") for line in unstated):
            now["waived"] = asked.waive
    RECORD.write_text(json.dumps(current, indent=2) + "\n")
    print(f"{len(current)} components recorded in {RECORD.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
