"""Which default step of PGD is never much worse, over networks, norms, budgets and steps.

    python benchmarks/step_size.py digits=tests/networks/natural.safetensors \
        digits=tests/networks/robust.safetensors [DATA=CHECKPOINT ...] [--images 200]

Each network is attacked with the budget of each norm at which the rule of Madry et al. leaves about
a third and about two thirds of what is classified correctly: there a weaker step shows. Every rule
has the same random starts. A row says how many percent of the images remain robust, and how far
each rule is above the best at that place; the last lines give the mean and the worst of that.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from assay import Classifier
from assay.attacks import PGD
from assay.core.threats import widest
from assay.data import load_data
from assay.models.loading import load_model

RULES = {
    "1 / steps": lambda steps: 1 / steps,
    "2 / steps": lambda steps: 2 / steps,
    "2.5 / steps": lambda steps: 2.5 / steps,
    "4 / steps": lambda steps: 4 / steps,
    "6 / steps": lambda steps: 6 / steps,
    "10 / steps": lambda steps: 10 / steps,
    "0.2": lambda _: 0.2,
}
"""Length of a step over eps; the first is Dong et al.'s, the third Madry et al.'s, the
last the peers' default."""
NORMS, STEPS, SHARES = ("linf", "l2", "l1"), (10, 20, 50), (1 / 3, 2 / 3)


def robust(clf: Classifier, x: Tensor, y: Tensor, norm: str, eps: float, **step: float) -> float:
    """Return the share of the images that remain robust."""
    attack = PGD.parse({"norm": norm, "eps": eps, **step})
    return attack(clf, x, y, stop="fooled", seed=0).robust_accuracy.value


def budget(clf: Classifier, x: Tensor, y: Tensor, norm: str, share: float) -> float:
    """Return the radius at which about `share` of the images remain robust, bisecting its log."""
    low, high = 1e-4 * widest(norm, x), widest(norm, x)  # type: ignore[arg-type]
    for _ in range(9):
        middle = (low * high) ** 0.5
        left = robust(clf, x, y, norm, middle, steps=10)
        low, high = (middle, high) if left > share else (low, middle)
    return float(low * high) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="+", metavar="DATA=CHECKPOINT")
    parser.add_argument("--images", type=int, default=200)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    above: dict[str, list[float]] = {rule: [] for rule in RULES}
    print(f"{'':44}", *(f"{rule:>12}" for rule in RULES), flush=True)
    for data, path in (pair.split("=", 1) for pair in asked.networks):
        clf = load_model(path)
        x, y = next(
            (x, y)
            for _, x, y in load_data(data, split="test").sample(2 * asked.images).batches(10**6)
        )
        right = clf.predict(x) == y
        x, y = x[right][: asked.images], y[right][: asked.images]
        for norm in NORMS:
            for share in SHARES:
                eps = budget(clf, x, y, norm, share)
                for steps in STEPS:
                    left = {
                        rule: robust(clf, x, y, norm, eps, steps=steps, step_size=of(steps) * eps)
                        for rule, of in RULES.items()
                    }
                    best = min(left.values())
                    for rule, value in left.items():
                        above[rule].append(value - best)
                    name = f"{path.split('/')[-1][:22]} {norm} {eps:.3g}, {steps} steps"
                    print(f"{name:44}", *(f"{v:12.1%}" for v in left.values()), flush=True)
    print(f"{'mean above the best':44}", *(f"{sum(v) / len(v):12.2%}" for v in above.values()))
    print(f"{'worst above the best':44}", *(f"{max(v):12.2%}" for v in above.values()))


if __name__ == "__main__":
    main()
