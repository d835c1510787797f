"""Texts that are none of a data set's: of another domain, in another language, out of order."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from assay.core.edits import words
from assay.core.random import Stream

TEXT_KINDS = ("other-domain", "other-language", "shuffled-words", "random-tokens")
"""The kinds that are made: kitchen instructions; German; the test texts' own words in a random
order; tokens that the model knows, drawn by chance."""

KITCHEN = (
    "stir|fold|whisk|pour|sift|press|spoon|scrape",
    "the flour|two eggs|the melted butter|half the sugar|a pinch of salt|the chopped onions"
    "|the warm milk|a cup of rice",
    "into the bowl|over the dough|into a greased pan|onto the baking tray|through a sieve"
    "|into the sauce|on top of the filling|into the pot",
    "for ten minutes .|until smooth .|and cover with a cloth .|over low heat .|before serving ."
    "|and let it cool .|a little at a time .|until golden .",
)
"""What may stand in each place of a sentence, in order."""
GERMAN = (
    "am Morgen|gegen Mittag|jeden Abend|im Winter|seit gestern|am Wochenende|nach der Schule"
    "|kurz vor acht",
    "wartet|arbeitet|schläft|lacht|liest|friert|spielt|singt",
    "der Nachbar|meine Schwester|das Kind|die Lehrerin|ein alter Mann|der Bäcker|unsere Katze"
    "|niemand",
    "vor dem Bahnhof .|in der Küche .|unter der Brücke .|auf dem Balkon .|neben dem Ofen ."
    "|im Garten hinter dem Haus .|allein am Fenster .|bei uns .",
)


def phrases(slots: Sequence[str], count: int, draw: Stream) -> list[str]:
    """Return so many sentences, one choice (between "|") of each slot; none twice while there are
    new ones.

    >>> from assay.core.random import Stream
    >>> from assay.data.text_outliers import GERMAN, phrases
    >>> len(set(phrases(GERMAN, 1000, Stream(0))))
    1000
    """
    choices = [slot.split("|") for slot in slots]
    whole = prod(map(len, choices))
    order = draw.numpy().permutation(whole).tolist()
    found = []
    for number in range(count):
        left, parts = order[number % whole], []
        for some in choices:
            left, place = divmod(left, len(some))
            parts.append(some[place])
        found.append(" ".join(parts))
    return found


def shuffled(texts: Sequence[str], draw: Stream) -> list[str]:
    """Return the texts with the words of each in a random order, its other signs left out."""
    generator, made = draw.numpy(), []
    for text in texts:
        own = [text[word.start : word.end] for word in words(text)]
        made.append(" ".join(own[place] for place in generator.permutation(len(own))))
    return made
