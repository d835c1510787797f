"""Pages as their readers see them."""

from __future__ import annotations

from html.parser import HTMLParser


class Text(HTMLParser):
    """What a reader reads, and the attributes that could fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "script"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open:
            self.words.append(data)


def parse(html: str) -> Text:
    parser = Text()
    parser.feed(html)
    parser.close()
    return parser


def read(html: str) -> str:
    return " ".join(" ".join(parse(html).words).replace("\u00a0", " ").split())
