"""The runner that every attack shares: who is attacked, who stops early, what counts, what is kept.

The fast copy of the model answers the search; the float32 original gives the clean predictions once
and confirms every success. What it does not confirm goes on (stop="fooled") or
counts as a failure (stop="never"). Nothing outside the threat is ever judged or returned.
"""

from __future__ import annotations

import itertools
import math
import time
from contextlib import ExitStack, closing
from typing import Any, Generic, get_args

import torch
from torch import Tensor, nn

from assay.attacks.base import Attack, Stop
from assay.attacks.deadline import Hurried, TimeUp
from assay.attacks.ledger import Ledger, evaluate
from assay.attacks.result import AttackResult
from assay.core.batches import (
    X,
    checked,
    copied,
    detached,
    device_of,
    named,
    placed,
    put,
    rows_at_a_time,
    take,
    width,
)
from assay.core.classifier import Classifier
from assay.core.fast import Copies, FastCopy, FastReport, Precision
from assay.core.fast_text import text_copy
from assay.core.oracle import Oracle, granted, labels, unwrapped
from assay.core.random import Rows, Stream
from assay.core.texts import TextClassifier
from assay.core.threats import T
from assay.errors import AssayError

IN_PLAY = 2
"""Batches in play at a time. Most images stop early, and what is left of many batches is still
worth a batch: two survivors alone take almost twice their share of time."""


HELD = 2**25
"""Most pixels of candidates that the images in play may hold: 128 MiB of float32."""


