"""What of a network trained by interval bounds is certified, and what remains right under `auto`.

An attack cannot fool what is certified, so `auto` attacks only the images that are right and not
certified; the rest are taken as they are, but for a few, which PGD is held against. That gives what
attacking every image would give, in a tenth of the time.

    assay train --recipe certified --out proved
    python benchmarks/certified.py proved/model.safetensors --attacked 2000
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from assay import stats
from assay.attacks import PGD, Auto, run
from assay.certify import ibp
from assay.inputs import Inputs, load_part
from assay.models.loading import load_model

HELD_AGAINST = 200
"""Certified images that PGD is held against: one that it fools is a bug."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument(
        "--attacked", type=int, help="so many images, drawn at random; default: all"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    clf = load_model(args.model)
    data = load_part(Inputs(model=str(args.model), data=args.data), "test")
    x, y = data.take(len(data))
    began = time.process_time()
    proved = ibp(clf, x, y, eps=args.eps)
    right = clf.predict(x).cpu() == y
    print(f"right        {stats.proportion(int(right.sum()), len(y), 'test images').percent()}")
    print(f"certified    {proved.accuracy.percent()}")
    some = proved.certified.nonzero()[:HELD_AGAINST, 0]
    pgd = PGD(eps=args.eps, steps=20, step_size=args.eps / 10)
    assert not bool(run(pgd, clf, x[some], y[some], stop="fooled").fooled.any())
    n = args.attacked or len(y)
    open_ = (right & ~proved.certified)[:n].nonzero()[:, 0]
    found = run(Auto(eps=args.eps), clf, x[open_], y[open_], stop="fooled")
    stand = right[:n].clone()
    stand[open_[found.fooled.cpu()]] = False
    first = f"of {n} drawn by seed 0: "
    for name, which in (
        ("right", right[:n]),
        ("certified", proved.certified[:n]),
        ("under auto", stand),
    ):
        share = stats.proportion(int(which.sum()), n, "test images").percent()
        print(f"{name:12} {first}{int(which.sum()):,}, {share}")
    print(f"{len(open_)} attacked, {time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
