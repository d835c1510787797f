"""Networks by config, and the loading of a model that somebody brings.

`Network` is the union of every known network, on `name`. One that lives in another package joins
it by an entry point of the group "assay.models" that names its config:

    [project.entry-points."assay.models"]
    mixer = "mypackage.mixer:Mixer"

A network that computes something from training images before it is trained has a method
`prepare(module, x)` beside `build` (see `Whitened`).
"""

from __future__ import annotations

from functools import cache, reduce
from importlib.metadata import entry_points
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.models.vit import ViT
from assay.models.whitened import Whitened

if TYPE_CHECKING:
    from assay.models.http import HttpModel

    Network = MLP | CNN | Whitened | ViT

__all__ = ["CNN", "MLP", "HttpModel", "Network", "ViT", "Whitened", "networks"]


@cache
def networks() -> dict[str, type[Any]]:
    """Return the config of every network by its tag, ours first, then those of other packages.

    Raises:
        AssayError: for an entry point that cannot be loaded, or takes a name that is taken.
    """
    from assay.errors import AssayError

    known: dict[str, type[Any]] = {"mlp": MLP, "cnn": CNN, "whitened": Whitened, "vit": ViT}
    for entry in sorted(entry_points(group="assay.models"), key=lambda entry: entry.name):
        try:
            found = entry.load()
            tag = found.model_fields["name"].default
        except Exception as error:
            raise AssayError(
                f"the entry point {entry.name} = {entry.value} (assay.models) does not name a "
                f"network's config: {type(error).__name__}: {error}"
            ) from error
        if tag in known:
            raise AssayError(
                f"{entry.value} is called {tag!r}, as {known[tag].__name__} already is"
            )
        known[tag] = found
    return known


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Make `Network` when it is first asked for, since only then are other packages looked at;
        load `HttpModel` likewise: it brings torch, which configs do without."""
        if name == "HttpModel":
            from assay.models.http import HttpModel

            return HttpModel
        if name != "Network":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        union = Annotated[reduce(or_, networks().values()), Field(discriminator="name")]
        globals()["Network"] = union
        return union