def run(
    attack: Attack[X, T],
    oracle: Oracle[X],
    x: X,
    y: Tensor | None = None,
    *,
    targets: Tensor | int | None = None,
    stop: Stop = "never",
    attack_wrong: bool = False,
    seed: int = 0,
    precision: Precision = "float32",
    batch_size: int | None = None,
    query_budget: int | None = None,
    time_limit: float | None = None,
    ids: Tensor | None = None,
    copies: Copies | None = None,
    clean: Tensor | None = None,
) -> AttackResult[X, T]:
    """Attack the inputs of `x` that the model gets right: images, or texts.

    Args:
        attack: the method, with its settings.
        oracle: a `Classifier`, or anything that can be queried as far as the attack needs.
        x: images float32 (N, C, H, W) in [0, 1], or a list of N texts, as the attack moves them.
        y: labels int64 (N,); None takes the model's own predictions.
        targets: a class for every image (or one for all) that the attacker wants said instead.
        stop: "fooled" stops an image early, once the original is fooled: for success rates.
            "never" makes every step for every image: for whatever looks at the images themselves.
        attack_wrong: also attack images that are classified wrongly to begin with.
        seed: of every draw; draws depend on it, the image's index and the restart alone.
        precision: of the fast copy; "bfloat16" where the processor has it. Texts have a copy in
            bfloat16 alone.
        batch_size: images in play at a time; None chooses. Results do not depend on it.
        query_budget: most queries per image, clean prediction and confirmation included. An image
            stops when its next step, and the confirmation, might exceed it.
        time_limit: seconds, after which all stop with what they have, what a step that is broken
            off had found included; a call of the model that was begun is waited for. So that what
            they have is confirmed in time, the search ends earlier, by as long as the clean images
            in play took.
        ids: int64 (N,), the images' indices in their data set, by which draws are keyed; None
            counts from 0. So a part of a set is attacked as it would be in the whole.
        copies: the classifier's fast copies, by whoever attacks one model several times. None:
            made for this call.
        clean: int64 (N,), what the original says of `x` (-1: no answer), where that is known; it is
            then not evaluated again, though it counts as the query that it was. With a time limit
            it is: what that takes says how long the confirmations will.

    Raises:
        AssayError: for images or labels that do not fit the model, a target that is the label,
            copies of another model, or an oracle that does not grant the access that the attack
            needs, or has no gradient.

    >>> from assay.attacks import PGD, run
    >>> result = run(PGD(eps=0.2), clf, x, y, stop="fooled", query_budget=10)
    >>> int(result.queries.max()) <= 10
    True
    """
    started = time.monotonic()
    if stop not in get_args(Stop):
        raise AssayError(f"stop is 'fooled' or 'never', not {stop!r}")
    x = checked(x)
    if len(x) == 0:
        raise AssayError(f"there is nothing to attack: x has no {named(x)}")
    check_limits(query_budget, time_limit, batch_size)
    _check_access(attack, oracle)
    attack.threat.check(x)
    with ExitStack() as held:
        if isinstance(oracle, Classifier):
            held.enter_context(oracle.borrowed())
        checked_from = oracle.queries
        if isinstance(oracle, Classifier):
            copies = Copies(oracle, x) if copies is None else copies.checked(oracle)
        model, report = _model_for(attack, oracle, copies, precision, x)
        checks = oracle.queries - checked_from
        # What the copy does well in channels_last the original does too, and faster; a model that
        # has no copy may be one that cannot (it may call .view).
        fits = isinstance(model, FastCopy)
        layout = torch.channels_last if fits else torch.contiguous_format
        names = torch.arange(len(x)) if ids is None else _one_each(ids, len(x), "ids")
        original = _LogScores(oracle) if oracle.access == "scores" else oracle
        queried_from = time.monotonic()
        if clean is None or time_limit is not None:
            clean = labels(evaluate(original, x, layout))
        clean = _one_each(clean, len(x), "clean")
        pace = (time.monotonic() - queried_from) / len(x)
        outputs = len(oracle.classes)
        truth = clean.clamp_min(0) if y is None else fitting(y, len(x), outputs, "labels")
        known = torch.ones_like(clean, dtype=torch.bool) if y is not None else clean >= 0
        goal = truth if targets is None else _wanted(targets, truth, outputs, known)
        ledger = Ledger(attack, original, x, clean, goal, targets is not None, query_budget)
        deadline = math.inf if time_limit is None else started + time_limit
        rows = torch.arange(len(x)) if attack_wrong else (clean == truth).nonzero()[:, 0]
        for number, stage in enumerate(attack.stages):
            # A stage draws what it would alone: the cascade fools whatever one of them does.
            stream = Stream(seed).child("attack", stage.name)
            queried = model
            if stage.minimum_norm and not attack.minimum_norm and precision != "float32":
                checked_from = oracle.queries
                queried, _ = _model_for(stage, oracle, copies, precision, x)
                checks += oracle.queries - checked_from
            size = batch_size or _rows_in_play(oracle, x, stage)
            for attempt in range(stage.starts):
                survivors = stop == "fooled" or attempt == 0
                rows = ledger.may_start(stage, rows, survivors=survivors)
                for part in torch.split(rows, size) if len(rows) else ():
                    ends = deadline - pace * len(part)
                    if time.monotonic() >= ends:
                        ledger.cut[part] = True
                        continue
                    ledger.number = number
                    draws = stream.child(attempt).rows(names[part])
                    _search(stage, queried, ledger, part, draws, layout, stop, ends)
    home = device_of(x)
    return AttackResult(
        adversarial=ledger.adversarial,
        success=ledger.success.to(home),
        distance=ledger.distance.to(home),
        queries=ledger.queries.to(home),
        steps=ledger.steps.to(home),
        stage=ledger.stage.to(home),
        cut=(ledger.cut & ~ledger.success).to(home),
        clean_prediction=clean.to(home),
        adversarial_prediction=ledger.prediction.to(home),
        correct=(clean == truth).to(home),
        labels=truth.to(home),
        targets=None if targets is None else goal.to(home),
        inputs=x,
        attack=attack,
        threat=attack.threat,
        seed=seed,
        stop=stop,
        seconds=time.monotonic() - started,
        evaluations={**ledger.evaluations, "check": checks},
        refused=ledger.refused,
        fast=report,
        oracle=oracle,
    )


