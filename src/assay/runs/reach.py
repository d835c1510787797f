"""What the URL of a store means: a file system of fsspec, and a path in it."""

from __future__ import annotations

import re
from typing import Any

from assay.errors import AssayError, one_line

CONNECT, READ = 5.0, 20.0  # seconds to wait for a connection, and for an answer
URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)")
INSTALL = "stores other than folders need fsspec, and s3fs for s3://: pip install 'assay[s3]'"


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it. It tries nothing twice.

    Raises:
        AssayError: fsspec is not installed, or does not know what is meant.
    """
    matched = URL.fullmatch(url)
    if matched is None:
        raise AssayError(f"{url!r} is no URL")
    try:
        import fsspec
    except ImportError as error:
        raise AssayError(INSTALL) from error
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if matched[1] in ("s3", "s3a"):
        options["config_kwargs"] = {
            "connect_timeout": CONNECT,
            "read_timeout": READ,
            "retries": {"total_max_attempts": 1},  # a bucket does that
        }
    try:
        fs, root = fsspec.url_to_fs(f"{matched[1]}://{matched[2]}", **options)
    except ImportError as error:
        raise AssayError(INSTALL) from error
    except ValueError as error:
        raise AssayError(f"cannot use the store {url}: {one_line(str(error), 120)}") from error
    if hasattr(fs, "retries"):
        fs.retries = 1
    return fs, str(root).rstrip("/")
