"""PGD-20, APGD-100, Square and Auto on trained networks: assay against torchattacks.

Both in one process, on the same correctly classified CIFAR-10 test images, taking turns; the best
round counts, since noise only slows down. Seconds are those of the processor, so that what else
runs disturbs less. Success is judged for both by the same float32 model.
Rows that a model evaluates are counted in it, so that queries per second are compared, not
what either says of itself. torchattacks' AutoAttack takes 10 steps where the paper takes 100; it is
run as it comes, against `Auto(steps=10)`, or with --steps 100, against `Auto()`.

    python benchmarks/peers.py pgd apgd square --images 200       # natural and robust
    python benchmarks/peers.py auto --images 200 --steps 10       # robust

The networks are those of benchmarks/nets.py. bfloat16 is left out with --float32: a processor
without it takes ten times as long.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from nets import DATA, OUT, Normalised, natural, robust
from torch import Tensor

import assay
from assay.attacks import APGD, PGD, Attack, Auto, Square
from assay.data import load_data

EPS = {"natural": 8 / 255, "robust": 8 / 255}
SQUARE_EPS = {"natural": 2 / 255, "robust": 8 / 255}
"""Small enough that a natural network remains robust for a while: there is something to query."""
QUERIES = 1000


class Counted(Normalised):
    """What torchattacks is given; it counts the rows that it evaluates."""

    rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return super().forward(x)


@dataclass
class Round:
    """What an attack made of the images, and how many rows it queried."""

    adversarial: Tensor
    rows: int


Contender = Callable[[Tensor, Tensor], Round]


def ours(attack: Attack, clf: assay.Classifier, stop: Any, precision: Any) -> Contender:
    def contend(x: Tensor, y: Tensor) -> Round:
        found = attack(clf, x, y, stop=stop, precision=precision)
        return Round(found.adversarial, sum(found.evaluations.values()))

    return contend


def theirs(method: str, steps: int, clf: assay.Classifier, eps: float) -> Contender:
    """Return torchattacks' attack; those that hold the whole batch get batches of 128."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks

    model = Counted(clf).eval()
    attack: Any
    if method == "pgd":
        attack = torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=20)
    elif method == "apgd":
        attack = torchattacks.APGD(model, eps=eps, steps=100)
    elif method == "square":
        attack = torchattacks.Square(model, eps=eps, n_queries=QUERIES, seed=0)
    else:
        attack = torchattacks.AutoAttack(model, eps=eps, seed=0)
        for stage in attack._autoattack.attacks:
            if hasattr(stage, "steps"):
                stage.steps = steps

    def contend(x: Tensor, y: Tensor) -> Round:
        model.rows = 0
        parts = (x.split(128), y.split(128)) if method in ("pgd", "apgd") else ((x,), (y,))
        adversarial = torch.cat([attack(a, b) for a, b in zip(*parts, strict=True)])
        return Round(adversarial, model.rows)

    return contend


def made(method: str, steps: int, kind: str) -> Attack:
    """Return our attack with the settings of torchattacks'."""
    eps = (SQUARE_EPS if method == "square" else EPS)[kind]
    if method == "pgd":
        return PGD(eps=eps, steps=20, step_size=eps / 4)
    if method == "apgd":
        return APGD(eps=eps, steps=100)
    return Square(eps=eps, queries=QUERIES) if method == "square" else Auto(eps=eps, steps=steps)


def compare(
    title: str, clf: assay.Classifier, x: Tensor, y: Tensor, of: dict[str, Contender], rounds: int
) -> dict[str, Any]:
    """Return, per contender, the seconds of its best round, its queries and its success."""
    table: dict[str, Any] = {}
    for _ in range(rounds):
        for name, attack in of.items():
            start = time.process_time()
            found = attack(x, y)
            took = time.process_time() - start
            before = table.get(name, {}).get("seconds", float("inf"))
            success = float((clf.predict(found.adversarial) != y).float().mean())
            seconds = min(took, before)
            table[name] = {"seconds": seconds, "success": success, "rows": found.rows}
    slowest = table["torchattacks"]["seconds"]
    rate = table["torchattacks"]["rows"] / slowest
    print(f"{title}: {len(x)} images")
    for name, entry in table.items():
        entry["times"] = slowest / entry["seconds"]
        entry["rows_per_second"] = entry["rows"] / entry["seconds"]
        entry["rows_times"] = entry["rows_per_second"] / rate
        print(
            f"  {name:24s}{entry['seconds']:8.1f} s{len(x) / entry['seconds']:9.2f} images/s"
            f"{entry['times']:7.2f} ×{entry['rows_per_second']:10.0f} rows/s"
            f"{entry['rows_times']:7.2f} ×{entry['success']:8.1%} fooled",
            flush=True,
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    methods = ("pgd", "apgd", "square", "auto")
    parser.add_argument("methods", nargs="*", help=f"of {', '.join(methods)}; default: all")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10, help="of the cascade's gradient attacks")
    parser.add_argument("--float32", action="store_true", help="leave bfloat16 out")
    parser.add_argument("--networks", nargs="*", default=["natural", "robust"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    precisions = ("float32",) if options.float32 else ("float32", "bfloat16")
    report = {}
    for method in options.methods or methods:
        for kind in options.networks:
            if method == "auto" and kind == "natural":
                continue
            clf = natural() if kind == "natural" else robust()
            x, y = load_data(DATA, split="test").take(4 * options.images)
            right = clf.predict(x) == y
            x, y = x[right][: options.images], y[right][: options.images]
            attack = made(method, options.steps, kind)
            eps = attack.threat.eps
            of: dict[str, Contender] = {"torchattacks": theirs(method, options.steps, clf, eps)}
            for stop in ("fooled", "never") if method in ("pgd", "apgd") else ("fooled",):
                for precision in precisions:
                    of[f"assay, {stop}, {precision}"] = ours(attack, clf, stop, precision)
            title = f"{method} at {255 * eps:g}/255, {kind}"
            with clf.borrowed():
                report[title] = compare(title, clf, x, y, of, options.rounds)
    OUT.mkdir(exist_ok=True)
    (OUT / "peers.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
