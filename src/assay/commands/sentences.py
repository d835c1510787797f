"""Help in sentences: what is said of a flag begins with a capital, wherever it was written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

NAMES = re.compile(r"[\w.+-]+(, [\w.+-]+)*: ")
"""Names of choices, which are typed as they stand: "adam, sgd: Learning rate"."""


def sentence(text: str) -> str:
    """Return a description with a capital at its beginning, where that is a word.

    >>> sentence("the folder for pages"), sentence("pgd: How many steps"), sentence("α of mixup")
    ('The folder for pages', 'pgd: How many steps', 'α of mixup')
    """
    word = "a" <= text[:1] <= "z" and not NAMES.match(text)
    return text[0].upper() + text[1:] if word else text


class InSentences:
    """Shows help as cyclopts does, with descriptions that begin alike: settings have theirs from
    the docstrings of fields, and all else from those of functions."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        from cyclopts.help import DefaultFormatter, InlineText
        from rich.markdown import Markdown

        for entry in panel.entries:
            if isinstance(entry.description, InlineText):
                said = entry.description.primary_renderable
                if isinstance(said, Markdown) and sentence(said.markup) != said.markup:
                    entry.description.primary_renderable = Markdown(sentence(said.markup))
        DefaultFormatter()(console, options, panel)

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        from cyclopts.help import DefaultFormatter  # which takes longer to load than most commands

        DefaultFormatter().render_usage(console, options, usage)
