"""HotFlip: the substitution that a gradient says raises the loss most."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from assay.attacks.base import Iterate, Search, only
from assay.attacks.text.asking import Row, ask, judged, preferred, rows_of, told
from assay.attacks.text.base import WordAttack
from assay.attacks.text.greedy import may_change
from assay.attacks.text.threat import Words
from assay.core.edits import words
from assay.core.oracle import Access, Encoded, Loss
from assay.core.random import Rows
from assay.errors import AssayError

Change = tuple[int, str]


class HotFlip(WordAttack):
    """Gradient-guided substitution (Ebrahimi et al. 2018, "HotFlip: white-box adversarial examples
    for text classification").

    One backward pass at the text as it is estimates, to first order, what every substitute of every
    word would do to the loss:

        Σ over the word's tokens of (ē' - e) · ∂L / ∂e,    ē' the mean embedding of the substitute

    The `tries` best by that are asked about, and the best of those by the model's own answer is
    taken; then again, until the model is fooled or the share of words is spent. The paper changes
    characters, and takes a beam; its section on words asks for a neighbour in embedding space of
    the same part of speech that is no stop word, as here, and takes the estimate alone.

    >>> assay.attacks.text.HotFlip(share=0.1, setting="strict").needs
    'gradient'
    """

    needs: ClassVar[Access] = "gradient"

    name: Literal["hotflip"] = "hotflip"
    """The method's name in configs."""
    tries: PositiveInt = 8
    """Substitutes of a text that are asked about in each step."""

    def search(
        self,
        model: Any,
        x: list[str],
        y: Tensor,
        *,
        threat: Words,
        loss: Loss,
        targeted: bool,
        rng: Rows,
    ) -> Search[list[str]]:
        del rng  # it draws nothing
        if not hasattr(model, "gradient"):
            raise AssayError("hotflip follows gradients of token embeddings: give a TextClassifier")
        rows, table = rows_of(x, y), dict[str, Tensor]()
        left = [self._changes(row, threat) for row in rows]
        keep = yield Iterate(list(x), spent=0, ahead=2)
        rows, left = only(keep, rows, left)
        spent = ask(model, rows, [[row.text] for row in rows])
        while True:
            for row, some in zip(rows, left, strict=True):
                row.done |= not some or len(row.changed) >= threat.most(row.text)
            now = [row.current for row in rows]
            ahead = torch.tensor([0 if row.done else 1 + self.tries for row in rows])
            keep = yield Iterate(now, told(rows, now), spent, ahead)
            rows, left = only(keep, rows, left)
            active = [k for k, row in enumerate(rows) if not row.done]
            if not active:
                return
            some = [rows[k] for k in active]
            goal = torch.tensor([row.y for row in some])
            _, slopes = model.gradient([row.current for row in some], goal, loss)
            tried: list[dict[str, Change]] = [{} for _ in rows]
            for k, row, slope in zip(active, some, slopes, strict=True):
                best = self._best(model, row, left[k], slope, table)
                tried[k] = {row.with_words({place: new}): (place, new) for place, new in best}
            spent = ask(model, rows, [list(texts) for texts in tried])
            spent[active] += 1
            for k, change in enumerate(preferred(rows, tried, threat, loss, targeted)):
                if change is None:
                    asked = set(tried[k].values())
                    left[k] = [one for one in left[k] if one not in asked]
                else:
                    rows[k].changed[change[0]] = change[1]
                    left[k] = [one for one in left[k] if one[0] != change[0]]
                    rows[k].done = judged(rows[k], [rows[k].current], loss, targeted)[1][0]

    def _changes(self, row: Row, threat: Words) -> list[Change]:
        """Return all substitutions of a text that are allowed one by one."""
        return [
            (place, new)
            for place in may_change(row, threat)
            for new in self.substitutes.of(row.text, place)
            if threat.allows((row.word(place), new))
        ]

    def _best(
        self, model: Any, row: Row, left: list[Change], slope: Tensor, table: dict[str, Tensor]
    ) -> list[Change]:
        """Return the substitutions that a gradient (T, D) by a text's tokens says are best."""
        new = [word for word in dict.fromkeys(word for _, word in left) if word not in table]
        if new:
            table.update(zip(new, embeddings(model.encode(new)), strict=True))
        at = model.encode([row.current])
        owners = tokens_of_words(row.current, at)
        gains = []
        for place, word in left:
            here = owners[place]
            if not here:
                gains.append(-torch.inf)  # what the model does not read changes nothing
                continue
            step = table[word][None] - at.values[0, here].cpu()
            gains.append(float((step * slope[here].cpu()).sum()))
        order = sorted(range(len(left)), key=lambda k: -gains[k])
        return [left[k] for k in order[: self.tries]]


def embeddings(e: Encoded) -> list[Tensor]:
    """Return the mean embedding (D,) of the tokens of each text; the tokenizer's marks of beginning
    and end, which have no characters, are left out."""
    assert e.spans is not None
    found = []
    for row, spans in zip(e.values.detach().cpu(), e.spans, strict=True):
        own = [k for k, (start, end) in enumerate(spans) if end > start]
        found.append(row[own].mean(0) if own else torch.zeros(row.shape[1]))
    return found


def tokens_of_words(text: str, e: Encoded) -> list[list[int]]:
    """Return of every word of a text which tokens are within it, from an encoding of it alone."""
    assert e.spans is not None
    (spans,) = e.spans
    return [
        [k for k, (start, end) in enumerate(spans) if end > start >= word.start and end <= word.end]
        for word in words(text)
    ]
