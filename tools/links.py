"""Check a built site: links within it lead somewhere, and no page loads anything from elsewhere.

    python tools/links.py build/site

Links to other sites are left alone. Pages of studies, which are made elsewhere, are only linked to.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

MADE_ELSEWHERE = "results"
LOADS = {"script": "src", "link": "href", "img": "src", "source": "srcset", "iframe": "src"}


class Page(HTMLParser):
    """What a page names, links to and loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADS and LOADS[tag] in given:
            self.loads.append(given[LOADS[tag]])


def wrong(site: Path) -> Iterator[str]:
    """Yield a line for every link that leads nowhere, and for everything loaded from elsewhere."""
    pages = {
        path.resolve(): Page(path.read_text())
        for path in sorted(site.rglob("*.html"))
        if path.relative_to(site).parts[0] != MADE_ELSEWHERE
    }
    for path, page in pages.items():
        here = path.relative_to(site.resolve())
        for target in page.loads:
            if urlsplit(target).scheme not in ("", "data") or target.startswith("//"):
                yield f"{here}: loads {target}"
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.exists():
                yield f"{here}: nothing at {target}"
            elif there in pages and unquote(parts.fragment) not in ("", *pages[there].names):
                yield f"{here}: no such place on the page: {target}"


if __name__ == "__main__":
    found = list(wrong(Path(sys.argv[1])))
    print("\n".join(found) or "every link within the site leads somewhere")
    sys.exit(bool(found))
