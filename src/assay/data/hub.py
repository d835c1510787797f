"""Data sets of the Hugging Face hub: their files are fetched, and read as a folder."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from assay.data.decode import suffixes
from assay.data.tables import SUFFIXES
from assay.errors import AssayError, told


def fetched(hub_id: str, kinds: Set[str] | None = None) -> tuple[Path, dict[str, str]]:
    """Return the folder of a repository's files in the hub's own cache, and where they are from.

    Args:
        hub_id: "owner/name".
        kinds: suffixes of the files that are fetched; None: those of image sets.

    Raises:
        AssayError: for a hub that does not answer, or a repository that is not there.
    """
    try:
        import huggingface_hub as hub

        # named, for its own attributes are modules only once somebody has imported them
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise AssayError(
            f"there is no folder {hub_id!r}, and fetching it from the Hugging Face hub needs the "
            "package huggingface_hub: pip install 'assay[data]'"
        ) from error
    origin, revision = {"hub": hub_id}, None
    if not constants.HF_HUB_OFFLINE:
        try:  # one short request, since a download retries for half a minute without a network
            revision = hub.dataset_info(hub_id, timeout=10).sha
        except errors.RepositoryNotFoundError as error:
            raise AssayError(
                f"there is no folder {hub_id!r}, and no data set of this name on the Hugging Face "
                "hub, or it is not public"
            ) from error
        except Exception as error:
            raise _unreachable(hub_id, error) from error
        origin["revision"] = str(revision)
    wanted = [f"*{suffix}" for suffix in sorted(kinds or suffixes() | SUFFIXES)]
    try:
        folder = hub.snapshot_download(
            hub_id,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[*wanted, *(pattern.upper() for pattern in wanted)],
        )
    except Exception as error:  # whatever its transport raises
        raise _unreachable(hub_id, error) from error
    return Path(folder), origin


def _unreachable(hub_id: str, error: Exception) -> AssayError:
    name = hub_id.split("/")[-1]
    return AssayError(
        f"{hub_id} is not in a local folder, and the Hugging Face hub did not answer "
        f"({told(error)}); without a network, put its files in a folder {name}/ and set "
        f"ASSAY_DATA to the folder that holds {name}/"
    )
