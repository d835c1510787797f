"""The repository's own pages, which are written to be read there, as pages of the site."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}
COPIED = ("results", "images")


def linked(text: str) -> str:
    """Return a page with links as they are from the site: pages to pages, the rest as copied."""
    text = text.replace("](docs/", "](").replace('="docs/', '="')
    # pictures stay: Sphinx finds them by itself
    text = re.sub(rf"(?<!!)(\[[^\[\]]*\])\(({'|'.join(COPIED)})/", r"\1(copied:\2/", text)
    for there, here in PAGES.items():
        text = re.sub(rf"\]\((\.\./)?{re.escape(there)}", f"]({here}", text)
    return text


def read(app: Sphinx, document: str, content: list[str]) -> None:
    del app, document
    content[0] = linked(content[0])


def included(app: Sphinx, path: Path, document: str, content: list[str]) -> None:
    del app, path, document
    content[0] = linked(content[0])


def copied(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for folder in COPIED:
            shutil.copytree(app.srcdir / folder, app.outdir / folder, dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read)
    app.connect("include-read", included)
    app.connect("build-finished", copied)
    return {"parallel_read_safe": True}
