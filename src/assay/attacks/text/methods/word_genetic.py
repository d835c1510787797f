"""Genetic substitution of words, by the genetic core that images are attacked with."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Iterate, Search, only
from assay.attacks.losses import towards
from assay.attacks.methods.genetic import judged, odds, parents_of
from assay.attacks.text.asking import Row, ask, first_alike, rows_of
from assay.attacks.text.base import WordAttack
from assay.attacks.text.greedy import may_change
from assay.attacks.text.threat import Words
from assay.core.edits import replaced
from assay.core.oracle import Loss
from assay.core.random import Rows

Member = dict[int, str]
"""A candidate: by the number of a word, what stands in its place."""


class WordGenetic(WordAttack):
    """A population of sentences bred for fitness (Alzantot et al. 2018, "Generating natural
    language adversarial examples").

    A member is perturbed at one word, drawn by how many substitutes it has, and there the best of
    up to `neighbours` substitutes is taken, which the model is asked about. A child has each word
    from one of two parents, drawn by the softmax of fitness, and is then perturbed; the fittest
    lives on. Fitness, its softmax in units of its spread, and the draw of parents are those of the
    genetic attack on images, from the same authors. The paper also has a language model judge
    substitutes, and takes a population of 60 for 20 generations.

    >>> assay.attacks.text.WordGenetic(population=10, steps=5).population
    10
    """

    name: Literal["word-genetic"] = "word-genetic"
    """The method's name in configs."""
    population: int = Field(default=12, ge=2)
    """Candidates per text."""
    steps: PositiveInt = 10
    """Generations after the first population."""
    neighbours: PositiveInt = 8
    """Substitutes of a word that are asked about when a member is perturbed."""
    temperature: float = Field(default=0.3, gt=0)
    """Of the softmax that parents are drawn by, in standard deviations of the fitness."""

    @property
    def breadth(self) -> int:
        return self.population

    def objective(self, targeted: bool) -> Loss:
        return towards(odds) if targeted else odds

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
        rows = rows_of(x, y)
        free = [self._free(row, threat) for row in rows]
        most = 1 + self.population * self.neighbours
        keep = yield Iterate(list(x), spent=0, ahead=most)
        rows, free, rng, y = only(keep, rows, free, rng, y)
        pool: list[list[Member]] = [[{} for _ in range(self.population)] for _ in rows]
        spent = ask(model, rows, [[row.text] for row in rows])
        for generation in range(self.steps + 1):
            spent = spent + self._perturb(
                model, rows, free, pool, threat, loss, targeted, rng, elite=generation > 0
            )
            said = torch.stack([_answers(row, some) for row, some in zip(rows, pool, strict=True)])
            fitness, merit = judged(said, y.cpu(), loss, targeted)
            best = merit.argmax(1).tolist()
            now = [replaced(r.text, p[b]) for r, p, b in zip(rows, pool, best, strict=True)]
            told = torch.stack([row.known[text] for row, text in zip(rows, now, strict=True)])
            # a child made of two parents is a sentence of its own
            ahead = most + self.population if generation < self.steps else 0
            keep = yield Iterate(now, told, spent, ahead)
            if generation == self.steps:
                return
            rows, free, rng, y, pool, fitness, best = only(
                keep, rows, free, rng, y, pool, fitness, torch.tensor(best)
            )
            best = best.tolist()
            parents, share = parents_of(fitness, self.temperature, rng)
            drawn = rng.uniform((self.population - 1, 64)).tolist()
            born = [
                _bred(row, some, pair, part, draws, threat)
                for row, some, pair, part, draws in zip(
                    rows, pool, parents.tolist(), share.tolist(), drawn, strict=True
                )
            ]
            pool = [
                [some[fittest], *young]
                for some, fittest, young in zip(
                    pool, best, self._kept(rows, pool, born, parents.tolist(), threat), strict=True
                )
            ]
            spent = ask(
                model,
                rows,
                [[replaced(r.text, m) for m in some] for r, some in zip(rows, pool, strict=True)],
            )

    def _free(self, row: Row, threat: Words) -> dict[int, list[str]]:
        """Return, by the number of a word, its substitutes that are allowed."""
        found = {
            place: [
                new
                for new in self.substitutes.of(row.text, place)
                if threat.allows((row.word(place), new))
            ][: self.neighbours]
            for place in may_change(row, threat)
        }
        return {place: some for place, some in found.items() if some}

    def _kept(
        self,
        rows: list[Row],
        pool: list[list[Member]],
        born: list[list[Member]],
        parents: list[list[list[int]]],
        threat: Words,
    ) -> list[list[Member]]:
        """Return the children of every row; in place of one unlike the original its mother."""
        texts = [
            [(row.text, replaced(row.text, child))]
            for row, young in zip(rows, born, strict=True)
            for child in young
        ]
        alike = iter(first_alike(texts, threat))
        return [
            [
                child if next(alike) is not None else dict(some[mother])
                for child, mother in zip(young, pairs[0], strict=True)
            ]
            for some, young, pairs in zip(pool, born, parents, strict=True)
        ]

    def _perturb(
        self,
        model: Any,
        rows: list[Row],
        free: list[dict[int, list[str]]],
        pool: list[list[Member]],
        threat: Words,
        loss: Loss,
        targeted: bool,
        rng: Rows,
        *,
        elite: bool,
    ) -> Tensor:
        """Give every member (but an elite, the first) the best substitute of one of its words;
        return how many queries that took, int64 (n,)."""
        draws = rng.uniform((self.population,)).tolist()
        options: list[list[list[Member]]] = []
        for row, some, members, drawn in zip(rows, free, pool, draws, strict=True):
            options.append([])
            for number, (member, draw) in enumerate(zip(members, drawn, strict=True)):
                place = None if elite and number == 0 else _place(row, some, member, threat, draw)
                made = [] if place is None else [{**member, place: new} for new in some[place]]
                options[-1].append(made)
        asked = [
            [replaced(row.text, m) for made in some for m in made]
            for row, some in zip(rows, options, strict=True)
        ]
        spent = ask(model, rows, asked)
        queues: list[list[tuple[str, str]]] = []
        ranked: list[tuple[list[Member], int, list[Member]]] = []  # a row's pool, whose place
        for row, each, members in zip(rows, options, pool, strict=True):
            for number, made in enumerate(each):
                if not made:
                    continue
                said = _answers(row, made)[None]
                _, merit = judged(said, torch.tensor([row.y]), loss, targeted)
                order = [made[k] for k in merit[0].argsort(descending=True, stable=True).tolist()]
                ranked.append((members, number, order))
                queues.append([(row.text, replaced(row.text, member)) for member in order])
        for (held, number, order), first in zip(ranked, first_alike(queues, threat), strict=True):
            if first is not None:
                held[number] = order[first]
        return spent


def _answers(row: Row, members: list[Member]) -> Tensor:
    """Return what the model has said of some members: (m, K)."""
    return torch.stack([row.known[replaced(row.text, member)] for member in members])


def _place(
    row: Row, free: dict[int, list[str]], member: Member, threat: Words, draw: float
) -> int | None:
    """Return the word at which a member is perturbed, drawn by how many substitutes it has; once
    the share of words is spent, one that has changed already."""
    full = len(member) >= threat.most(row.text)
    some = [place for place in free if not full or place in member]
    total = draw * sum(len(free[place]) for place in some)
    for place in some:
        total -= len(free[place])
        if total < 0:
            return place
    return some[-1] if some else None


def _bred(
    row: Row,
    members: list[Member],
    pairs: list[list[int]],
    share: list[float],
    draws: list[list[float]],
    threat: Words,
) -> list[Member]:
    """Return children: each word from the first parent with the probability `share`. Of what is
    more than may change the last words stay as they were."""
    children = []
    for mother, father, part, draw in zip(*pairs, share, draws, strict=True):
        one, other = members[mother], members[father]
        child: Member = {}
        for place in sorted({*one, *other}):
            chosen = one if draw[place % len(draw)] < part else other
            if place in chosen and len(child) < threat.most(row.text):
                child[place] = chosen[place]
        children.append(child)
    return children