def _search(
    attack: Attack[X, Any],
    model: Any,
    ledger: Ledger[X],
    rows: Tensor,
    rng: Rows,
    layout: torch.memory_format,
    stop: Stop,
    deadline: float,
) -> None:
    """Run one search on the inputs `rows` (n,), and let each stop when it is done."""
    device = getattr(ledger.oracle, "device", device_of(ledger.x))
    x = placed(take(ledger.x, rows), device, layout)
    goal = ledger.goal[rows].to(device)
    hurried = None if deadline == math.inf else Hurried(model, deadline, ledger.threat)
    search = attack.search(
        hurried or model,
        x,
        goal,
        threat=ledger.threat,
        loss=attack.objective(ledger.targeted),
        targeted=ledger.targeted,
        rng=rng.to(device),
    )
    keep: Tensor | None = None
    last: X | None = None
    won = torch.zeros(len(rows), dtype=torch.bool)
    with closing(search):
        for step in itertools.count():
            before = model.queries
            try:
                iterate = search.send(keep)
            except StopIteration:
                break
            except TimeUp:
                ledger.share(rows, model.queries - before, attack.needs)
                ledger.cut[rows] = True
                assert hurried is not None
                goal = ledger.goal[rows].to(device)
                found, adv = hurried.found(x, goal, ledger.targeted, won.to(device))
                if last is not None:
                    last = copied(last)
                    put(last, found, adv)
                    found, adv = torch.arange(len(rows)), last
                rows, x, last = rows[found.cpu()], take(x, found), adv
                step += 1
                break
            ledger.spend(rows, iterate.spent, model.queries - before, attack.needs)
            last = detached(iterate.adversarial)
            if hurried is not None:
                hurried.forget()
                if iterate.logits is not None:
                    won |= ledger.wins(rows, iterate.logits)
            leaves = torch.zeros(len(rows), dtype=torch.bool)
            if stop == "fooled" and iterate.logits is not None:
                suspects = ledger.wins(rows, iterate.logits).nonzero()[:, 0]
                if len(suspects):
                    some, moved = take(x, suspects), take(last, suspects)
                    leaves[suspects] = ledger.judge(attack, rows[suspects], some, moved, step)
            ahead = iterate.spent if iterate.ahead is None else iterate.ahead
            ahead = torch.as_tensor(ahead).cpu()
            over = (ledger.queries[rows] + ahead + 1 > ledger.budget) & ~leaves
            over |= ~leaves & (time.monotonic() >= deadline)
            if bool(over.any()):
                at = over.nonzero()[:, 0]
                ledger.cut[rows[over]] = True
                ledger.judge(attack, rows[over], take(x, at), take(last, at), step)
                leaves |= over
            keep = None
            if bool(leaves.any()):
                stays = (~leaves).nonzero()[:, 0]
                if not len(stays):
                    return
                keep = stays.to(device)
                rows, x, won, last = rows[stays], take(x, stays), won[stays], take(last, stays)
    if last is not None:
        ledger.judge(attack, rows, x, last, step - 1)


def check_limits(
    query_budget: int | None, time_limit: float | None, batch_size: int | None
) -> None:
    """Refuse limits that nothing can keep.

    Raises:
        AssayError: names the limit and its value.
    """
    if query_budget is not None and query_budget < 1:
        raise AssayError(
            f"query_budget is at least 1, which the clean image takes, not {query_budget}"
        )
    if time_limit is not None and not 0 <= time_limit < math.inf:
        raise AssayError(
            f"time_limit is a number of seconds, at least 0, or None for no limit, not {time_limit}"
        )
    if batch_size is not None and batch_size < 1:
        raise AssayError(f"batch_size is at least 1, or None, not {batch_size}")


def _check_access(attack: Attack[Any, Any], oracle: Oracle[Any]) -> None:
    if isinstance(oracle, nn.Module):
        raise unwrapped(oracle)
    if not granted(oracle, attack.needs):
        raise AssayError(
            f"{attack.name} needs access to the {attack.needs} of the model, but this one answers "
            f"with {oracle.access} only: use {', '.join(_allowed(attack, oracle))}"
        )


