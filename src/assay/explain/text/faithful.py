"""Whether an attribution names the words that decide, and whether it needs what was learnt."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay import stats
from assay.core.edits import replaced, words
from assay.core.memory import Tally
from assay.core.random import Stream
from assay.errors import AssayError
from assay.explain.randomise import Randomised, from_the_top, make_random
from assay.explain.shift import rank_correlation
from assay.explain.text.base import TextExplainer, TokenAttribution

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Of the words that are left out, or kept: those of the ERASER benchmark."""


@dataclass(frozen=True, eq=False)
class TextFaithfulness:
    """How well attributions name the words that decide (DeYoung et al. 2020, ERASER).

    Attributes:
        comprehensiveness: float64 (N,), p(x) - p(x without the words named), the mean over `SHARES`
            of the words: high where they are needed.
        sufficiency: float64 (N,), p(x) - p(the words named alone), likewise: low where they are
            enough.
        random_comprehensiveness, random_sufficiency: the same with words in a random order, which
            any attribution must beat.

    >>> maps = assay.explain.text.WordOcclusion()(text_clf, ["a good film", "the plot is bad"])
    >>> assay.explain.text.text_faithfulness(text_clf, maps).sufficiency.shape
    (2,)
    """

    comprehensiveness: NDArray[np.float64]
    sufficiency: NDArray[np.float64]
    random_comprehensiveness: NDArray[np.float64]
    random_sufficiency: NDArray[np.float64]

    @property
    def gain(self) -> stats.Estimate:
        """By how much it is more comprehensive than a random order, with its interval over
        texts."""
        return stats.mean_interval(self.comprehensiveness - self.random_comprehensiveness, "texts")

    def to_dict(self) -> dict[str, Any]:
        means = {name: float(np.mean(value)) for name, value in vars(self).items()}
        return {**means, "gain": self.gain.to_dict(), "texts": len(self.comprehensiveness)}


def text_faithfulness(
    clf: Any, maps: TokenAttribution, *, seed: int = 0, shares: Sequence[float] = SHARES
) -> TextFaithfulness:
    """Return how faithful the attributions of texts are; queries the model 4 · len(shares) times a
    text at most, and once for the text.

    Words are left out as they stand, which makes sentences unlike those that models were trained on
    (Hooker et al. 2019): compare explainers on one model, not models. Words that the model does not
    read, since it cuts a text, are in no order, and always left out. Words that are given the same
    are in a random order.

    >>> maps = assay.explain.text.WordOcclusion()(text_clf, ["a good film", "the plot is bad"])
    >>> found = assay.explain.text.text_faithfulness(text_clf, maps)
    >>> bool(found.comprehensiveness.mean() > found.random_comprehensiveness.mean())
    True
    """
    draws = Stream(seed).child("explain", "text order").rows(range(len(maps)))
    chance = draws.uniform((max([1, *(len(words(t)) for t in maps.texts)]),)).tolist()
    asked: list[str] = []
    places: list[list[list[int]]] = []  # by text, by order and kind, places in asked
    for row, (text, read) in enumerate(zip(maps.texts, read_words(clf, maps.texts), strict=True)):
        given = [value for _, value in maps.by_word(row)]
        at_random = sorted(read, key=lambda k: -chance[row][k])
        unread = set(range(len(given))).difference(read)
        own: list[list[int]] = []
        for ranked in (sorted(at_random, key=lambda k: -given[k]), at_random):
            for kept in (False, True):
                own.append([])
                for share in shares:
                    top = set(ranked[: math.ceil(share * len(ranked))])
                    left = set(ranked) - top if kept else top
                    gone = dict.fromkeys(left | unread)
                    own[-1].append(len(asked))
                    asked.append(replaced(text, gone))
        places.append(own)
    with torch.no_grad():
        said = _probabilities(clf, [*maps.texts, *asked])
    goal = maps.targets.tolist()
    found = np.zeros((4, len(maps)))
    for row, own in enumerate(places):
        whole = said[row, goal[row]]
        for kind, some in enumerate(own):
            rest = said[[len(maps) + k for k in some], goal[row]]
            found[kind, row] = float((whole - rest).mean())
    return TextFaithfulness(*found)


