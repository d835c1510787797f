"""What an attack keeps per image, and how a candidate is judged."""

from __future__ import annotations

import math
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from assay.attacks.base import Attack, wins
from assay.core.batches import (
    X,
    copied,
    laid_out,
    parts,
    put,
    rows_at_a_time,
    take,
)
from assay.core.oracle import Access, labels
from assay.errors import AssayError

AT_A_TIME = 128
"""Most rows that the original evaluates at a time."""


Moved = TypeVar("Moved", contravariant=True)


class Counted(Protocol[Moved]):
    """What answers queries with logits or labels, and counts them."""

    @property
    def queries(self) -> int: ...

    def query(self, x: Moved) -> Tensor: ...


class Ledger(Generic[X]):
    """What is kept per image or text, allocated once; and how a candidate is judged.

    All of it is on the CPU but `adversarial`, which is where the inputs are.
    """

    oracle: Counted[X]
    x: X
    adversarial: X

    def __init__(
        self,
        attack: Attack[X, Any],
        oracle: Counted[X],
        x: X,
        clean: Tensor,
        goal: Tensor,
        targeted: bool,
        budget: int | None,
    ) -> None:
        self.oracle, self.x, self.goal, self.targeted = oracle, x, goal, targeted
        self.threat, self.loss = attack.threat, attack.objective(targeted)
        self.budget = math.inf if budget is None else budget
        self.number = 0
        self.adversarial = copied(x)
        self.prediction = clean.clone()
        self.success = torch.zeros(len(x), dtype=torch.bool)
        self.distance = torch.zeros(len(x))
        self.damage = torch.full((len(x),), -math.inf)
        self.queries = torch.ones(len(x), dtype=torch.int64)  # the clean prediction
        self.steps = torch.zeros(len(x), dtype=torch.int64)
        self.stage = torch.full((len(x),), -1)
        self.cut = torch.zeros(len(x), dtype=torch.bool)
        self.evaluations = {"gradient": 0, "forward": len(x)}
        self.refused = 0

    def may_start(self, stage: Attack[X, Any], rows: Tensor, *, survivors: bool) -> Tensor:
        """Return which of `rows` a search is started on: those with budget for its first step and
        the confirmation."""
        if survivors:
            rows = rows[~self.success[rows]]
        affordable = self.queries[rows] + stage.opening + 1 <= self.budget
        self.cut[rows[~affordable]] = True
        return rows[affordable]

    def spend(self, rows: Tensor, spent: int | Tensor, evaluated: int, kind: Access) -> None:
        """Count what a step of a search cost, and compare it with what the model has counted.

        Raises:
            AssayError: the attack has queried more or less than it says, or more than it had
                announced, and than there was budget for.
        """
        each = torch.as_tensor(spent, dtype=torch.int64).cpu().expand(len(rows))
        if int(each.sum()) != evaluated:
            raise AssayError(
                f"the attack says that a step cost {int(each.sum())} evaluations, but the model "
                f"evaluated {evaluated} rows: correct Iterate.spent"
            )
        self.queries[rows] += each
        if self.budget < math.inf and int(self.queries[rows].max()) > self.budget:
            raise AssayError(
                f"a step of the attack took up to {int(each.max())} evaluations per image, more "
                "than was announced and the budget has: correct Attack.opening and Iterate.ahead"
            )
        self.evaluations["gradient" if kind == "gradient" else "forward"] += evaluated

    def share(self, rows: Tensor, evaluated: int, kind: Access) -> None:
        """Count what a step cost that was broken off: which images it had evaluated is not
        known, so all of them share it."""
        each = torch.full((len(rows),), evaluated // len(rows))
        each[: evaluated % len(rows)] += 1
        self.queries[rows] += each
        self.evaluations["gradient" if kind == "gradient" else "forward"] += evaluated

    def wins(self, rows: Tensor, answer: Tensor) -> Tensor:
        """Return bool (n,), on the CPU: the answer is what the attacker wanted."""
        return wins(answer, self.goal[rows].to(answer.device), self.targeted).cpu()

    def judge(self, stage: Attack[X, Any], rows: Tensor, x: X, adv: X, step: int) -> Tensor:
        """Query the original on candidates (n, ...), and keep the best of each image so far:
        a success before a failure, then the higher loss, or, of two successes of a method that
        looks for the nearest, the nearer one. Return the successes, bool (n,).

        Candidates outside the threat are refused, and rows without budget are not evaluated.
        """
        inside = self.threat.contains(x, adv).cpu()
        self.refused += int((~inside).sum())
        judged = (inside & (self.queries[rows] < self.budget)).nonzero()[:, 0]
        won = torch.zeros(len(rows), dtype=torch.bool)
        if not len(judged):
            return won
        if len(judged) < len(rows):
            rows, x, adv = rows[judged], take(x, judged), take(adv, judged)
        answer = evaluate(self.oracle, adv)
        self.queries[rows] += 1
        self.evaluations["forward"] += len(rows)
        said, fooled = labels(answer).cpu(), self.wins(rows, answer)
        distance = self.threat.distance(x, adv).cpu()
        damage = torch.zeros(len(rows))
        if answer.ndim == 2:
            goal = self.goal[rows].to(answer.device)
            damage = self.loss(answer.float(), goal).cpu().nan_to_num_(nan=-math.inf)
            damage.masked_fill_(said < 0, -math.inf)  # an overflow is no high loss
        before = self.success[rows]
        no_worse = damage >= self.damage[rows]
        if stage.minimum_norm:
            no_worse = torch.where(before, distance < self.distance[rows], no_worse)
        better = (fooled & ~before) | ((fooled == before) & no_worse)
        kept = rows[better]
        put(self.adversarial, kept, take(adv, better.nonzero()[:, 0]))
        self.distance[kept] = distance[better]
        self.prediction[kept] = said[better]
        self.success[kept] = fooled[better]
        self.damage[kept] = damage[better]
        self.steps[kept] = step
        self.stage[rows[fooled & ~before]] = self.number
        won[judged] = fooled
        return won


def evaluate(
    oracle: Counted[X], x: X, layout: torch.memory_format = torch.preserve_format
) -> Tensor:
    """Return the oracle's answer for every row, queried in batches of a few sizes only.

    Candidates come in any number; activations of every size there is would leave the heap in
    pieces (a sixth of the peak memory of attacking 10,000 images).
    """
    left, sizes, size = len(x), [], min(AT_A_TIME, rows_at_a_time(x))
    while left:
        while size > left and size > 8:
            size //= 2
        sizes.append(min(size, left))
        left -= sizes[-1]
    return torch.cat([oracle.query(laid_out(part, layout)) for part in parts(x, sizes)])
