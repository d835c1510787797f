"""The search that DeepWordBug and TextFooler share: words in order of importance, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from assay.attacks.base import Iterate, Search, only
from assay.attacks.text.asking import Row, ask, judged, preferred, rows_of, told
from assay.attacks.text.base import WordImportance
from assay.attacks.text.threat import Words
from assay.core.edits import replaced
from assay.core.oracle import Loss
from assay.core.random import Rows

Options = Callable[[Row, int, list[float]], list[str]]
"""(row, number of a word, draws in [0, 1)) → what might stand there."""
UNKNOWN = "[UNK]"
DRAWS = 64
"""Random numbers that the options of a word are given."""


def greedy(
    model: Any,
    x: list[str],
    y: Tensor,
    *,
    threat: Words,
    loss: Loss,
    targeted: bool,
    rng: Rows,
    importance: WordImportance,
    options: Options,
) -> Search[list[str]]:
    """Yield the steps: the words' importance, then one word after the other.

    Importance takes a query per word that may change, by gain also one per option of every word;
    then each word that is tried takes one per option. All rows' queries
    of a step are asked together, and none twice. A text that fools the model is changed no more.
    """
    rows = rows_of(x, y)
    keep = yield Iterate(
        list(x),
        spent=0,
        ahead=torch.tensor([_opening(row, threat, importance, options) for row in rows]),
    )
    rows, rng = only(keep, rows, rng)
    if importance == "gain":
        spent = _by_gain(model, rows, threat, targeted, options)
    else:
        spent = _put_in_order(model, rows, threat, loss, rng, importance)
    drawn = rng.uniform((DRAWS,)).tolist()
    while True:
        tried = [_tried(row, threat, options, some) for row, some in zip(rows, drawn, strict=True)]
        now = [row.current for row in rows]
        keep = yield Iterate(now, told(rows, now), spent, torch.tensor([len(t) for t in tried]))
        if all(row.done for row in rows):
            return
        rows, rng, tried = only(keep, rows, rng, tried)
        spent = ask(model, rows, [list(some) for some in tried])
        for row, change in zip(rows, preferred(rows, tried, threat, loss, targeted), strict=True):
            if change is not None:
                row.changed[change[0]] = change[1]
                _, (won,) = judged(row, [row.current], loss, targeted)
                row.done = won or len(row.changed) >= threat.most(row.text)
        drawn = rng.uniform((DRAWS,)).tolist()


def may_change(row: Row, threat: Words) -> list[int]:
    """Return the words that may change at all, by their numbers."""
    some = [(k, row.word(k)) for k in range(row.count)]
    return [k for k, word in some if not threat.stops(word) and len(word) >= threat.shortest]


def _opening(row: Row, threat: Words, importance: WordImportance, options: Options) -> int:
    if importance == "random":
        return 1
    places = may_change(row, threat)
    new = [_options(row, k, threat, options, []) for k in places] if importance == "gain" else []
    return 1 + len(places) + sum(map(len, new))


def _by_gain(
    model: Any, rows: list[Row], threat: Words, targeted: bool, options: Options
) -> Tensor:
    """Set the order of every row's words by what the best option gains, weighted by the softmax of
    what an unknown word takes away, both in probability; return what that took, int64 (n,)."""
    asked: list[tuple[dict[int, str], dict[int, list[str]]]] = []
    for row in rows:
        new = {k: list(_options(row, k, threat, options, [])) for k in may_change(row, threat)}
        asked.append(({k: replaced(row.text, {k: UNKNOWN}) for k in new}, new))
    spent = ask(
        model,
        rows,
        [
            [row.text, *without.values(), *(text for some in new.values() for text in some)]
            for row, (without, new) in zip(rows, asked, strict=True)
        ],
    )
    for row, (without, new) in zip(rows, asked, strict=True):
        places = [k for k, some in new.items() if some]
        row.done = not places
        if row.done:
            continue
        now = _taken(row, [row.text], targeted)
        weight = (_taken(row, [without[k] for k in without], targeted) - now).softmax(0)
        weights = dict(zip(without, weight.tolist(), strict=True))
        gain = {k: float((_taken(row, new[k], targeted) - now).max()) for k in places}
        row.order = sorted(places, key=lambda k: weights[k] * gain[k])
    return spent


def _taken(row: Row, texts: list[str], targeted: bool) -> Tensor:
    """Return how far the model is from what it is to leave, in probability: float32 (n,)."""
    sure = torch.stack([row.known[text] for text in texts]).float().softmax(1)[:, row.y]
    return sure if targeted else -sure


def _put_in_order(
    model: Any, rows: list[Row], threat: Words, loss: Loss, rng: Rows, importance: WordImportance
) -> Tensor:
    """Set the order of every row's words, and return what that took, int64 (n,)."""
    places = [may_change(row, threat) for row in rows]
    chance = rng.uniform((DRAWS,)).tolist()
    without: list[dict[str, list[int]]] = [{} for _ in rows]  # of equal neighbours one sentence
    if importance != "random":
        for found, row, some in zip(without, rows, places, strict=True):
            instead = None if importance == "delete" else UNKNOWN
            for k in some:
                found.setdefault(replaced(row.text, {k: instead}), []).insert(0, k)
    spent = ask(model, rows, [[row.text, *found] for row, found in zip(rows, without, strict=True)])
    for row, some, found, draws in zip(rows, places, without, chance, strict=True):
        if importance == "random":
            row.order = sorted(some, key=lambda k: draws[k % DRAWS])
        else:
            texts = list(found)
            high = judged(row, texts, loss, False)[0] if texts else []
            ranked = sorted(zip(high, texts, strict=True), key=lambda pair: pair[0])
            row.order = [k for _, text in ranked for k in found[text]]
        row.done = not row.order
    return spent


def _tried(
    row: Row, threat: Words, options: Options, draws: list[float]
) -> dict[str, tuple[int, str]]:
    """Return the sentences with another word at the next place that has any allowed, and take that
    place out of the row's order; where none is left the row is done."""
    while row.order and not row.done:
        place = row.order.pop()
        found = _options(row, place, threat, options, draws)
        if found:
            return found
    row.done = True
    return {}


def _options(
    row: Row, place: int, threat: Words, options: Options, draws: list[float]
) -> dict[str, tuple[int, str]]:
    """Return the sentences with another word at a place, by what is allowed there."""
    word = row.word(place)
    return {
        row.with_words({place: new}): (place, new)
        for new in options(row, place, draws)
        if new != word and threat.allows((word, new))
    }
