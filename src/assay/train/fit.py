"""The one training loop.

Everything random is drawn from the stream that is passed, by epoch and by the rows' own ids, so an
interrupted run resumes at its last epoch without any generator's state, and ends with the same
bytes as an undisturbed one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.source import Source
from assay.core.texts import TextClassifier
from assay.errors import AssayError
from assay.train.batches import measured
from assay.train.checkpoint import owner_of, read_checkpoint
from assay.train.evaluate import check_labels, check_recipe
from assay.train.guard import Adversary, Rivals, Watchman
from assay.train.history import History, describe
from assay.train.precision import computing
from assay.train.recipe import Recipe, Watch
from assay.train.training import Augment, Progress, Training
from assay.train.watch import Watcher


def fit(
    classifier: Classifier | TextClassifier,
    train: Source,
    validation: Source | None,
    recipe: Recipe,
    *,
    stream: Stream,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    augment: Augment | None = None,
    adversary: Adversary | None = None,
    rivals: Rivals | None = None,
    watch: Watch | None = None,
    trackers: Sequence[Any] = (),
) -> History:
    """Train `classifier.model` in place, on the device it is on, and return what happened.

    Images pass through `classifier.normalise`, so the network is trained on exactly what the
    classifier will feed it. The order of a batch is: augment, adversary, mixup, normalise, forward.
    Texts are trained on with those that are as long, batch for batch, so that there is hardly any
    padding; they can be augmented, but not mixed or watched.

    Under `torchrun` or `accelerate launch` several processes train together (see
    `assay.train.parallel`): each calls `fit` with the same arguments, on its own device, and has
    the same weights in the end. The first one reads and writes the checkpoint, for all, and tells
    the progress; where it cannot, all stop.

    Args:
        classifier: the network and its preprocessing; left in eval mode.
        train: labelled images; one that is in memory is permuted anew every epoch.
        validation: what early stopping goes by; never test data. None: no validation curves.
        recipe: without `auto` (see `assay.train.resolve`).
        stream: where every random draw comes from.
        checkpoint: a file to write after every epoch and to go on from where it exists.
        progress: called every 20 steps and after every epoch.
        augment: changes the images; drawn from `stream.child("augment", epoch)` by row id.
        adversary: attacks the images with the network in eval mode, its parameters frozen; drawn
            from `stream.child("adversary", epoch)` by row id. Each epoch has a shallow copy of it.
        rivals: what the recipe's guard looks at the training with.
        watch: measure losses, gradients, weights and activations at chosen steps.
        trackers: names or objects of accelerate's trackers, told the curves after every epoch.

    Raises:
        AssayError: for an empty training set, labels the network has no output for, an unresolved
            `auto`, a checkpoint that is another training's or cannot be written, or a guard where
            several processes train.
    """
    check_recipe(recipe, validation, rivals is not None)
    if isinstance(classifier, TextClassifier):
        if recipe.mixup or any(one is not None for one in (watch, adversary, rivals)):
            raise AssayError("mixup, an adversary and watch go with images, not with texts")
        train = measured(classifier, train)
    with computing(recipe.threads):
        check_labels(classifier, train, "training")
        if validation is not None:
            check_labels(classifier, validation, "validation")
        run = Training(classifier, recipe, stream, trackers)
        run.peers.check(recipe)
        if not run.peers.first:
            progress = None
        if isinstance(classifier, Classifier):
            if watch is not None:
                run.watcher = Watcher(watch, classifier, validation, run.history.looks)
            if recipe.guard is not None and rivals is not None and validation is not None:
                looks = stream.child("guard")
                run.watchman = Watchman(recipe.guard, rivals, classifier, validation, looks)

        def found() -> dict[str, Any] | None:
            if checkpoint is None:
                return None
            run.owner = owner_of(run.model, train, recipe, stream, augment, adversary)
            return read_checkpoint(checkpoint, run.owner) if checkpoint.exists() else None

        kept = run.peers.by_first(found)
        if kept is not None:
            run.restore(kept)
            run.good = kept.get("good")
        run.peers.share(run.model)
        run.remember()
        try:
            while run.wants_more():
                epoch = run.history.epochs + 1
                against = (
                    run.watchman.softened(adversary, run.history) if run.watchman else adversary
                )
                # a copy for each epoch: what it holds is then no more than a resumed one holds
                against = copy.copy(against)
                if not run.epoch(epoch, train, validation, augment, against, progress):
                    if run.go_back():
                        continue
                    break
                run.remember()
                run.peers.by_first(lambda: run.keep(checkpoint))
                if progress is not None:
                    loss = run.history.train_loss[-1]
                    note = describe(run.history, epoch, recipe.epochs, loss)
                    progress(epoch / recipe.epochs, note)
            run.finish()
            run.peers.share(run.model)
        finally:
            classifier.model.eval()
            # not accelerate's end_training, after which these processes could train nothing more
            for tracker in run.accelerator.trackers:
                tracker.finish()
    return run.history
