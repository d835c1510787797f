"""Networks by config, and the loading of a model that somebody brings.

`Network` is the union of every known network, on `name`. One that lives in another package joins
it by an entry point of the group "assay.models" that names its config:

    [project.entry-points."assay.models"]
    mixer = "mypackage.mixer:Mixer"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.models.base import Architecture as Architecture
    from assay.models.http import HttpModel as HttpModel
    from assay.models.registry import *  # noqa: F403
    from assay.models.registry import Network as Network
    from assay.models.registry import networks as networks
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ["Architecture"],
            "http": ["HttpModel"],
            "registry": ["Network", "networks"],
        },
        registry="networks",
    )
