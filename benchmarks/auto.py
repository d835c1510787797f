"""APGD-100 and Auto on trained networks: assay against torchattacks.

Both in one process, on the same correctly classified CIFAR-10 test images, taking turns; the best
round counts, since noise only slows down. Success is judged for both by the same float32 model.
torchattacks' AutoAttack takes 10 steps where the paper takes 100; it is run as it comes, against
`Auto(steps=10)`, and with the paper's 100, against `Auto()`.

    python benchmarks/auto.py --images 200               # APGD-100, natural and robust
    python benchmarks/auto.py --images 200 --auto 10     # and the cascades, robust

The networks are those of benchmarks/nets.py.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from nets import DATA, OUT, Normalised, natural, robust
from torch import Tensor

import assay
from assay.attacks import APGD, Attack, Auto
from assay.data import load_data

EPS = {"natural": 8 / 255, "robust": 8 / 255}
Contender = Callable[[Tensor, Tensor], Tensor]


def ours(attack: Attack, clf: assay.Classifier, stop: Any, precision: Any) -> Contender:
    return lambda x, y: attack(clf, x, y, stop=stop, precision=precision).adversarial


def theirs(kind: str, steps: int, clf: assay.Classifier, eps: float) -> Contender:
    """Return torchattacks' APGD or AutoAttack with as many steps, on batches of 128."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchattacks

    model = Normalised(clf).eval()
    if kind == "apgd":
        attack = torchattacks.APGD(model, eps=eps, steps=steps)
    else:
        attack = torchattacks.AutoAttack(model, eps=eps, seed=0)
        for stage in attack._autoattack.attacks:
            if hasattr(stage, "steps"):
                stage.steps = steps
    parts = (lambda x: torch.split(x, 128)) if kind == "apgd" else (lambda x: (x,))
    return lambda x, y: torch.cat([attack(a, b) for a, b in zip(parts(x), parts(y), strict=True)])


def compare(
    title: str, clf: assay.Classifier, x: Tensor, y: Tensor, of: dict[str, Contender], rounds: int
) -> dict[str, Any]:
    """Return, per contender, the seconds of its best round and the success of its last."""
    table: dict[str, Any] = {}
    for _ in range(rounds):
        for name, attack in of.items():
            start = time.perf_counter()
            adversarial = attack(x, y)
            took = time.perf_counter() - start
            before = table.get(name, {}).get("seconds", float("inf"))
            success = float((clf.predict(adversarial) != y).float().mean())
            table[name] = {"seconds": min(took, before), "success": success}
    slowest = table["torchattacks"]["seconds"]
    print(f"{title}: {len(x)} images")
    for name, entry in table.items():
        entry["times"] = slowest / entry["seconds"]
        rate = len(x) / entry["seconds"]
        print(
            f"  {name:28s}{entry['seconds']:8.1f} s{rate:9.2f} images/s"
            f"{entry['times']:8.2f} ×{entry['success']:8.1%} fooled",
            flush=True,
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--auto", type=int, help="compare the cascades, with so many steps")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report = {}
    for kind, clf in (("natural", natural()), ("robust", robust())):
        x, y = load_data(DATA, split="test").take(4 * options.images)
        right = clf.predict(x) == y
        x, y = x[right][: options.images], y[right][: options.images]
        if options.auto is None:
            attack: Attack = APGD(eps=EPS[kind])
            title, peer = f"APGD-100, {kind}", theirs("apgd", 100, clf, EPS[kind])
        elif kind == "robust":
            attack = Auto(eps=EPS[kind], steps=options.auto)
            title, peer = (
                f"Auto-{options.auto}, {kind}",
                theirs("auto", options.auto, clf, EPS[kind]),
            )
        else:
            continue
        stops = ("fooled", "never") if options.auto is None else ("fooled",)
        of: dict[str, Contender] = {"torchattacks": peer}
        for stop in stops:
            for precision in ("float32", "bfloat16"):
                of[f"assay, {stop}, {precision}"] = ours(attack, clf, stop, precision)
        with clf.borrowed():
            report[title] = compare(title, clf, x, y, of, options.rounds)
    name = "apgd" if options.auto is None else f"auto-{options.auto}"
    (OUT / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
