"""The flags that spread a set in shards over processes or a cluster, as `attack` and `detect` have
them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.workflows.shards import Spread


def spread_of(
    shards: str | None,
    engine: Literal["local", "ray"],
    ray_address: str | None,
    workers: int | None,
) -> Spread | None:
    """Return where the shards run; None where there are none.

    Raises:
        AssayError: for flags that do not go together.
    """
    spread = given_spread(engine, ray_address, workers)
    if shards is None:
        if engine != "local" or workers is not None:
            flag = "--workers" if workers is not None else "--engine"
            raise AssayError(f"{flag} spreads the shards of a set: give it by --shards FOLDER")
        return None
    return spread


def given_spread(
    engine: Literal["local", "ray"], ray_address: str | None, workers: int | None
) -> Spread:
    """Return where trials run.

    Raises:
        AssayError: for flags that do not go together.
    """
    if ray_address is not None and engine != "ray":
        raise AssayError("--ray-address was given without --engine ray; give both")
    if workers is not None and workers < 1:
        raise AssayError(f"--workers must be at least 1, got {workers}")
    from assay.workflows.shards import Spread

    return Spread(engine, ray_address, workers)
