"""Names of a module that are there when they are first used, and cost nothing before."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazily(
    package: str,
    homes: Mapping[str, Iterable[str]],
    *,
    packages: Iterable[str] = (),
    registry: str | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package whose public names are loaded late.

    What a type checker sees of them is in an `if TYPE_CHECKING:` beside the call;
    `tests/test_lazy.py` holds the two against each other.

    Args:
        package: the package's `__name__`.
        homes: by module of the package, the names that it defines.
        packages: those of its own packages that are public.
        registry: the name that the package's module `registry` gives its `Registry`, whose built-in
            members are public too.
    """
    home = {name: f"{package}.{module}" for module, names in homes.items() for name in names}
    inner = frozenset(packages)

    def members() -> dict[str, Any]:
        if registry is None:
            return {}
        found = getattr(importlib.import_module(f"{package}.registry"), registry).built_in()
        return {kind.__name__: kind for kind in found.values()}

    def load(name: str) -> Any:
        if name in home:
            return getattr(importlib.import_module(home[name]), name)
        if name in inner:
            return importlib.import_module(f"{package}.{name}")
        if name == "__all__":
            return public()
        # Python itself looks for names such as __path__, and for modules, which are lower case
        if name[:1].isupper() and name in (kinds := members()):
            return kinds[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def public() -> list[str]:
        return sorted({*home, *inner, *members()})

    return load, public


def made_late(module: str, **makers: Callable[[], Any]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module, some names of which are made when first used."""

    def make(name: str) -> Any:
        if name not in makers:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        made = makers[name]()
        setattr(importlib.import_module(module), name, made)
        return made

    return make
