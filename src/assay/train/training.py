"""A training under way: what a checkpoint holds of it, and how to go one epoch further."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.source import Source
from assay.core.texts import TextClassifier
from assay.train.average import Average
from assay.train.batches import Batch, batches, grouped, steps_per_epoch
from assay.train.checkpoint import write_checkpoint
from assay.train.evaluate import check_range, evaluate
from assay.train.guard import Adversary, Watchman
from assay.train.history import History, describe
from assay.train.losses import Given, objective
from assay.train.mixup import mixup
from assay.train.optimizers import norm_biases, optimizer
from assay.train.parallel import Peers, check_device, several
from assay.train.precision import FORMATS, precise
from assay.train.recipe import Recipe
from assay.train.watch import Watcher

CHECK_EVERY = 20
"""Steps between two readings of the loss: each waits for the device."""

Progress = Callable[[float, str], None]
"""(share done in [0, 1], one line for people); an exception it raises ends the training."""

Augment = Callable[[Any, Rows], Any]
"""(x float32 (B, C, H, W) in [0, 1], or texts, one generator per row) → x of the same kind."""


class Training:
    """A training under way, and the weights that it would end with."""

    def __init__(
        self,
        classifier: Classifier | TextClassifier,
        recipe: Recipe,
        stream: Stream,
        trackers: Sequence[Any],
    ) -> None:
        self.classifier = classifier
        self.recipe = recipe
        self.stream = stream
        self.device = classifier.device
        self.classes = len(classifier.classes)
        self.layout = FORMATS[recipe.memory_format]
        self.model = classifier.model.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        # Precision is torch's autocast, not accelerate's: its state is one per process, so a second
        # training at another precision would be refused, and its wrapper would stay on the model.
        # The optimizer is not wrapped either: the wrapper searches the import path at every step.
        check_device(self.device)
        self.accelerator = Accelerator(
            device_placement=False,
            log_with=list(trackers) or None,
            cpu=several() and self.device.type == "cpu",  # or it would not join the others
        )
        self.peers = Peers(self.accelerator)
        self.optimizer = optimizer(recipe, self.parameters, norm_biases(self.model))
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.objective = objective(recipe, classifier)
        self.average = None if recipe.ema is None else Average(self.model, recipe.ema)
        self.watcher: Watcher | None = None
        self.watchman: Watchman | None = None
        self.good: dict[str, Any] | None = None
        self.collapse = ""
        self.owner = ""
        self.unseen = torch.zeros((), device=self.device)  # loss since the last reading, summed
        self.unseen_rows = 0
        if trackers:
            self.accelerator.init_trackers("assay", config={"recipe": recipe.canonical()})

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history.to_dict(),
            "best": self.best,
            "unseen": self.unseen,
            "unseen_rows": self.unseen_rows,
            "average": self.average and (self.average.weights, self.average.steps),
            "guarded": self.watchman and self.watchman.best,
        }

    def keep(self, checkpoint: Path | None) -> None:
        """Write what training can go on from."""
        if checkpoint is not None:
            kept = self.state() | {"good": None if self.sound() else self.good}
            write_checkpoint(checkpoint, kept, self.owner)

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = History.from_dict(state["history"])
        self.best = state["best"]
        self.unseen = state["unseen"].to(self.device)
        self.unseen_rows = state["unseen_rows"]
        if self.watcher is not None:
            self.watcher.looks = self.history.looks
        if self.average is not None:
            self.average.restore(*state["average"])
        if self.watchman is not None:
            self.watchman.best = tuple(state["guarded"])

    def remember(self) -> None:
        """Keep what training is to go back to where it collapses, if it is sound."""
        if self.watchman is not None and (self.good is None or self.sound()):
            self.good = copy.deepcopy(self.state())

    def sound(self) -> bool:
        """Return whether training is not on its way into a collapse."""
        return self.watchman is None or self.watchman.sound(self.history)

    def go_back(self) -> bool:
        """Return to the end of the last sound epoch after a collapse; False where there was none,
        or where training has returned often enough: it then ends with the weights of there."""
        if not self.collapse or self.watchman is None or self.good is None:
            return False
        said = [*self.history.collapses, self.collapse]
        self.restore(copy.deepcopy(self.good))
        self.history.collapses, self.collapse = said, ""
        if len(said) <= self.watchman.config.returns:
            return True
        if self.history.epochs:
            self.history.stopped_early = True
        else:
            self.history.diverged = said[-1]
        return False

    def collapsing(self, epoch: int) -> bool:
        """Look at the training; return whether it is to go back."""
        self.collapse = "" if self.watchman is None else self.watchman.look(self.history, epoch)
        return bool(self.collapse)

    def validated(self) -> AbstractContextManager[None]:
        """Hold the weights that are validated and kept: the averaged ones, where there are any."""
        return nullcontext() if self.average is None else self.average.used()

    def wants_more(self) -> bool:
        """Whether another epoch is due; notes in the history that patience ran out."""
        done, patience = self.history.epochs, self.recipe.patience
        self.history.stopped_early = (
            bool(patience)
            and done < self.recipe.epochs
            and done - self.history.best_epoch >= patience
        )
        return done < self.recipe.epochs and not self.history.stopped_early

    def finish(self) -> None:
        """Put the best weights back where the recipe stops early."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
            self.history.restored = True
        elif self.average is not None:
            self.model.load_state_dict(self.average.weights)

    def epoch(
        self,
        epoch: int,
        train: Source,
        validation: Source | None,
        augment: Augment | None,
        adversary: Adversary | None,
        progress: Progress | None,
    ) -> bool:
        """Train and validate once; return False where the loss diverged."""
        began = time.perf_counter()
        recipe, history = self.recipe, self.history
        steps = steps_per_epoch(train, recipe.batch_size, recipe.accumulate)
        loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        rows = step = 0
        lr = 0.0
        self.model.train()
        reader = batches(train, recipe.batch_size, self.stream.child("order", epoch))
        with self.peers.own(self.stream.child("dropout", epoch)).seeding(self.device):
            for group in grouped(reader, recipe.accumulate):
                lr = self.set_lr(epoch, step, steps)
                looking = self.looking(epoch, step, steps)
                if looking is not None:
                    looking.before(history.steps)
                for batch in group:
                    own = self.peers.part(batch)
                    if len(own[0]):
                        x, clean, y = self.prepare(own, epoch, augment, adversary)
                        draws = self.peers.own(self.stream.child("mixup", epoch, rows))
                        mixed, target = mixup(x, y, recipe.mixup, self.classes, draws)
                        done = (epoch - 1 + (step / steps if steps else 0.0)) / recipe.epochs
                        given = Given(mixed, clean, target, done)
                        part, logits = self.backward(given, sum(len(b[0]) for b in group))
                        loss += part
                        self.unseen += part
                        correct += (logits.argmax(1) == y).sum()
                    rows += len(batch[0])
                    self.unseen_rows += len(batch[0])
                self.peers.sum_gradients(self.parameters)
                if looking is not None:
                    looking.gradients()
                    seen = float(self.peers.summed(self.unseen)) / self.unseen_rows
                    history.looks.loss.append(seen)
                    self.unseen.zero_()
                    self.unseen_rows = 0
                self.step()
                step += 1
                history.steps += 1
                if step % CHECK_EVERY == 0:
                    so_far = float(self.peers.summed(loss))
                    if not math.isfinite(so_far):
                        return self.diverged(f"training loss is {so_far}", epoch, step)
                    if progress is not None:
                        done = (epoch - 1 + (step / steps if steps else 0.0)) / recipe.epochs
                        progress(done, describe(history, epoch, recipe.epochs, so_far / rows))
                if self.watchman and self.watchman.due(step, steps) and self.collapsing(epoch):
                    return False
        total = float(self.peers.summed(loss))
        if not math.isfinite(total):
            return self.diverged(f"training loss is {total}", epoch, step)
        curves = {
            "train_loss": total / rows,
            "train_accuracy": int(self.peers.summed(correct)) / rows,
            "lr": lr,
        }
        if self.collapsing(epoch):
            return False
        self.peers.share(self.model, weights=False)
        if validation is not None:
            with self.validated():
                curves["val_loss"], curves["val_accuracy"] = evaluate(
                    self.classifier, validation, recipe.loss
                )
                if self.watchman is not None:
                    curves["robust_accuracy"] = self.watchman.robust()
            curves = self.peers.of_first(curves)
            if not math.isfinite(curves["val_loss"]):
                return self.diverged(f"validation loss is {curves['val_loss']}", epoch, step)
        for name, value in curves.items():
            getattr(history, name).append(value)
        if validation is not None:
            self.note_best(epoch)
        history.seconds.append(time.perf_counter() - began)
        self.accelerator.log(history.latest(), step=epoch)
        return True

    def prepare(
        self, batch: Batch, epoch: int, augment: Augment | None, adversary: Adversary | None
    ) -> tuple[Any, Any, Tensor]:
        """Return what the network is trained on, images float32 in [0, 1] or texts, the same before
        it was attacked, and labels."""
        ids, x, y = batch
        check_range(y, self.classes, "training")
        y = y.to(self.device)
        if isinstance(x, list):
            draws = self.stream.child("augment", epoch).rows(ids)
            texts = x if augment is None else augment(x, draws)
            return texts, texts, y
        x = x.to(self.device)
        scale = 255.0 if x.dtype == torch.uint8 else 1.0
        x = x.to(torch.float32, memory_format=self.layout)
        x = x.div_(scale) if scale != 1.0 else x
        if augment is not None:
            x = augment(x, self.stream.child("augment", epoch).rows(ids).to(self.device))
        clean = x = x.detach().to(memory_format=self.layout)
        if adversary is not None:
            rng = self.stream.child("adversary", epoch).rows(ids).to(self.device)
            assert isinstance(self.classifier, Classifier)
            with self.classifier.borrowed():
                x = adversary(self.classifier, x, y, rng=rng)
        return x.detach().to(memory_format=self.layout), clean, y

    def looking(self, epoch: int, step: int, steps: int | None) -> Watcher | None:
        """Return the watcher of this step of this epoch, if it is measured."""
        watcher, last = self.watcher, epoch == self.recipe.epochs and step + 1 == steps
        due = watcher is not None and (watcher.due(self.history.steps) or last)
        return watcher if due else None

    def backward(self, given: Given, of: int) -> tuple[Tensor, Tensor]:
        """Add a batch's share of the mean gradient over `of` rows; return summed loss, logits."""
        loss, logits = self.objective(self.forward, given)
        # not accelerate's, which divides by what an environment variable says
        torch.autograd.backward(loss / of)
        return loss.detach(), logits.detach()

    def forward(self, x: Any) -> Tensor:
        """Return the logits of the network in training, float32 (B, K), in the recipe's format."""
        with precise(self.recipe.precision, self.device):
            return self.classifier.trained(x)

    def set_lr(self, epoch: int, step: int, steps: int | None) -> float:
        """Set the learning rate of this step; of the epoch, where its steps are not known."""
        now, total = epoch - 1, self.recipe.epochs
        if steps is not None:
            now, total = now * steps + step, total * steps
        lr = self.recipe.optimizer.lr * self.recipe.schedule.factor(now, total)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("faster", 1.0)
        return lr

    def step(self) -> None:
        if self.recipe.grad_clip:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.grad_clip)
        self.optimizer.step()
        for parameter in self.parameters:  # what zero_grad does, in a tenth of its time
            parameter.grad = None
        if self.average is not None:
            self.average.update()

    def note_best(self, epoch: int) -> None:
        """Remember the epoch with the lowest validation loss; with a guard, the one with the
        highest robust validation accuracy."""
        if self.watchman is not None:
            scores = self.history.robust_accuracy
        else:
            scores = [-loss for loss in self.history.val_loss]
        if self.history.best_epoch and scores[-1] <= scores[self.history.best_epoch - 1]:
            return
        self.history.best_epoch = epoch
        if self.recipe.patience:
            state = self.model.state_dict() if self.average is None else self.average.weights
            self.best = {name: value.detach().clone() for name, value in state.items()}

    def diverged(self, why: str, epoch: int, step: int) -> bool:
        self.history.diverged = f"{why} in epoch {epoch} of {self.recipe.epochs}, by step {step}"
        return False
