"""The trial that keeps what a frozen encoder makes of every text, layer by layer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from assay.config import Config, Threads
from assay.core.random import Stream
from assay.core.text_embedding import blocks
from assay.data.textset import TextSet
from assay.models.adaptation import Head
from assay.models.encoders import located
from assay.models.textnet import TextNetwork
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.texts import PARTS, part
from assay.tasks.train_text import check_unchanged
from assay.train.precision import computing

TASK = "text-features"
FILE = "features.safetensors"

Pooling = Literal["mean", "first"]
Layer = int | Literal["all"]
"""0 for the embeddings, then the blocks from 1; -1 for the last; all: side by side."""


class TextFeatures(Config):
    """An encoder, and the texts of which its features are kept."""

    VERSION = 1

    data: str = "rotten_tomatoes"
    """Data set: a name, a hub id, a folder or a file."""
    base: str = "minilm"
    """The encoder: minilm, a folder, or an id on the Hugging Face hub."""
    train_texts: int | None = Field(default=None, ge=10)
    """How many training texts, a stable random subset; none: all."""
    seeds: int | None = Field(default=None, ge=1)
    """So many seeds each draw their own `train_texts`, of which all are kept; none: one draws."""
    validation_texts: int | None = Field(default=None, ge=10)
    """How many validation texts, likewise; none: all."""
    test_texts: int | None = Field(default=None, ge=10)
    """How many test texts, likewise; none: all."""
    threads: Threads = 1
    """Threads computed with."""

    def trial(self, device: str, label: str) -> Trial:
        """Return the one trial: nothing in it is random."""
        short, base = Path(self.data).name, Path(self.base).name
        named = self.model_copy(update={"data": short, "base": base})
        return Trial(
            task=TASK,
            config=named.model_dump(mode="json", exclude_none=True),
            places={short: self.data, base: self.base},
            data={base: located(self.base).digest}
            | {f"{short}/{name}": self.part(name).fingerprint for name in PARTS},
            versions={"TextFeatures": self.VERSION},
            device=device,
            threads=self.threads,
            label=label,
        )

    def part(self, name: str) -> TextSet:
        """Return the texts of `train`, `validation` or `test`."""
        if name != "train":
            wanted = self.test_texts if name == "test" else self.validation_texts
            return part(self.data, name, wanted)
        if self.seeds is None or self.train_texts is None:
            return part(self.data, name, self.train_texts)
        drawn = {
            row
            for seed in range(self.seeds)
            for row in part(self.data, name, self.train_texts, seed).ids.tolist()
        }
        return part(self.data, name).subset(sorted(drawn))


def embed(trial: Trial, work: Workspace) -> Outcome:
    """Keep features.safetensors: float16 (N, D) by "split/layer/pooling", layer 0 that of the
    embeddings; labels and ids by "split/labels" and "split/ids".

    Metrics: layers, width, and n of each split. Timings: of each split.
    """
    config = TextFeatures.parse(trial.config, where="trial")
    config = config.model_copy(
        update={
            "data": trial.places.get(config.data, config.data),
            "base": trial.places.get(config.base, config.base),
        }
    )
    parts = {name: config.part(name) for name in PARTS}
    check_unchanged(trial, parts)
    network = TextNetwork(base=config.base, adaptation=Head())
    kept: dict[str, Tensor] = {}
    timings: dict[str, float] = {}
    with computing(config.threads):
        clf = network.classifier(parts["train"].classes, Stream(0), device=trial.device)
        layers = blocks(clf.model)
        wanted = {f"{name}:{kind}": (at, kind) for at, name in enumerate(layers) for kind in POOLS}
        for done, (name, texts) in enumerate(parts.items()):
            work.progress(done / len(parts), f"features of {len(texts):,} {name} texts")
            started = time.perf_counter()
            found = clf.embed(texts, layers=list(wanted))
            timings[name] = time.perf_counter() - started
            for layer, (at, kind) in wanted.items():
                kept[f"{name}/{at}/{kind}"] = found.layers[layer].half()
            kept[f"{name}/labels"] = texts.labels.clone()
            kept[f"{name}/ids"] = texts.ids.clone()
    save_file(kept, work.path(FILE))
    metrics = {
        "collapsed": False,
        "layers": len(layers),
        "width": int(kept["train/0/mean"].shape[1]),
        **{f"n_{name}": len(texts) for name, texts in parts.items()},
    }
    return Outcome(metrics, {}, timings)


POOLS: tuple[Pooling, ...] = ("mean", "first")


def read_features(path: Path, layer: Layer, pooling: Pooling) -> Mapping[str, dict[str, Tensor]]:
    """Return of each split `x` float32 (N, D), of all layers (N, layers · D), `y` int64 (N,) and
    `ids` int64 (N,)."""
    kept = load_file(path)
    count = 1 + max(int(name.split("/")[1]) for name in kept if name.count("/") == 2)
    some = range(count) if layer == "all" else (layer % count,)
    return {
        name: {
            "x": torch.cat([kept[f"{name}/{at}/{pooling}"].float() for at in some], dim=1),
            "y": kept[f"{name}/labels"],
            "ids": kept[f"{name}/ids"],
        }
        for name in PARTS
    }
