"""How strong: robust accuracy and distance, assay beside torchattacks, foolbox and ART.

Everybody attacks the same CIFAR-10 test images (those that the network gets right), with the same
settings, and the same float32 network judges what comes of it; peers get batches of 128. Where the
method allows, all start from the same points: FGSM, PGD, CW and DeepFool from the image itself,
APGD where ours starts. Square draws throughout, so there the mean of five seeds counts.

Budgets are small enough that some images remain robust. `difference` is ours less the strongest
peer's robust accuracy, image by image, and `bound` its one-sided 95 % bound: above 0 we are weaker.
Of CW and DeepFool, which are minimum-norm attacks, the median distance is compared too. `auto` has
no peer here: it must fool whatever anybody fools in the rows above. Seconds are processor time.

    python benchmarks/strength.py                                 # 1,000 images: an hour or more
    python benchmarks/strength.py --nets natural --images 200 --only FGSM DeepFool
    python benchmarks/strength.py --auto --nets robust --images 500    # half an hour

With --auto the cascade goes first, and all others attack only the images that remain robust:
whoever fools one of them is stronger there. It searches in bfloat16, with --float32 in float32,
which takes three times as long; the float32 network decides either way.

The networks are those of benchmarks/nets.py.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from unittest import mock

import nets
import torch
from torch import Tensor, nn

import assay
from assay.attacks import APGD, APGDT, FGSM, PGD, Attack, Auto, CarliniWagner, DeepFool, Square
from assay.core.random import Stream
from assay.core.threats import NormBall
from assay.data import load_data
from assay.stats import Estimate, paired_difference

NETS = ("natural", "robust")
NORMS = ("linf", "l2")
EPS = {
    "natural": {"linf": 1 / 255, "l2": 0.15},
    "robust": {"linf": 8 / 255, "l2": 0.5},
    "digits": {"linf": 0.1, "l2": 1.0},  # of the tests: a network on 28 × 28 pixels
}
BATCH = 128
QUERIES = 300
SEARCHES, STEPS, INITIAL_C = 5, 50, 0.1
Peer = Callable[[nn.Module, Tensor, Tensor, Tensor, int], Tensor]
"""(network, images, labels, their indices, seed) → adversarial images."""


@dataclass(frozen=True)
class Method:
    """An attack of ours, and the same one of others."""

    ours: Attack
    peers: Mapping[str, Peer]
    ball: NormBall
    """What counts as fooled; an attack that looks for the nearest image goes as far as it must."""
    seeds: int = 1


@dataclass(frozen=True)
class Outcome:
    """The result of one contender on n images, of which those that the network gets wrong are
    never robust.

    Attributes:
        standing: float64 (n,), in what share of the seeds the image remained robust.
        distance: float64 (n,), how far away it was fooled by the last seed; infinite if not.
        seconds: processor time, all seeds.
    """

    standing: Tensor
    distance: Tensor
    seconds: float

    @property
    def robust_accuracy(self) -> float:
        return float(self.standing.mean())

    @property
    def fooled(self) -> Tensor:
        """Which images were fooled with any seed, or were wrong to begin with: bool (n,)."""
        return self.standing < 1


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    attack: str
    net: str
    peer: str
    """The strongest of the peers."""
    ours: float
    """Robust accuracy, like `theirs`."""
    theirs: float
    difference: float
    bound: float
    missed: int
    """How many images the peer fools more often than we do."""
    seeds: int
    n: int
    our_seconds: float
    their_seconds: float
    our_distance: float | None = None
    """Median of the images that were right, for what looks for the nearest."""
    their_distance: float | None = None
    others: dict[str, float] = field(default_factory=dict)
    """Robust accuracy of each peer."""


def methods(kind: str) -> dict[str, Method]:
    """Return what is compared on a network of that kind, by name."""
    eps = EPS[kind]["linf"]
    linf, l2 = (NormBall(norm=norm, eps=EPS[kind][norm]) for norm in NORMS)

    def pgd(steps: int) -> Method:
        size = 2.5 * eps / steps
        ours = PGD(eps=eps, steps=steps, step_size=size, random_start=False)
        peers = {
            "torchattacks": torchattacks(
                "PGD", eps=eps, alpha=size, steps=steps, random_start=False
            ),
            "foolbox": foolbox("LinfPGD", eps, abs_stepsize=size, steps=steps, random_start=False),
        }
        return Method(ours, peers, linf)

    def apgd(loss: str) -> Method:
        ours = APGD.parse({"eps": eps, "loss": loss})
        return Method(ours, {"torchattacks": started("APGD", ours, steps=100, loss=loss)}, linf)

    targeted = APGDT(eps=eps, steps=20)
    cw = CarliniWagner(steps=STEPS, searches=SEARCHES, initial_c=INITIAL_C, abort_early=False)
    return {
        "FGSM": Method(
            FGSM(eps=eps),
            {
                "torchattacks": torchattacks("FGSM", eps=eps),
                "foolbox": foolbox("LinfFastGradientAttack", eps),
                "ART": art("FastGradientMethod", eps=eps, eps_step=eps),
            },
            linf,
        ),
        "PGD-20": pgd(20),
        "PGD-100": pgd(100),
        "APGD-CE": apgd("ce"),
        "APGD-DLR": apgd("dlr"),
        "APGD-T": Method(
            targeted, {"torchattacks": started("APGDT", targeted, steps=20, n_classes=10)}, linf
        ),
        "Square": Method(
            Square(eps=eps, queries=QUERIES), {"torchattacks": square(eps)}, linf, seeds=5
        ),
        "CW-L2": Method(
            cw,
            {
                "torchattacks": torchattacks("CW", c=1, steps=SEARCHES * STEPS),
                "foolbox": foolbox(
                    "L2CarliniWagnerAttack",
                    None,
                    binary_search_steps=SEARCHES,
                    steps=STEPS,
                    initial_const=INITIAL_C,
                ),
            },
            l2,
        ),
        "DeepFool": Method(
            DeepFool(),
            {
                "torchattacks": torchattacks("DeepFool"),
                "foolbox": foolbox("L2DeepFoolAttack", None),
            },
            l2,
        ),
    }


def torchattacks(name: str, **settings: Any) -> Peer:
    def attack(model: nn.Module, x: Tensor, y: Tensor, rows: Tensor, seed: int) -> Tensor:
        del rows, seed
        return getattr(importlib.import_module("torchattacks"), name)(model, **settings)(x, y)

    return attack


def started(name: str, ours: Attack, **settings: Any) -> Peer:
    """Return an APGD of torchattacks that starts where ours does. It scales its start so that one
    pixel is eps away, which stretches ours by a fraction of a thousandth."""
    drawn = torch.rand

    def attack(model: nn.Module, x: Tensor, y: Tensor, rows: Tensor, seed: int) -> Tensor:
        method = torchattacks(name, eps=ours.threat.eps, **settings)
        draws = Stream(seed).child("attack", ours.name).child(0).rows(rows)
        way = (ours.threat.random_start(x, draws) - x) / ours.threat.eps
        start = way / 2 + 0.5

        def rand(*shape: Any) -> Tensor:
            return start if tuple(*shape) == tuple(start.shape) else drawn(*shape)

        with mock.patch.object(torch, "rand", rand):
            return method(model, x, y, rows, seed)

    return attack


def square(eps: float) -> Peer:
    def attack(model: nn.Module, x: Tensor, y: Tensor, rows: Tensor, seed: int) -> Tensor:
        method = torchattacks("Square", eps=eps, n_queries=QUERIES, seed=1000 * seed + int(rows[0]))
        return method(model, x, y, rows, seed)

    return attack


def foolbox(name: str, eps: float | None, **settings: Any) -> Peer:
    def attack(model: nn.Module, x: Tensor, y: Tensor, rows: Tensor, seed: int) -> Tensor:
        del rows, seed
        sys.modules.setdefault("foolbox.zoo", types.ModuleType("foolbox.zoo"))  # wants requests
        library = importlib.import_module("foolbox")
        wrapped = library.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return getattr(library.attacks, name)(**settings)(wrapped, x, y, epsilons=eps)[1]

    return attack


def art(name: str, **settings: Any) -> Peer:
    def attack(model: nn.Module, x: Tensor, y: Tensor, rows: Tensor, seed: int) -> Tensor:
        del rows, seed
        estimators = importlib.import_module("art.estimators.classification")
        wrapped = estimators.PyTorchClassifier(
            model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        method = getattr(importlib.import_module("art.attacks.evasion"), name)(wrapped, **settings)
        return torch.from_numpy(method.generate(x.numpy(), y.numpy()))

    return attack


def by_us(clf: assay.Classifier, attack: Attack, precision: Any = "float32") -> Peer:
    """Return an attack of ours in the form of a peer. It stops early for images that are fooled,
    unless it is a minimum-norm attack."""
    stop: Any = "never" if attack.minimum_norm else "fooled"

    def attacked(model: nn.Module, x: Tensor, y: Tensor, rows: Tensor, seed: int) -> Tensor:
        del model
        settings = {"stop": stop, "seed": seed, "ids": rows, "precision": precision}
        return attack(clf, x, y, **settings).adversarial

    return attacked


def measure(
    clf: assay.Classifier, x: Tensor, y: Tensor, peer: Peer, ball: NormBall, seeds: int, batch: int
) -> Outcome:
    """Attack the images (n, C, H, W) that are classified as `y`, `batch` at a time."""
    model = nets.Normalised(clf).eval()
    right = (clf.predict(x) == y).nonzero()[:, 0]
    stood = torch.zeros(seeds, len(x), dtype=torch.float64)
    distance = torch.full((len(x),), torch.inf, dtype=torch.float64)
    seconds = 0.0
    for seed in range(seeds):
        start = time.process_time()
        with warnings.catch_warnings(), clf.borrowed():
            warnings.simplefilter("ignore")
            moved = [peer(model, x[part], y[part], part, seed) for part in right.split(batch)]
        seconds += time.process_time() - start
        adversarial = torch.cat(moved).detach()
        fooled = clf.predict(adversarial) != y[right]
        away = ball.distance(x[right], adversarial).double()
        distance[right] = away.masked_fill(~fooled, torch.inf)
        stood[seed, right] = (~(fooled & ball.contains(x[right], adversarial))).double()
    return Outcome(stood.mean(0), distance, seconds)


def measured(
    clf: assay.Classifier, x: Tensor, y: Tensor, method: Method
) -> tuple[Outcome, dict[str, Outcome]]:
    """Return what ours comes to, and what each peer that is installed does."""
    theirs = {}
    for name, peer in method.peers.items():
        try:
            theirs[name] = measure(clf, x, y, peer, method.ball, method.seeds, BATCH)
        except ImportError as error:
            print(f"{name} is not installed: {error}")
    ours = measure(clf, x, y, by_us(clf, method.ours), method.ball, method.seeds, len(x))
    return ours, theirs


def more_standing(ours: Outcome, theirs: Outcome) -> Estimate:
    """Return how many more images remain robust under ours: `high` is the one-sided 95 % bound.

    Two images at least are taken to differ (as Bonett & Price 2012 do), since none that does is no
    proof that none would.
    """
    n = len(ours.standing)
    return paired_difference(
        ours.standing, theirs.standing, of="images", level=0.9, floor_variance=2 / n
    )


def row(name: str, kind: str, method: Method, ours: Outcome, theirs: dict[str, Outcome]) -> Row:
    """Return the line of a method: ours beside the strongest of its peers, which is the one with
    the smaller distances where those are what is looked for."""
    near = method.ours.minimum_norm

    def strength(outcome: Outcome) -> float:
        return median(outcome) if near else outcome.robust_accuracy

    peer = min(theirs, key=lambda name: strength(theirs[name]))
    strongest = theirs[peer]
    lead = more_standing(ours, strongest)
    return Row(
        attack=name,
        net=kind,
        peer=peer,
        ours=ours.robust_accuracy,
        theirs=strongest.robust_accuracy,
        difference=lead.value,
        bound=lead.high,
        missed=int((ours.standing > strongest.standing).sum()),
        seeds=method.seeds,
        n=lead.n,
        our_seconds=ours.seconds,
        their_seconds=strongest.seconds,
        our_distance=median(ours) if near else None,
        their_distance=median(strongest) if near else None,
        others={name: outcome.robust_accuracy for name, outcome in theirs.items()},
    )


def median(outcome: Outcome) -> float:
    """Return the median distance of the images that were attacked; infinite if half are robust."""
    attacked = (outcome.standing > 0) | outcome.distance.isfinite()
    return float(outcome.distance[attacked].quantile(0.5, interpolation="lower"))


def auto(kind: str, norm: str) -> Method:
    """Return the cascade in that norm; its peers are all the rows above."""
    ball = NormBall.parse({"norm": norm, "eps": EPS[kind][norm]})
    return Method(Auto.parse(ball.model_dump()), {}, ball)


def union(outcomes: list[Outcome]) -> Outcome:
    """Return the result of all of them together: an image is robust if it is so under each of them,
    with every seed."""
    fooled = torch.stack([outcome.fooled for outcome in outcomes]).any(0)
    distance = torch.stack([outcome.distance for outcome in outcomes]).amin(0)
    return Outcome((~fooled).double(), distance, sum(outcome.seconds for outcome in outcomes))


def left_by_auto(kind: str, norm: str, x: Tensor, y: Tensor, precision: str) -> dict[str, Any]:
    """Return how many images remain robust under the cascade, and how many of them each of the
    others fools, with any seed: none should."""
    clf, method = nets.classifier(kind), auto(kind, norm)
    ours = measure(clf, x, y, by_us(clf, method.ours, precision), method.ball, 1, len(x))
    stands = ours.standing == 1
    found: dict[str, Any] = {
        "net": kind,
        "norm": norm,
        "precision": precision,
        "n": len(x),
        "clean_accuracy": float((clf.predict(x) == y).float().mean()),
        "robust_accuracy": ours.robust_accuracy,
        "standing": int(stands.sum()),
        "seconds": ours.seconds,
        "fooled_by": {},
    }
    print(json.dumps(found), flush=True)
    for name, other in methods(kind).items():
        if other.ball.norm == norm:
            mine, theirs = measured(clf, x[stands], y[stands], other)
            for who, outcome in {"assay": mine, **theirs}.items():
                fooled = int((outcome.fooled & (outcome.distance <= method.ball.eps)).sum())
                found["fooled_by"][f"{name}, {who}"] = fooled
                print(f"  {name}, {who}: {fooled} of {found['standing']}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", default=NETS, choices=NETS)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--norms", nargs="+", default=NORMS, choices=NORMS, help="of --auto")
    parser.add_argument("--only", nargs="+", help="names of methods; auto is left out then")
    parser.add_argument(
        "--auto", action="store_true", help="the others attack what auto did not fool"
    )
    parser.add_argument("--float32", action="store_true", help="auto searches in float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, y = load_data(nets.DATA, split="test").take(options.images)
    nets.OUT.mkdir(exist_ok=True)
    if options.auto:
        precision = "float32" if options.float32 else "bfloat16"
        for kind in options.nets:
            for norm in options.norms:
                found = left_by_auto(kind, norm, x, y, precision)
                path = nets.OUT / f"auto-{kind}-{norm}.json"
                path.write_text(json.dumps(found, indent=1) + "\n")
        return
    rows: list[Row] = []
    print(HEAD)
    for kind in options.nets:
        clf, seen = nets.classifier(kind), {"linf": [], "l2": []}
        for name, method in methods(kind).items():
            if options.only is None or name in options.only:
                ours, theirs = measured(clf, x, y, method)
                seen[method.ball.norm] += [ours, *theirs.values()]
                rows.append(row(name, kind, method, ours, theirs))
                print(line(rows[-1]), flush=True)
        for norm in () if options.only else seen:
            method, together = auto(kind, norm), {"all above": union(seen[norm])}
            ours, _ = measured(clf, x, y, method)
            rows.append(row(f"auto, {norm}", kind, method, ours, together))
            print(line(rows[-1]), flush=True)
    (nets.OUT / "strength.json").write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")


HEAD = (
    f"{'attack':12s}{'network':9s}{'ours':>7s}{'theirs':>8s}  {'strongest':13s}{'difference':>10s}"
    f"{'bound':>8s}{'missed':>8s}{'median distance':>17s}{'n':>6s}{'seeds':>6s}{'seconds':>11s}"
)


def line(row: Row) -> str:
    distance = ""
    if row.our_distance is not None and row.their_distance is not None:
        distance = f"{row.our_distance:.4f}/{row.their_distance:.4f}"
    seconds = f"{row.our_seconds:.0f}/{row.their_seconds:.0f}"
    return (
        f"{row.attack:12s}{row.net:9s}{row.ours:7.1%}{row.theirs:8.1%}  {row.peer:13s}"
        f"{row.difference:+10.2%}{row.bound:+8.2%}{row.missed:8d}{distance:>17s}{row.n:6d}"
        f"{row.seeds:6d}{seconds:>11s}"
    )


if __name__ == "__main__":
    main()