def read_words(clf: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return which words of each text have a token that the model reads, by their numbers; all of
    them where the model has no tokenizer to ask.

    >>> assay.explain.text.faithful.read_words(text_clf, ["a good film"])
    [[0, 1, 2]]
    """
    found = [words(text) for text in texts]
    if not hasattr(clf, "tokens"):
        return [list(range(len(own))) for own in found]
    spans = clf.tokens(list(texts)).spans
    return [
        [
            k
            for k, piece in enumerate(own)
            if any(max(start, piece.start) < min(end, piece.end) for start, end in tokens)
        ]
        for own, tokens in zip(found, spans, strict=True)
    ]


def _probabilities(clf: Any, texts: list[str]) -> Tensor:
    """Return what the model says as probabilities; each text is asked about once."""
    once = list(dict.fromkeys(texts))
    answer = clf.query(once).double().cpu()
    if clf.access != "scores":
        answer = answer.softmax(1)
    place = {text: k for k, text in enumerate(once)}
    found: Tensor = answer[[place[text] for text in texts]]
    return found


def randomised_text(
    clf: Any,
    explainers: Mapping[str, TextExplainer],
    maps: Mapping[str, TokenAttribution],
    *,
    networks: int = 4,
    threshold: float = 0.5,
    seed: int = 0,
) -> dict[str, Randomised]:
    """Explain the same texts with random weights in all layers (Adebayo et al. 2018), and return
    how alike the attributions are by the rank correlation over words that the model reads.

    The texts are split among `networks` copies of the model, each with weights of its own. What
    survives above `threshold` says nothing of what was learnt.

    Raises:
        AssayError: the model cannot be copied, or has nothing to make random.

    >>> explainer, said = assay.explain.text.GradientInput(), ["a good film", "the plot is bad"]
    >>> tried, maps = {"gradient": explainer}, {"gradient": explainer(text_clf, said)}
    >>> list(assay.explain.text.randomised_text(text_clf, tried, maps, networks=1))
    ['gradient']
    """
    first = next(iter(maps.values()))
    texts = list(first.texts)
    read = read_words(clf, texts)
    parts = np.array_split(np.arange(len(texts)), min(networks, len(texts)))
    alike = {name: np.full((2, len(texts)), np.nan) for name in explainers}
    stream = Stream(seed).child("explain", "random weights")
    for number, rows in enumerate(parts):
        twin = random_twin(clf, texts[int(rows[0])], stream.child(number))
        some = [texts[row] for row in rows]
        for name, explainer in explainers.items():
            try:
                again = explainer(twin, some, maps[name].targets[rows])
            except AssayError:  # nothing finite, say: this network has no attributions
                continue
            for k, row in enumerate(rows):
                before, after = (
                    np.array([[found.by_word(at)[word][1] for word in read[row]]])
                    for found, at in ((maps[name], int(row)), (again, k))
                )
                if before.shape[1] < 3 or np.ptp(before) == 0:
                    continue  # too few words to have an order
                pair = (rank_correlation(abs(before), abs(after)), rank_correlation(before, after))
                if again.undefined is None or not again.undefined[k]:
                    alike[name][:, row] = np.nan_to_num(np.concatenate(pair))
    network = np.concatenate([np.full(len(rows), k) for k, rows in enumerate(parts)])
    words_of = int(np.median([len(own) for own in read]))
    return {
        name: Randomised(
            share=np.array([1.0]),
            absolute=both[0][:, None],
            signed=both[1][:, None],
            network=network,
            places=max(2, words_of),
            threshold=threshold,
        )
        for name, both in alike.items()
    }


def random_twin(clf: Any, text: str, stream: Stream) -> Any:
    """Return a copy of a text classifier with random weights in all layers."""
    twin = copy.copy(clf)
    try:
        twin.model = copy.deepcopy(clf.model)
    except Exception as error:  # whatever a user's module may raise when copied
        raise AssayError(f"the model cannot be copied: {type(error).__name__}: {error}") from error
    twin.table = twin.model.get_input_embeddings()
    twin.tally, twin.treated = Tally(), Counter()
    layers = from_the_top(twin, [text])  # type: ignore[arg-type]
    if not layers:
        raise AssayError("the model has no parameters, so there is nothing to make random")
    for place, layer in enumerate(layers):
        make_random(layer, stream.child("layer", place), twin.device)
    return twin