def _allowed(attack: Attack[Any, Any], oracle: Oracle[Any]) -> list[str]:
    """Return the names of the attacks on such inputs that an oracle answers enough for."""
    from assay.attacks.registry import attacks  # which import this module
    from assay.attacks.text.registry import text_attacks

    members = (text_attacks if isinstance(attack, text_attacks.base) else attacks).built_in()
    return [name for name, kind in members.items() if granted(oracle, kind.needs)]


def _model_for(
    attack: Attack[X, Any], oracle: Oracle[X], copies: Copies | None, precision: Precision, x: X
) -> tuple[Any, FastReport | None]:
    """Return what the search queries: the fast copy of a classifier, otherwise the oracle.

    An attack that averages over the draws of a model gets the model itself: the graph of a copy may
    hold one draw for good.
    """
    if isinstance(oracle, Classifier) and getattr(attack, "eot", None):
        why = "gradients are averaged over what the model draws"
        return oracle, FastReport(False, precision, 0, math.nan, why)
    if isinstance(oracle, Classifier) and copies is not None:
        return copies.of("float32" if attack.minimum_norm else precision)
    if isinstance(oracle, TextClassifier) and isinstance(x, list) and precision != "float32":
        if attack.needs != "gradient":
            return text_copy(oracle, x)
        why = "gradients by the embeddings of texts are the original's"
        return oracle, FastReport(False, precision, 0, math.nan, why)
    return (_LogScores(oracle) if oracle.access == "scores" else oracle), None


class _LogScores(Generic[X]):
    """An oracle that gives probabilities, queried for logits: they are their logarithms."""

    oracle: Oracle[X]

    def __init__(self, oracle: Oracle[X]) -> None:
        self.oracle = oracle
        self.batch_size = getattr(oracle, "batch_size", None)

    @property
    def queries(self) -> int:
        return self.oracle.queries

    def query(self, x: X) -> Tensor:
        return self.oracle.query(x).float().clamp_min(1e-12).log()


def _rows_in_play(oracle: Oracle[X], x: X, attack: Attack[X, Any]) -> int:
    chosen = oracle.batch_size if isinstance(oracle, Classifier) else None
    fitting = HELD // (attack.breadth * width(x))
    return chosen or max(1, min(IN_PLAY * rows_at_a_time(x), fitting))


def _one_each(given: Tensor, count: int, what: str) -> Tensor:
    given = torch.as_tensor(given).cpu()
    if given.shape != (count,) or given.is_floating_point():
        raise AssayError(
            f"{what} must be whole numbers of shape ({count},), one per image; "
            f"got {given.dtype} of shape {tuple(given.shape)}"
        )
    return given.long()


def fitting(given: Tensor, count: int, outputs: int, what: str) -> Tensor:
    """Return labels or targets as int64 (N,) on the CPU, if they fit the images and the model.

    Raises:
        AssayError: they do not; names their shape, or the least and the greatest.
    """
    values = torch.as_tensor(given).detach().cpu()
    if values.is_floating_point() or values.dtype == torch.bool or values.shape != (count,):
        raise AssayError(
            f"{what} must be whole numbers of shape ({count},), one per image; "
            f"got {values.dtype} of shape {tuple(values.shape)}"
        )
    low, high = (int(values.min()), int(values.max())) if count else (0, 0)
    if low < 0 or high >= outputs:
        raise AssayError(
            f"{what} go from {low} to {high}, but the model has {outputs} outputs "
            f"(0 to {outputs - 1}): is this the right model for this data?"
        )
    return values.long()


def _wanted(targets: Tensor | int, labels: Tensor, outputs: int, known: Tensor) -> Tensor:
    """Return the targets, int64 (N,); they must not be the labels where those are `known`."""
    given = torch.as_tensor(targets)
    wanted = fitting(
        given.expand_as(labels) if given.ndim == 0 else given, len(labels), outputs, "targets"
    )
    same = ((wanted == labels) & known).nonzero()[:, 0]
    if len(same):
        raise AssayError(
            f"the target of image {int(same[0])} is its own label, {int(wanted[same[0]])} "
            f"({len(same)} such images): a target is a class that the image is not"
        )
    return wanted
