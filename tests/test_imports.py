"""Which room may import which, read from the source; and what is never loaded before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "assay"

FOUNDATION = {"config", "described", "disk", "errors", "lazy"}
FAMILY = FOUNDATION | {"core", "stats"}
EVERYTHING = {path.stem for path in SRC.iterdir() if path.name != "__pycache__"} | {"assay"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "lazy": set(),
    "disk": {"errors"},
    "described": set(),
    "config": {"errors"},
    "usercode": {"disk", "errors"},
    "hub": {"errors"},
    "core": FOUNDATION,
    "stats": FOUNDATION,
    "data": FAMILY | {"usercode", "hub"},
    "models": FAMILY | {"usercode", "hub"},
    "attacks": FAMILY,
    "explain": FAMILY,
    "ood": FAMILY,
    "certify": FAMILY,
    "train": FAMILY | {"data", "models", "certify"},
    "runs": FOUNDATION | {"stats", "report", "assay"},
    "report": FOUNDATION | {"stats", "assay"},
    # what brings the families together
    "inputs": FAMILY | {"data", "models", "usercode"},
    "provenance": FOUNDATION | {"runs", "report"},
    "tasks": FAMILY
    | {"data", "models", "train", "attacks", "explain", "ood", "certify", "runs", "inputs"},
    "studies": EVERYTHING - {"cli", "commands", "workflows", "auditing", "inputs"},
    "auditing": EVERYTHING - {"cli", "commands", "workflows", "studies"},
    "workflows": EVERYTHING - {"cli", "commands"},
    "commands": EVERYTHING,
    "cli": FOUNDATION | {"commands", "assay"},
    "__init__": EVERYTHING,
}
"""What each room may import of ours, besides itself. All but config and errors may also import
`report` inside a function: so that a result can show itself."""

WITHOUT_TORCH = (
    "errors",
    "config",
    "described",
    "disk",
    "lazy",
    "usercode",
    "hub",
    "stats",
    "runs",
    "report",
    "provenance",
    "cli",
    "__init__",
)
FIRST_PARTY_OF_CORE = {"torch", "numpy", "pydantic", "typing_extensions"}
"""The packages that core rests on, besides the standard library."""
HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "datasets", "accelerate", "pandas")


@dataclass(frozen=True)
class Import:
    """One imported module: where, and whether it happens when the file is loaded."""

    file: Path
    line: int
    module: str
    inside_function: bool
    for_types_only: bool

    @property
    def room(self) -> str:
        return room_of(self.file)

    @property
    def target(self) -> str:
        """The room of ours that is imported."""
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 else "assay"

    def __str__(self) -> str:
        return f"{self.file.relative_to(SRC)}:{self.line} imports {self.module}"


def room_of(file: Path) -> str:
    return file.relative_to(SRC).parts[0].removesuffix(".py")


def imports_of(file: Path, source: str | None = None) -> Iterator[Import]:
    """Yield every import statement of a file, at the top level and inside functions."""
    text = file.read_text() if source is None else source

    def walk(node: ast.AST, inside: bool, types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            within = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            typed = types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
            for module in modules(child):
                yield Import(file, child.lineno, module, inside, types)
            yield from walk(child, within, typed)

    def modules(node: ast.AST) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        if not isinstance(node, ast.ImportFrom):
            return []
        if node.level:
            parents = ("assay", *file.relative_to(SRC).parts)[: -node.level]
            return [".".join([*parents, node.module] if node.module else parents)]
        if node.module == "assay":  # from assay import errors
            return [f"assay.{a.name}" if a.name in EVERYTHING else "assay" for a in node.names]
        return [node.module or ""]

    yield from walk(ast.parse(text), False, False)


@cache
def every_import() -> list[Import]:
    return [found for file in sorted(SRC.rglob("*.py")) for found in imports_of(file)]


def ours(module: str) -> bool:
    return module == "assay" or module.startswith("assay.")


def allowed(found: Import) -> bool:
    if found.target == found.room or found.target in MAY_IMPORT[found.room]:
        return True
    lazily = found.inside_function or found.for_types_only
    return found.target == "report" and lazily and found.room not in FOUNDATION


def test_every_room_has_its_place_in_the_map() -> None:
    assert {room_of(file) for file in SRC.rglob("*.py")} == set(MAY_IMPORT)


def test_the_page_on_architecture_names_every_room_and_no_other() -> None:
    page = (SRC.parent.parent / "docs" / "architecture.md").read_text()
    table = page.split("## Rooms")[1].split("\nThree rules")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name.strip(" `") for row in rows for name in row.split(",")}
    assert named == set(MAY_IMPORT) - {"__init__", "provenance"}


def test_rooms_import_only_what_they_may() -> None:
    wrong = [str(found) for found in every_import() if ours(found.module) and not allowed(found)]
    assert not wrong, "\n".join(wrong)


def test_core_rests_on_torch_and_numpy_alone() -> None:
    standard = sys.stdlib_module_names
    wrong = [
        str(found)
        for found in every_import()
        if found.room == "core"
        and not ours(found.module)
        and found.module.split(".")[0] not in FIRST_PARTY_OF_CORE | standard
    ]
    assert not wrong, "\n".join(wrong)


def test_torch_is_not_imported_where_it_must_not_be() -> None:
    wrong = [
        str(found)
        for found in every_import()
        if found.room in WITHOUT_TORCH
        and found.module.split(".")[0] in ("torch", "accelerate", "torchvision")
        and not found.for_types_only
    ]
    assert not wrong, "\n".join(wrong)


def test_statistics_need_numpy_and_scipy_alone() -> None:
    packages = {
        f.module.split(".")[0] for f in every_import() if f.room == "stats" and not ours(f.module)
    }
    assert packages - sys.stdlib_module_names <= {"numpy", "scipy"}


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import assay.ood.base", ("ood", False, False)),
        ("from assay.ood import base", ("ood", False, False)),
        ("from assay import ood", ("ood", False, False)),
        ("from ..ood import base", ("ood", False, False)),
        ("from .. import ood", ("assay", False, False)),
        ("def f():\n    from assay.ood import base", ("ood", True, False)),
        ("class A:\n    def f(self):\n        import assay.ood", ("ood", True, False)),
        ("if TYPE_CHECKING:\n    import assay.ood", ("ood", False, True)),
        ("try:\n    import assay.ood\nexcept ImportError: pass", ("ood", False, False)),
    ],
)
def test_the_reader_sees_imports_in_every_form(source: str, seen: tuple[str, bool, bool]) -> None:
    (found,) = imports_of(SRC / "attacks" / "made_up.py", source)
    assert (found.target, found.inside_function, found.for_types_only) == seen
    assert not allowed(found)


# -- in a fresh process ------------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """Return which heavy packages are loaded once `code` has run in a fresh process."""
    program = f"{code}\nimport sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout.strip().splitlines()[-1]))


def modules_in(room: str) -> list[str]:
    files = sorted((SRC / room).rglob("*.py"))
    names = [".".join(("assay", *file.relative_to(SRC).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_importing_assay_loads_nothing_heavy() -> None:
    assert loaded_by("import assay") == set()


@pytest.mark.parametrize("tokens", [["--help"], ["--version"]])
def test_the_commands_help_loads_nothing_heavy(tokens: list[str]) -> None:
    assert loaded_by(f"from assay.cli import call, app; assert call(app, {tokens!r}) == 0") == set()


@pytest.mark.parametrize("tokens", [["run", "--help"], ["list", "--help"], ["show", "--help"]])
def test_the_help_of_subcommands_does_without_torch(tokens: list[str]) -> None:
    assert "torch" not in loaded_by(f"from assay.cli import call, app; call(app, {tokens!r})")


@pytest.mark.parametrize("room", ["runs", "report", "stats"])
def test_rooms_without_torch_load_without_torch(room: str) -> None:
    lines = [f"import {name}" for name in modules_in(room)]
    assert len(lines) > 3
    assert not {"torch", "accelerate", "datasets"} & loaded_by("\n".join(lines))


def test_what_trains_loads_no_more_than_it_needs() -> None:
    program = "import sys, assay.tasks.train; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(ast.literal_eval(done.stdout))
    assert "torch" in loaded
    assert not {"scipy.stats", "scipy.optimize", "matplotlib", "sklearn", "pandas"} & loaded


@pytest.mark.parametrize("name", ["AssayError", "runs", "report", "stats", "studies"])
def test_light_names_stay_light(name: str) -> None:
    assert "torch" not in loaded_by(f"import assay; assay.{name}")


def test_the_public_names_are_there() -> None:
    import assay

    assert [name for name in dir(assay) if not hasattr(assay, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        _ = assay.Clasifier  # type: ignore[attr-defined]
