"""Detectors: what all of them cost over the forward passes alone, and each beside pytorch-ood.

One process, one thread, processor time. The network is a ResNet-20 with batch norm (64 features,
its weights at random: they change no time) on CIFAR-10's 10,000 test images and 10,000 of noise.
The forward passes are the bare module's, in eval mode without gradients, in the same batches. The
50,000 reference rows are features of those images, moved a little: a search takes as long.

    python benchmarks/ood.py                        # 10,000 + 10,000 images
    python benchmarks/ood.py --images 2000 --only neighbours gaussian
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import torch
from nets import DATA, OUT
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.head import Head
from assay.core.memory import peak_of
from assay.core.random import Stream
from assay.data import load_data
from assay.data.outliers import noise
from assay.models import CNN
from assay.ood import KNN, ODIN, FittedDetector, GradNorm, Mahalanobis, detectors

REFERENCE = 50_000
BATCH = 256
MOST, LEAST, FIT = 1.3, 0.8, 1.0
"""Over the forward passes; of the rate of a bare search; seconds for 50,000 × 512."""


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def pytorch_ood() -> Any:
    """Return its detectors; its models and data sets, which want torchvision, are left out."""
    parts = ("torchvision", "torchvision.transforms")
    for part in (*parts, *(f"pytorch_ood.{room}" for room in ("model", "dataset", "loss"))):
        sys.modules[part] = MagicMock()
    import pytorch_ood.detector

    return pytorch_ood.detector


def reference(e: Embedding, n: int) -> Embedding:
    """Return n rows like those of an embedding."""
    assert e.features is not None
    assert e.head is not None
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(0, len(e), (n,), generator=draw)
    moved = torch.rand(n, e.features.shape[1], generator=draw)
    h = e.features[rows] * (0.9 + 0.2 * moved)
    y = torch.randint(0, 10, (n,), generator=draw)
    return Embedding(e.head(h), h, head=e.head, y=y)


def whole(images: int) -> tuple[dict[str, Any], Embedding, Embedding]:
    """Time the passes alone, then one embedding that all detectors score."""
    inside = load_data("cifar10", split="test", cache=DATA).take(images)[0]
    outside = noise("uniform", (3, 32, 32), images).take(images)[0]
    net = CNN(depths=(3, 3, 3), widths=(16, 32, 64), skip=True, norm="batch", stage_stride=2)
    clf = Classifier(net.build((3, 32, 32), 10, Stream(0)).eval(), batch_size=BATCH)
    every = [kind() for kind in detectors().values()]
    plain = [d for d in every if d.reads() <= {"logits", "features", "head"}]

    def passes() -> None:
        with torch.no_grad():
            for x in (inside, outside):
                for part in x.split(BATCH):
                    clf.model(part)

    clf.query(inside[:BATCH])
    made: list[Embedding] = []

    def embed() -> None:
        made[:] = [clf.embed(x, readers=plain) for x in (inside, outside)]

    both = [(seconds(passes), seconds(embed)) for _ in range(2)]  # in turn: others work beside
    alone, embedding = (min(times) for times in zip(*both, strict=True))
    train = reference(made[0], REFERENCE)
    held = reference(made[1], 2000)
    fitted: dict[str, FittedDetector] = {}
    fits, scores = {}, {}
    for one in plain:  # all are kept, as a study keeps them: a rank average finds KNN's search
        fits[one.name] = seconds(
            lambda: fitted.update({one.name: one.fit(train, calibrate=held)})  # noqa: B023
        )
        scores[one.name] = seconds(lambda: [fitted[one.name].score(e) for e in made])  # noqa: B023
    total = embedding + sum(scores.values())
    apart = {}
    for detector in (ODIN(), GradNorm()):
        few = [e.rows(slice(0, images // 10)) for e in made]
        apart[detector.name] = 10 * seconds(lambda: [detector.fit(e).score(e) for e in few])  # noqa: B023
    found = {
        "images": 2 * images,
        "detectors": len(plain),
        "passes alone": alone,
        "embedding": embedding,
        "scores": scores,
        "fits": fits,
        "times the passes": total / alone,
        "shares of the passes": {
            name: value / alone for name, value in {"embedding": embedding, **scores}.items()
        },
        "by gradient, times the passes": {name: value / alone for name, value in apart.items()},
    }
    return found, made[0], train


def beside(e: Embedding, train: Embedding, theirs: Any) -> dict[str, Any]:
    """Time fitting and scoring where pytorch-ood has the same method, on the same features."""
    h, y, head = train.features, train.y, train.head
    assert h is not None
    assert head is not None
    linear = torch.nn.Linear(h.shape[1], 10).requires_grad_(False)
    linear.weight.copy_(head.weight)
    linear.bias.copy_(head.bias)
    names = {
        "max-softmax": lambda: theirs.MaxSoftmax(None),
        "energy": lambda: theirs.EnergyBased(None),
        "gen": lambda: theirs.GEN(None),
        "mahalanobis": lambda: theirs.Mahalanobis(None),
        "relative-mahalanobis": lambda: theirs.RMD(None),
        "knn": lambda: theirs.KNN(None),
        "nnguide": lambda: theirs.NNGuide(None, linear),
        "vim": lambda: theirs.ViM(None, 32, head.weight, head.bias),
        "fdbd": lambda: theirs.fDBD(None, linear),
        "dice": lambda: theirs.DICE(None, head.weight, head.bias, 0.9),
    }
    known, found = detectors(), {}
    for name, make in names.items():
        ours, other = known[name].parse({}), make()
        fitted: list[Any] = []
        of_logits = name in ("max-softmax", "energy", "gen")
        read = other.predict_logits if of_logits else other.predict_features
        row = {
            "fit": seconds(lambda: fitted.append(ours.fit(train))),  # noqa: B023
            "score": seconds(lambda: fitted[0].score(e)),  # noqa: B023
            "their fit": 0.0 if of_logits else seconds(lambda: other.fit_features(h, y)),  # noqa: B023
            "their score": seconds(lambda: read(e.logits if of_logits else e.features)),  # noqa: B023
        }
        found[name] = row
    return found


def drawn(n: int, width: int) -> Embedding:
    draw = torch.Generator().manual_seed(width)
    h = torch.randn(n, width, generator=draw).abs_()
    head = Head(torch.randn(10, width, generator=draw), torch.zeros(10))
    return Embedding(head(h), h, head=head, y=torch.arange(n) % 10)


def neighbours(queries: int, rounds: int = 3) -> dict[str, Any]:
    """Time KNN against the matrix product and top-k alone, in the parts that are fastest for it."""
    found = {}
    for width in (64, 128, 512):
        train, e = drawn(REFERENCE, width), drawn(queries, width)
        fitted = KNN().fit(train)
        bank, h = fitted.state["bank"], torch.nn.functional.normalize(e.features, dim=1)

        def bare(size: int, bank: Tensor = bank, h: Tensor = h) -> None:
            for part in h.split(size):
                (part @ bank.mT).topk(50, dim=1)

        # features of its own each time: what was found of some is not looked for again
        fresh = [replace(e, features=e.features.clone()) for _ in range(rounds)]
        ours = min(seconds(lambda: fitted.score(one)) for one in fresh)  # noqa: B023
        alone = {size: seconds(lambda: bare(size)) for size in (128, 256, 512, 1024)}  # noqa: B023
        best = min(alone, key=lambda size: alone[size])
        alone[best] = min(alone[best], *(seconds(lambda: bare(best)) for _ in range(rounds - 1)))  # noqa: B023
        found[str(width)] = {"ours": ours, "bare": alone, "rate": min(alone.values()) / ours}
    big = drawn(20_000, 64)
    fitted = KNN().fit(drawn(REFERENCE, 64))
    grown = peak_of(lambda: fitted.score(big))
    return {"widths": found, "peak of 20,000 queries, MB": None if not grown else grown / 1e6}


def gaussian(theirs: Any) -> dict[str, Any]:
    """Time the fit of a Mahalanobis distance on 50,000 × 512."""
    train = drawn(REFERENCE, 512)
    other = theirs.Mahalanobis(None)
    ours: list[float] = []
    others: list[float] = []
    for _ in range(3):
        ours.append(seconds(lambda: Mahalanobis().fit(train)))
        others.append(seconds(lambda: other.fit_features(train.features, train.y)))
    return {"ours": min(ours), "pytorch-ood": min(others)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000, help="inliers, and outliers")
    parser.add_argument("--queries", type=int, default=5000, help="rows that look for neighbours")
    parser.add_argument("--only", nargs="+", choices=("whole", "neighbours", "gaussian"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    theirs, parts = pytorch_ood(), asked.only or ["whole", "neighbours", "gaussian"]
    found: dict[str, Any] = {"torch": torch.__version__, "machine": platform.processor()}
    if "whole" in parts:
        found["whole"], e, train = whole(asked.images)
        found["beside pytorch-ood"] = beside(e, train, theirs)
        print(f"all, over the passes: {found['whole']['times the passes']:.2f} (at most {MOST})")
    if "neighbours" in parts:
        found["neighbours"] = neighbours(asked.queries)
        for width, row in found["neighbours"]["widths"].items():
            print(f"knn at {width} features: {row['rate']:.2f} of the bare rate (at least {LEAST})")
    if "gaussian" in parts:
        found["gaussian"] = gaussian(theirs)
        print(f"mahalanobis, 50,000 × 512: {found['gaussian']['ours']:.2f} s (less than {FIT})")
    OUT.mkdir(exist_ok=True)
    (OUT / "ood.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
