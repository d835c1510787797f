"""Square over many seeds, assay beside torchattacks: one seed says little about a random search.

    python benchmarks/square.py cifar10=CHECKPOINT [--images 150] [--seeds 10] [--eps 2/255]

Both attack the same images, all of which the network gets right, with the same number of queries.
A row has the robust accuracy of one seed; the last lines give the means with their standard
deviation over seeds, and the difference of the means with its 95 % interval (Welch's t; the images
stay the same, so it is about seeds alone).
"""

from __future__ import annotations

import argparse
import importlib
import warnings

import numpy as np
import torch
from nets import Normalised
from scipy import stats

from assay.attacks import Square
from assay.config import parse_number
from assay.data import load_data
from assay.models.loading import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", metavar="DATA=CHECKPOINT")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--eps", type=parse_number, default=2 / 255)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchattacks = importlib.import_module("torchattacks")
    data, path = asked.network.split("=", 1)
    clf = load_model(path)
    part = load_data(data, split="test").sample(3 * asked.images)
    x, y = next((x, y) for _, x, y in part.batches(10**6))
    right = clf.predict(x) == y
    x, y = x[right][: asked.images], y[right][: asked.images]
    left: dict[str, list[float]] = {"assay": [], "torchattacks": []}
    net = Normalised(clf).eval()
    ours = Square(eps=asked.eps, queries=asked.queries)
    for seed in range(asked.seeds):
        found = ours(clf, x, y, stop="fooled", seed=seed)
        left["assay"].append(found.robust_accuracy.value)
        peer = torchattacks.Square(net, eps=asked.eps, n_queries=asked.queries, seed=seed)
        adversarial = peer(x, y).clamp(x - asked.eps, x + asked.eps)
        left["torchattacks"].append(float((clf.predict(adversarial) == y).double().mean()))
        print(f"seed {seed}", *(f"{name} {v[-1]:.1%}" for name, v in left.items()), flush=True)
    for name, values in left.items():
        print(f"{name}: {np.mean(values):.2%}, SD {np.std(values, ddof=1):.2%}")
    interval = stats.ttest_ind(*left.values(), equal_var=False).confidence_interval()
    print(f"assay less torchattacks: {np.mean(left['assay']) - np.mean(left['torchattacks']):.2%} "
          f"({interval.low:.2%} to {interval.high:.2%}), {len(x)} images")  # fmt: skip


if __name__ == "__main__":
    main()
