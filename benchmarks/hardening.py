"""What hardening costs: an epoch of each recipe over a natural one, our loop against a loop of
PyTorch alone, and randomized smoothing over the bare forward passes.

    python benchmarks/hardening.py [--rounds 3] [--images 1024] [--precision bfloat16]
                                   [--layout contiguous] [--recipes N-FGSM]

Seconds are of the processor, since a machine may be shared; each figure is the least of the rounds,
which take turns. Images are noise of CIFAR-10's shape: what is computed does not depend on them.
The plain loop keeps averaged weights as ours does; with `--precision bfloat16` both compute by
autocast; `--layout` says how the plain one's images lie: contiguous in the papers' repositories.
It has a process of its own, where malloc is as it comes. What is made once per training is
counted in.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import assay
from assay.attacks import PGD
from assay.certify import Smoothing
from assay.core.fast import Precision, fast_copy
from assay.core.random import Stream
from assay.core.source import TensorSource
from assay.models import CNN
from assay.tasks.adversaries import NFGSM, against
from assay.train import SGD, Recipe, Trades
from assay.train.fit import fit
from assay.train.precision import FORMATS

OUT = Path(__file__).parent / "out"
EPS, STEP, STEPS = 8 / 255, 2 / 255, 7
SIZE, DRAWS = 128, 1000
LIMITS = {"N-FGSM": 1.9, "PGD-7": 0.75 * STEPS + 1.2, "TRADES-7": 0.75 * STEPS + 2.2}
RATE = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


def network(layout: str = "channels_last") -> nn.Module:
    """Return the network of the recipes `robust` and `fast-robust`, untrained."""
    config = CNN(
        depths=(2, 2),
        widths=(32, 64),
        skip=True,
        norm="batch",
        init="he",
        stem_stride=2,
        stage_stride=2,
    )
    model = config.build((3, 32, 32), 10, Stream(0))
    return model.to(memory_format=FORMATS[layout])  # type: ignore[call-overload, no-any-return]


def images(count: int) -> tuple[Tensor, Tensor]:
    """Return noise and labels."""
    generator = Stream(1).torch()
    return (
        torch.rand(count, 3, 32, 32, generator=generator),
        torch.randint(0, 10, (count,), generator=generator),
    )


def ours(name: str, x: Tensor, y: Tensor, precision: Precision) -> Callable[[], None]:
    """Return an epoch by `fit`."""
    attack = {
        "natural": None,
        "N-FGSM": NFGSM(eps=EPS),
        "PGD-7": PGD(eps=EPS, steps=STEPS, step_size=STEP),
        "TRADES-7": PGD(eps=EPS, steps=STEPS, step_size=STEP),
    }[name]
    recipe = Recipe(
        epochs=1, batch_size=SIZE, optimizer=SGD(**RATE), ema=0.995, precision=precision
    )
    if name.startswith("TRADES"):
        recipe = recipe.model_copy(update={"loss": Trades()})

    def epoch() -> None:
        clf = assay.Classifier(network(), mean=(0.5,) * 3, std=(0.25,) * 3, classes="0123456789")
        fit(
            clf,
            TensorSource(x, y),
            None,
            recipe,
            stream=Stream(2),
            adversary=against(attack, recipe),
        )

    return epoch


def plain(name: str, x: Tensor, y: Tensor, precision: Precision, layout: str) -> Callable[[], None]:
    """Return the same epoch as papers' repositories write it, by PyTorch alone."""

    def normalised(x: Tensor) -> Tensor:
        return (x - 0.5) / 0.25

    def logits(model: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            answer: Tensor = model(normalised(x))
        return answer.float()

    def slope(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        x = x.detach().requires_grad_(True)
        (found,) = torch.autograd.grad(loss(logits(model, x)), x)
        return found

    def epoch() -> None:
        model = network(layout)
        optimizer = torch.optim.SGD(model.parameters(), **RATE)
        averaged = {key: value.clone() for key, value in model.state_dict().items()}
        for rows in torch.randperm(len(x)).split(SIZE):
            clean = x[rows].to(memory_format=FORMATS[layout])
            target, adv = y[rows], clean
            if name == "N-FGSM":
                model.train()
                start = (clean + torch.empty_like(clean).uniform_(-2 * EPS, 2 * EPS)).clamp(0, 1)
                up = slope(model, start, lambda z, t=target: F.cross_entropy(z, t))
                adv = (start + EPS * up.sign()).clamp(0, 1)
            elif name != "natural":
                model.eval()
                with torch.no_grad():
                    p = logits(model, clean).softmax(1)
                adv = (clean + torch.empty_like(clean).uniform_(-EPS, EPS)).clamp(0, 1)
                for _ in range(STEPS):
                    if name.startswith("TRADES"):
                        up = slope(
                            model,
                            adv,
                            lambda z, p=p: F.kl_div(z.log_softmax(1), p, reduction="sum"),
                        )
                    else:
                        up = slope(model, adv, lambda z, t=target: F.cross_entropy(z, t))
                    adv = adv + STEP * up.sign()
                    adv = torch.min(torch.max(adv, clean - EPS), clean + EPS).clamp(0, 1)
            model.train()
            optimizer.zero_grad()
            if name.startswith("TRADES"):
                one, other = logits(model, clean), logits(model, adv.detach())
                moved = F.kl_div(other.log_softmax(1), one.softmax(1), reduction="batchmean")
                loss = F.cross_entropy(one, target) + 6 * moved
            else:
                loss = F.cross_entropy(logits(model, adv.detach()), target)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for key, value in model.state_dict().items():
                    if value.is_floating_point():
                        averaged[key].mul_(0.995).add_(value, alpha=0.005)

    return epoch


def smoothed(x: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return smoothing of four images, and the bare forward passes that it takes."""
    clf = assay.Classifier(network(), mean=(0.5,) * 3, std=(0.25,) * 3, classes="0123456789")
    copy, _ = fast_copy(clf, x[:8])
    few, batch = x[:4], x[:SIZE]
    smoothing = Smoothing(draws=DRAWS, selection=24)

    def bare() -> None:
        for _ in range(len(few) * (DRAWS + 24) // SIZE):
            copy.query(batch)

    return lambda: smoothing(clf, few), bare


def seconds_of(task: Callable[[], None]) -> float:
    """Return the processor seconds of a task."""
    start = time.process_time()
    task()
    return time.process_time() - start


def seconds_of_plain(name: str, count: int, precision: Precision, layout: str) -> float:
    """Return those of an epoch of a plain loop; called in a process of its own."""
    torch.set_num_threads(1)
    return seconds_of(plain(name, *images(count), precision, layout))


def asked(apart: ProcessPoolExecutor, case: tuple[str, int, Precision, str]) -> float:
    """Return the seconds of a plain loop, from the process that is set apart for it."""
    return apart.submit(seconds_of_plain, *case).result()


def least(tasks: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the least seconds of each task, which take turns."""
    found = dict.fromkeys(tasks, float("inf"))
    for _ in range(rounds):
        for name, task in tasks.items():
            found[name] = min(found[name], task())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--layout", choices=tuple(FORMATS), default="channels_last")
    parser.add_argument("--recipes", nargs="*", choices=tuple(LIMITS), default=tuple(LIMITS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = images(args.images)
    names = ("natural", *args.recipes)
    own = {f"ours {name}": ours(name, x, y, args.precision) for name in names}
    own["smoothing"], own["forward"] = smoothed(x)
    tasks: dict[str, Callable[[], float]] = {
        name: partial(seconds_of, task) for name, task in own.items()
    }
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        for name in names:
            case = (name, args.images, args.precision, args.layout)
            tasks[f"plain {name}"] = partial(asked, apart, case)
        seconds = least(tasks, args.rounds)
    print(
        f"torch {torch.__version__}, {args.precision}, 1 thread, {args.images} images, "
        f"{args.rounds} rounds; plain is {args.layout}"
    )
    print(
        f"{'recipe':10} {'seconds':>8} {'x natural':>10} {'at most':>8} {'x faster than plain':>20}"
    )
    for name in names:
        own, other = seconds[f"ours {name}"], seconds[f"plain {name}"]
        limit = f"{LIMITS[name]:.2f}" if name in LIMITS else ""
        over = own / seconds["ours natural"]
        print(f"{name:10} {own:8.2f} {over:10.2f} {limit:>8} {other / own:8.2f}")
    rate = seconds["forward"] / seconds["smoothing"]
    print(f"smoothing: {rate:.2f} of the rate of bare forward passes (at least 0.90)")
    OUT.mkdir(exist_ok=True)
    (OUT / f"hardening-{args.precision}-{args.layout}.json").write_text(
        json.dumps(seconds, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
