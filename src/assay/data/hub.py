"""Data sets of the Hugging Face hub: their files are fetched, and read as a folder."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from assay.data.decode import suffixes
from assay.data.tables import SUFFIXES
from assay.errors import AssayError
from assay.hub import NotThere, Silent, snapshot


def fetched(hub_id: str, kinds: Set[str] | None = None) -> tuple[Path, dict[str, str]]:
    """Return the folder of a repository's files in the hub's own cache, and where they are from.

    Args:
        hub_id: "owner/name".
        kinds: suffixes of the files that are fetched; None: those of image sets.

    Raises:
        AssayError: for a hub that does not answer, or a repository that is not there.
    """
    wanted = [f"*{suffix}" for suffix in sorted(kinds or suffixes() | SUFFIXES)]
    try:
        folder = snapshot(hub_id, "dataset", [*wanted, *(pattern.upper() for pattern in wanted)])
    except ImportError as error:
        raise AssayError(
            f"there is no folder {hub_id!r}, and fetching it from the Hugging Face hub needs the "
            "package huggingface_hub: pip install 'assay[data]'"
        ) from error
    except NotThere as error:
        raise AssayError(
            f"there is no folder {hub_id!r}, and no data set of this name on the Hugging Face "
            "hub, or it is not public"
        ) from error
    except Silent as error:
        name = hub_id.split("/")[-1]
        raise AssayError(
            f"{hub_id} is not in a local folder, and the Hugging Face hub did not answer "
            f"({error}); without a network, put its files in a folder {name}/ and set "
            f"ASSAY_DATA to the folder that holds {name}/"
        ) from error
    return folder, {"hub": hub_id, "revision": folder.name}
