"""Repositories of the Hugging Face hub, whose files stand in the hub's own cache ($HF_HOME)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from assay.errors import told

_may_ask: ContextVar[bool] = ContextVar("may_ask", default=True)


class NotThere(Exception):
    """The hub has no such repository, or none that is public."""


class Silent(Exception):
    """The hub does not answer, and the files are not in its cache: the message says why."""


@contextmanager
def unasked() -> Iterator[None]:
    """Ask the hub for nothing meanwhile: there is what is in its cache."""
    before = _may_ask.set(False)
    try:
        yield
    finally:
        _may_ask.reset(before)


def snapshot(name: str, kind: Literal["dataset", "model"], patterns: Sequence[str]) -> Path:
    """Return the folder of a repository's files, whose name is their revision; where the hub does
    not answer, or is not to be asked ($HF_HUB_OFFLINE), that of what was fetched before. The hub's
    library refuses what it knows to have fetched in part.

    Args:
        name: "owner/name".
        kind: what is in the repository.
        patterns: which of its files are fetched.

    Raises:
        ImportError: the package huggingface_hub is not here.
        NotThere: see there.
        Silent: see there.
    """
    import huggingface_hub as hub

    # named, for its own attributes are modules only once somebody has imported them
    from huggingface_hub import constants, errors

    ask, why = _may_ask.get() and not constants.HF_HUB_OFFLINE, None
    if ask:
        about = hub.dataset_info if kind == "dataset" else hub.model_info
        try:  # one short request, since a download retries for half a minute without a network
            about(name, timeout=10)
        except errors.RepositoryNotFoundError as error:
            raise NotThere(name) from error
        except Exception as error:  # whatever its transport raises
            ask, why = False, error
    try:  # not by its revision: nothing in the cache would say that this is the newest of them
        return Path(
            hub.snapshot_download(
                name, repo_type=kind, allow_patterns=list(patterns), local_files_only=not ask
            )
        )
    except Exception as error:
        raise Silent(told(why or error)) from error
