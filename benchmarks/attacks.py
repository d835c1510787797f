"""PGD-20 at 8/255 on a trained ResNet-20: assay against torchattacks, foolbox and ART.

All in one process, on the same correctly classified CIFAR-10 test images, with the same step size,
taking turns over several rounds; the best round of each counts, since noise only slows down.
Success is judged for everybody by the same float32 model. `of bare` is how much of the time
the evaluations alone would have taken (gradients on the fast copy, clean predictions and
confirmations on the original, each in the batches that suit it best) over the time it took: the
median over rounds, in each of which the evaluations alone are timed just before.

    python benchmarks/attacks.py                  # what is published: 2 threads, 512 images
    python benchmarks/attacks.py --images 64 --rounds 1 --no-memory

The network is trained once and kept in benchmarks/out/. CIFAR-10 is looked for in $ASSAY_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from nets import Normalised
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import assay
from assay.attacks import PGD, AttackResult
from assay.attacks.losses import cross_entropy
from assay.core.fast import fast_copy
from assay.core.oracle import gradient
from assay.core.random import Stream
from assay.models.cnn import CNN

OUT = Path(__file__).parent / "out"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
EPS, STEP, STEPS = 8 / 255, 2 / 255, 20
RESNET20 = CNN(
    depths=(3, 3, 3),
    widths=(16, 32, 64),
    skip=True,
    shortcut="pad",
    norm="batch",
    stage_stride=2,
    init="he",
)


def trained(epochs: int) -> assay.Classifier:
    """Return the ResNet-20, trained for `epochs` epochs on CIFAR-10 or read from benchmarks/out."""
    model = RESNET20.build((3, 32, 32), 10, Stream(0).child("init"))
    clf = assay.Classifier(model, mean=MEAN, std=STD, classes=[str(k) for k in range(10)])
    path = OUT / f"resnet20-{epochs}-epochs.safetensors"
    if not path.exists():
        from assay.train.fit import fit
        from assay.train.recipe import SGD, OneCycle, Recipe

        print(f"training a ResNet-20 for {epochs} epochs …", flush=True)
        recipe = Recipe(
            epochs=epochs,
            batch_size=128,
            optimizer=SGD(lr=0.2, nesterov=True, weight_decay=5e-4),
            schedule=OneCycle(),
            precision="float32",
            memory_format="channels_last",
            threads=torch.get_num_threads(),
        )
        train = assay.load_data("cifar10", split="train")
        fit(clf, train, None, recipe, stream=Stream(0).child("train"))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    model.load_state_dict(load_file(path))
    return clf


def peers(clf: assay.Classifier, batch: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return each peer that is installed: (x, y) → adversarial images."""
    model = Normalised(clf).eval()
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}

    def torchattacks_pgd() -> Callable[[Tensor, Tensor], Tensor]:
        import torchattacks

        return torchattacks.PGD(model, eps=EPS, alpha=STEP, steps=STEPS, random_start=True)

    def foolbox_pgd() -> Callable[[Tensor, Tensor], Tensor]:
        sys.modules.setdefault("foolbox.zoo", types.ModuleType("foolbox.zoo"))  # wants requests
        import foolbox

        method = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=True)
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return lambda x, y: method(wrapped, x, y, epsilons=EPS)[1]

    def art_pgd() -> Callable[[Tensor, Tensor], Tensor]:
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        wrapped = PyTorchClassifier(
            model,
            loss=nn.CrossEntropyLoss(),
            input_shape=(3, 32, 32),
            nb_classes=10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        method = ProjectedGradientDescentPyTorch(
            wrapped,
            eps=EPS,
            eps_step=STEP,
            max_iter=STEPS,
            num_random_init=1,
            batch_size=batch,
            verbose=False,
        )
        return lambda x, y: torch.from_numpy(method.generate(x.numpy(), y.numpy()))

    def batched(attack: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, y: torch.cat(
            [
                attack(a, b)
                for a, b in zip(torch.split(x, batch), torch.split(y, batch), strict=True)
            ]
        )

    for name, make in (
        ("torchattacks", torchattacks_pgd),
        ("foolbox", foolbox_pgd),
        ("ART", art_pgd),
    ):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = batched(make())
        except ImportError as error:
            print(f"{name} is not installed: {error}")
    return found


def bare(clf: assay.Classifier, fast: Any, x: Tensor) -> tuple[float, float]:
    """Return the rates, in images per second, of gradients on the fast copy and of forward passes
    on the original, in the fastest of three sizes of batch, with nothing around them."""
    y = torch.zeros(len(x), dtype=torch.long)

    def rate(ask: Callable[[Tensor], Any], size: int) -> float:
        part = x[:size].contiguous(memory_format=torch.channels_last)
        start = time.perf_counter()
        for _ in range(512 // size):
            ask(part)
        return len(part) * (512 // size) / (time.perf_counter() - start)

    def slope(part: Tensor) -> Any:
        return gradient(fast, part, y[: len(part)], cross_entropy)

    with clf.borrowed():
        sizes = (32, 64, 128)
        return max(rate(slope, size) for size in sizes), max(rate(clf.query, s) for s in sizes)


def speed(
    clf: assay.Classifier, x: Tensor, y: Tensor, rounds: int, batch: int, precisions: Sequence[Any]
) -> dict[str, dict[str, Any]]:
    """Return one entry per contender: images per second, success rate and, for ours, `of bare`."""
    attack = PGD(eps=EPS, steps=STEPS, step_size=STEP)
    ours = {
        f"assay, {stop}, {precision}": (stop, precision)
        for stop in ("fooled", "never")
        for precision in precisions
    }
    others = peers(clf, batch)
    copies = {precision: fast_copy(clf, x, precision)[0] for precision in precisions}
    shares: dict[str, list[float]] = {name: [] for name in ours}
    best: dict[str, float] = {}
    table: dict[str, Any] = {}
    for _ in range(rounds):
        for name, (stop, precision) in ours.items():
            gradients, forwards = bare(clf, copies[precision], x)
            start = time.perf_counter()
            result: AttackResult = attack(clf, x, y, stop=stop, precision=precision)
            seconds = time.perf_counter() - start
            used = result.evaluations
            least = used["gradient"] / gradients + used["forward"] / forwards
            shares[name].append(least / seconds)
            if seconds < best.get(name, float("inf")):
                best[name] = seconds
                table[name] = {
                    "success": float((clf.predict(result.adversarial) != y).float().mean()),
                    "evaluations": used,
                }
        for name, peer in others.items():
            start = time.perf_counter()
            adversarial = peer(x, y)
            seconds = time.perf_counter() - start
            if seconds < best.get(name, float("inf")):
                best[name] = seconds
                worst = float((adversarial - x).abs().max())
                assert worst <= EPS + 1e-5, f"{name} left the ball: {worst}"
                table[name] = {
                    "success": float((clf.predict(adversarial) != y).float().mean()),
                    "evaluations": {"gradient": len(x) * STEPS},
                }
    for name, seconds in best.items():
        table[name]["images_per_second"] = len(x) / seconds
    for name, of_bare in shares.items():
        table[name]["of_bare"] = median(of_bare)
    fastest = max((table[name]["images_per_second"] for name in others), default=float("nan"))
    for entry in table.values():
        entry["times_best_peer"] = entry["images_per_second"] / fastest
    return table


def peak(epochs: int, images: int, stop: Any) -> None:
    """Attack `images` images and print this process's peak memory in MB (run in a subprocess)."""
    clf = trained(epochs)
    x, y = assay.load_data("cifar10", split="test").take(images)
    PGD(eps=EPS, steps=2)(clf, x, y, stop=stop)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(epochs: int) -> dict[str, dict[str, float]]:
    """Return the peak memory in MB of attacking 1,000 and 10,000 images, and their ratio.

    Each is measured in a process of its own. The images and the result alone are 245 MB for
    10,000, and importing torch takes about 300 MB.
    """
    found: dict[str, dict[str, float]] = {}
    for stop in ("fooled", "never"):
        found[stop] = {}
        for images in (1000, 10_000):
            command = [sys.executable, __file__, "--peak", str(images), "--stop", stop]
            command += ["--epochs", str(epochs), "--threads", str(torch.get_num_threads())]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[stop][str(images)] = float(done.stdout.split()[-1])
        found[stop]["ratio"] = found[stop]["10000"] / found[stop]["1000"]
    return found


TARGETS = (
    ("fooled, best precision ≥ 6 × the best peer", ("fooled",), "times_best_peer", 6.0),
    ("never, float32 ≥ 1.25 × the best peer", ("never", "float32"), "times_best_peer", 1.25),
    ("never, bfloat16 ≥ 1.8 × the best peer", ("never", "bfloat16"), "times_best_peer", 1.8),
    ("always ≥ 0.85 of bare", (), "of_bare", 0.85),
)


def judged(report: dict[str, Any]) -> dict[str, bool]:
    """Return each target and whether it was met."""
    table = report["contenders"]
    peers = [entry for name, entry in table.items() if not name.startswith("assay")]
    strongest = max((entry["success"] for entry in peers), default=0.0)
    verdicts = {}
    for title, words, measure, least in TARGETS:
        chosen = [
            entry[measure]
            for name, entry in table.items()
            if name.startswith("assay") and all(word in name for word in words)
        ]
        if not chosen:  # bfloat16 was left out
            continue
        value = max(chosen) if measure == "times_best_peer" else min(chosen)
        verdicts[f"{title}: {value:.2f}"] = value >= least
    for name, entry in table.items():
        if name.startswith("assay"):
            verdicts[f"{name}: success {entry['success']:.3f} ≥ {strongest:.3f}"] = (
                entry["success"] >= strongest
            )
    if "memory" in report:
        for stop, found in report["memory"].items():
            title = f"{stop}, 10,000 images ≤ 1.5 × the memory of 1,000"
            verdicts[f"{title}: {found['ratio']:.2f}"] = found["ratio"] <= 1.5
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128, help="batch size of the peers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3, help="training, done once and kept")
    parser.add_argument("--float32", action="store_true", help="leave bfloat16 out")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--stop", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        peak(options.epochs, options.peak, options.stop)
        return
    clf = trained(options.epochs)
    x, y = assay.load_data("cifar10", split="test").take(3 * options.images)
    right = clf.predict(x) == y
    accuracy = float(right.float().mean())
    x, y = x[right][: options.images], y[right][: options.images]
    precisions = ("float32",) if options.float32 else ("float32", "bfloat16")
    report: dict[str, Any] = {
        "what": f"PGD-{STEPS}, eps 8/255, step 2/255, random start, ResNet-20 on CIFAR-10",
        "images": len(x),
        "clean_accuracy": accuracy,
        "rounds": options.rounds,
        "threads": options.threads,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "contenders": speed(clf, x, y, options.rounds, options.batch, precisions),
    }
    if not options.no_memory:
        report["memory"] = memory(options.epochs)
    report["targets"] = judged(report)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "attacks.json").write_text(json.dumps(report, indent=2) + "\n")
    show(report)


def show(report: dict[str, Any]) -> None:
    print(f"{report['what']}: {report['images']} images, {report['threads']} threads")
    print(f"{'':28s}{'images/s':>10s}{'× best peer':>13s}{'success':>9s}{'of bare':>9s}")
    rows = report["contenders"].items()
    for name, entry in sorted(rows, key=lambda row: -row[1]["images_per_second"]):
        share = f"{entry['of_bare']:9.2f}" if "of_bare" in entry else ""
        rate, times = entry["images_per_second"], entry["times_best_peer"]
        print(f"{name:28s}{rate:10.1f}{times:13.2f}{entry['success']:9.3f}{share}")
    if "memory" in report:
        for stop, found in report["memory"].items():
            few, many = found["1000"], found["10000"]
            print(f"peak memory, {stop}: {few:.0f} MB for 1,000 images, {many:.0f} MB for 10,000")
    for target, met in report["targets"].items():
        print(f"{'met   ' if met else 'MISSED'}  {target}")


if __name__ == "__main__":
    main()
