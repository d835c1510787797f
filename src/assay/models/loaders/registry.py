"""The kinds of models that people bring: a line each. The first that recognises a name loads it."""

from __future__ import annotations

from assay.core.registry import Registry
from assay.errors import expanded
from assay.models.loaders.base import Loader
from assay.models.loaders.ours import Ours as Ours
from assay.models.loaders.user_file import Factory as Factory
from assay.models.loaders.onnx import Onnx as Onnx
from assay.models.loaders.program import Program as Program
from assay.models.loaders.huggingface import HuggingFace as HuggingFace
from assay.models.loaders.installed import Installed as Installed

loaders: Registry[Loader] = Registry(
    Loader,  # type: ignore[type-abstract]
    __name__,
    "assay.loaders",
)
"""Every loader by its name: ours, then those of the entry-point group `assay.loaders`."""


def loader_of(spec: str) -> Loader | None:
    """Return the loader that recognises `spec`, or None.

    Raises:
        AssayError: no file can have such a name, nor anything else.
    """
    expanded(spec)
    made = (kind() for kind in loaders().values())
    return next((loader for loader in made if loader.recognises(spec)), None)
