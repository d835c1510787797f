"""How much memory a set in shards takes: 200,000 synthetic images through PGD-1 and all detectors
that read logits, one shard after another in one process.

Digits moved by up to two pixels with noise on them, 28×28, kept as .npz; the network is
`tests/networks/robust.safetensors`. The resident memory of the process that computes, and of the
one that joins, is read every half second and drawn over the images done.

    python benchmarks/shards.py memory                   # writes out/shards.json and out/shards.svg
    python benchmarks/shards.py memory --images 20000
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from assay.attacks import PGD
from assay.data import load_data
from assay.inputs import Inputs
from assay.ood.registry import detectors
from assay.runs.environment import surroundings
from assay.workflows import attack_shards, detect_shards
from assay.workflows.detect import DetectConfig
from assay.workflows.shards import Spread

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(__file__).parent / "out"
MODEL = ROOT / "tests" / "networks" / "robust.safetensors"
EVERY = 0.5  # seconds between two looks at the memory


def make(folder: Path, images: int, each: int) -> None:
    """Write shards of `each` images: moved and noisy digits."""
    digits = load_data("digits", split="test")
    whole, labels = digits.images[:, 0].numpy(), digits.labels.numpy()
    for shard in range(images // each):
        draw = np.random.default_rng(shard)
        rows = draw.integers(0, len(whole), each)
        moved = np.zeros((each, 28, 28), np.int16)
        for place, (row, (dy, dx)) in enumerate(
            zip(rows, draw.integers(-2, 3, (each, 2)), strict=True)
        ):
            moved[place] = np.roll(whole[row], (dy, dx), (0, 1))
        noisy = np.clip(moved + draw.integers(-16, 17, moved.shape), 0, 255).astype(np.uint8)
        np.savez(folder / f"test-{shard:05d}.npz", images=noisy, labels=labels[rows])


def logit_detectors() -> list[str]:
    """Return the detectors that need nothing but logits, rank averages of some included."""
    return [name for name, kind in detectors().items() if kind.needs == frozenset({"logits"})]


class Watch:
    """Reads the resident memory of this process and of its children, until it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: list[tuple[float, int, float, float]] = []  # seconds, shards, MB here, MB there
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        begun = time.monotonic()
        while not self.ended.wait(EVERY):
            done = len(list(self.folder.glob("trials/*/record.json")))
            theirs = [resident(pid) for pid in children()]
            self.read.append(
                (time.monotonic() - begun, done, resident(os.getpid()), max(theirs, default=0.0))
            )


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB; 0 where it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def children() -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def measured(work: Callable[[Path], int], folder: Path, images: int) -> dict[str, Any]:
    """Return time and memory of a command over all shards, and of giving it again."""
    begun = time.perf_counter()
    with Watch(folder) as watch:
        assert work(folder) == 0
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    assert work(folder) == 0
    again = time.perf_counter() - begun
    records = [json.loads(path.read_text()) for path in folder.glob("trials/*/record.json")]
    records.sort(key=lambda record: record["started"])
    curve = [(s, done, here, there) for s, done, here, there in watch.read if there > 0]
    half = [row for row in curve if row[1] >= max(row[1] for row in curve) / 2]
    early = [row for row in curve if 1 <= row[1] < max(row[1] for row in curve) / 2]
    return {
        "images": images,
        "shards": len(records),
        "seconds": seconds,
        "again_s": again,
        "images_per_s": images / sum(record["seconds"] for record in records),
        "first_half_mb": max((row[3] for row in early), default=0.0),
        "second_half_mb": max((row[3] for row in half), default=0.0),
        "joining_mb": max(row[2] for row in watch.read),
        "peak_mb_by_shard": [round(record["peak_memory"] / 2**20) for record in records],
        "curve": curve,
    }


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the memory of the computing process over time, and how far the set had come."""
    figure, axes = plt.subplots(figsize=(7, 3))
    for name, one in found.items():
        seconds = [row[0] for row in one["curve"]]
        axes.plot(seconds, [row[3] for row in one["curve"]], label=name)
    whole = next(iter(found.values()))["images"] * 28 * 28 * 4 / 2**20
    axes.axhline(whole, color="0.6", lw=1, ls=":")
    axes.text(0, whole, " the images alone, as float32", va="bottom", color="0.4", fontsize=8)
    axes.set(xlabel="seconds", ylabel="resident memory, MB", ylim=(0, None))
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)


def memory(images: int, each: int) -> dict[str, Any]:
    names = logit_detectors()
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        (root / "set").mkdir()
        make(root / "set", images, each)
        inputs = Inputs(model=str(MODEL), data="", threads=1)
        spread = Spread(workers=1)

        def attack(folder: Path) -> int:
            return attack_shards.run(
                PGD(eps=0.1, steps=1),
                inputs,
                str(root / "set"),
                folder,
                spread,
                targets=None,
                stop="never",
                attack_wrong=False,
                seed=0,
                precision="float32",
                query_budget=None,
                part=None,
                progress=True,
                quiet=False,
            )

        def detect(folder: Path) -> int:
            known = detectors()
            first, *also = (known[name].parse({"name": name}) for name in names)
            return detect_shards.run(
                inputs.model_copy(update={"data": "digits", "split": "train"}),
                DetectConfig(detector=first),
                also,
                str(root / "set"),
                folder,
                spread,
                split="test",
                lines="csv",
                progress=True,
                quiet=False,
            )

        return {
            "PGD-1": measured(attack, root / "attack", images),
            f"{len(names)} detectors": measured(detect, root / "detect", images),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", default="memory", choices=["memory"])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--each", type=int, default=10_000)
    given = parser.parse_args()
    found = memory(given.images, given.each)
    OUT.mkdir(exist_ok=True)
    draw(found, OUT / "shards.svg")
    (OUT / "shards.json").write_text(json.dumps({**found, "on": dict(surroundings())}, indent=2))
    for name, one in found.items():
        curve, one["curve"] = one["curve"], []
        print(name, json.dumps(one))
        for row in curve[:: max(1, len(curve) // 20)]:
            print(
                "  {:6.1f} s  {:3d} shards done  {:6.0f} MB joins  {:6.0f} MB computes".format(*row)
            )


if __name__ == "__main__":
    main()
