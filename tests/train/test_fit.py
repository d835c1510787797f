"""The training loop learns, measures what it says, and touches nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from accelerate.tracking import GeneralTracker
from torch import Tensor
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.source import TensorSource
from assay.data import load_data
from assay.errors import AssayError
from assay.models import CNN, MLP
from assay.train import SGD, Adam, AdamW, Constant, OneCycle, Recipe
from assay.train.batches import BUFFER, batches
from assay.train.evaluate import evaluate
from assay.train.fit import fit

STREAM = Stream(11)


def blobs(n: int, seed: int = 0, spread: float = 0.15) -> TensorSource:
    """Three classes of 1×4×4 images, each around a random image of its own."""
    centres = Stream(99).torch()
    middle = torch.rand(3, 1, 4, 4, generator=centres)
    generator = Stream(seed).torch()
    y = torch.randint(0, 3, (n,), generator=generator)
    noise = torch.randn(n, 1, 4, 4, generator=generator)
    return TensorSource((middle[y] + spread * noise).clamp(0, 1), y)


def wrapped(config: MLP | CNN | None = None) -> Classifier:
    config = config or MLP(widths=(16,))
    return Classifier(config.build((1, 4, 4), 3, Stream(1)), mean=(0.5,), std=(0.25,))


def weights(classifier: Classifier) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in classifier.model.state_dict().items()}


PLAIN = Recipe(epochs=2, batch_size=16, optimizer=SGD(lr=0.1, momentum=0.0), schedule=Constant())


@pytest.mark.parametrize("known", [True, False])
def test_the_rate_is_the_schedules_of_this_step(known: bool) -> None:
    recipe = Recipe(epochs=3, batch_size=16, optimizer=SGD(lr=0.1), schedule=OneCycle())
    source = blobs(64)
    history = fit(wrapped(), source if known else Streamed(source), None, recipe, stream=STREAM)
    # the last of four steps each; of a source whose length is not known, epochs are the steps
    steps = [(3, 12), (7, 12), (11, 12)] if known else [(0, 3), (1, 3), (2, 3)]
    expected = [0.1 * OneCycle().factor(step, total) for step, total in steps]
    assert history.lr == pytest.approx(expected)


@pytest.mark.parametrize(
    "config",
    [
        MLP(widths=(64,)),
        CNN(depths=(1, 1), stem_stride=2, stage_stride=2, norm="batch", skip=True),
    ],
)
def test_it_learns_handwritten_digits(config: MLP | CNN) -> None:
    train = load_data("digits", split="train").sample(1500)
    validation = load_data("digits", split="validation")
    classifier = Classifier(
        config.build((1, 28, 28), 10, STREAM), mean=train.mean, std=train.std, classes=train.classes
    )
    recipe = Recipe(
        epochs=4, batch_size=32, optimizer=AdamW(lr=1e-2), schedule=OneCycle(), patience=3
    )
    history = fit(classifier, train, validation, recipe, stream=STREAM)
    assert history.val_accuracy[-1] > 0.9
    x, y = load_data("digits", split="test").take(500)
    assert float((classifier.predict(x) == y).float().mean()) > 0.9
    assert history.train_loss == sorted(history.train_loss, reverse=True)


def test_accuracy_through_the_wrapper_is_what_training_reported() -> None:
    classifier, validation = wrapped(), blobs(40, seed=1, spread=0.5)
    history = fit(classifier, blobs(64, spread=0.5), validation, PLAIN, stream=STREAM)
    logits = classifier.query(validation.x)
    assert history.val_accuracy[-1] == float((logits.argmax(1) == validation.y).double().mean())
    expected = float(F.cross_entropy(logits, validation.y))
    assert history.val_loss[-1] == pytest.approx(expected, rel=1e-6)


def test_training_curves_are_counted_from_the_training_batches() -> None:
    """With a learning rate of almost nothing the batches add up to one evaluation of the set."""
    recipe = PLAIN.model_copy(update={"optimizer": SGD(lr=1e-12), "epochs": 1})
    train = blobs(50, spread=0.5)
    classifier = wrapped()
    loss, accuracy = evaluate(classifier, train)
    assert 0 < accuracy < 1
    history = fit(classifier, train, None, recipe, stream=STREAM)
    assert history.train_accuracy == [accuracy]
    assert history.train_loss[0] == pytest.approx(loss, rel=1e-5)
    assert history.val_loss == []


def test_clipping_bounds_the_step() -> None:
    recipe = PLAIN.model_copy(update={"epochs": 1, "grad_clip": 0.01})
    classifier = wrapped()
    before = weights(classifier)
    fit(classifier, blobs(16), None, recipe, stream=STREAM)
    after = weights(classifier)
    moved = math.sqrt(sum(float((after[k] - before[k]).square().sum()) for k in before))
    assert moved == pytest.approx(0.1 * 0.01, rel=1e-3)


@pytest.mark.parametrize("rows", [64, 70])
def test_two_accumulated_batches_are_one_of_twice_the_size(rows: int) -> None:
    train = blobs(rows)
    big = PLAIN.model_copy(update={"batch_size": 32})
    small = PLAIN.model_copy(update={"batch_size": 16, "accumulate": 2})
    one, two = wrapped(), wrapped()
    first = fit(one, train, None, big, stream=STREAM)
    second = fit(two, train, None, small, stream=STREAM)
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, atol=1e-6, rtol=1e-5)
    assert first.train_loss == pytest.approx(second.train_loss, rel=1e-5)


def test_early_stopping_puts_the_best_weights_back() -> None:
    """Labels that contradict the validation set: the more is learnt of them, the worse."""
    good = blobs(90)
    bad = TensorSource(good.x, (good.y + 1) % 3)
    recipe = PLAIN.model_copy(update={"epochs": 30, "patience": 3})
    classifier = wrapped()
    history = fit(classifier, bad, good, recipe, stream=STREAM)
    best = min(range(history.epochs), key=history.val_loss.__getitem__) + 1
    assert history.stopped_early
    assert history.best_epoch == best
    assert history.epochs == best + 3
    assert history.restored
    assert evaluate(classifier, good)[0] == history.val_loss[best - 1]
    kept = wrapped()
    last = fit(kept, bad, good, PLAIN.model_copy(update={"epochs": best + 3}), stream=STREAM)
    assert last.val_loss == history.val_loss
    assert not last.restored
    assert evaluate(kept, good)[0] == history.val_loss[-1]


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite_stops_training_with_its_reason() -> None:
    recipe = PLAIN.model_copy(update={"optimizer": SGD(lr=1e30), "epochs": 5})
    history = fit(wrapped(), blobs(64), blobs(20, seed=1), recipe, stream=STREAM)
    assert history.diverged.startswith("training loss is")
    assert "in epoch 1 of 5" in history.diverged
    assert history.epochs < 5
    assert all(math.isfinite(value) for value in history.train_loss + history.val_loss)
    assert history.metrics()["diverged"] == history.diverged


def test_a_validation_loss_that_is_not_finite_is_divergence_too() -> None:
    classifier = wrapped()
    broken = blobs(20, seed=1)

    class Later(TensorSource):
        """Fine when it is checked, then not."""

        asked = 0

        def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            type(self).asked += 1
            for ids, x, y in super().batches(size):
                yield ids, x * (math.nan if self.asked > 1 else 1), y

    history = fit(classifier, blobs(32), Later(broken.x, broken.y), PLAIN, stream=STREAM)
    assert history.diverged == "validation loss is nan in epoch 1 of 2, by step 2"


def test_nothing_depends_on_ambient_state_or_changes_it() -> None:
    config = MLP(widths=(16,), dropout=0.5)
    outcomes = []
    threads = torch.get_num_threads()
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        classifier = wrapped(config)
        history = fit(classifier, blobs(64), blobs(20, seed=1), PLAIN, stream=STREAM)
        assert torch.equal(torch.random.get_rng_state(), before)
        outcomes.append((history.metrics(), weights(classifier)))
    assert torch.get_num_threads() == threads
    assert outcomes[0][0] == outcomes[1][0]
    assert all(torch.equal(outcomes[0][1][k], outcomes[1][1][k]) for k in outcomes[0][1])
    other = fit(wrapped(config), blobs(64), blobs(20, seed=1), PLAIN, stream=Stream(12))
    assert other.metrics() != outcomes[0][0]


def test_dropout_is_drawn_anew_every_epoch() -> None:
    """All rows are equal, so that nothing but the dropped units can change the loss."""
    train = TensorSource(torch.full((64, 1, 4, 4), 0.7), torch.zeros(64, dtype=torch.int64))
    recipe = PLAIN.model_copy(update={"optimizer": SGD(lr=1e-12), "batch_size": 64})
    config = MLP(widths=(16,), dropout=0.5)
    history = fit(wrapped(config), train, None, recipe, stream=STREAM)
    assert history.train_loss[0] != pytest.approx(history.train_loss[1], rel=1e-4)


def test_every_row_is_seen_once_per_epoch_in_a_new_order() -> None:
    orders: list[list[int]] = []

    def watch(x: Tensor, _: Rows) -> Tensor:
        seen.extend((x.flatten(1)[:, 0] * 1000).round().int().tolist())
        return x

    x = (torch.arange(33) / 1000).view(33, 1, 1, 1).expand(33, 1, 4, 4).clone()
    source = TensorSource(x, torch.arange(33) % 3)
    for epochs in (1, 2):
        seen: list[int] = []
        recipe = PLAIN.model_copy(update={"epochs": epochs})
        fit(wrapped(), source, None, recipe, stream=STREAM, augment=watch)
        orders.append(seen)
    assert sorted(orders[0]) == list(range(33))
    assert orders[1][:33] == orders[0]
    assert sorted(orders[1][33:]) == list(range(33))
    assert orders[1][33:] != orders[0]


def test_augmentation_draws_by_row_and_epoch_not_by_place() -> None:
    drawn: list[dict[float, float]] = []

    def watch(x: Tensor, rng: Rows) -> Tensor:
        drawn[-1].update(zip(x.flatten(1).sum(1).tolist(), rng.uniform().tolist(), strict=True))
        return x

    train = blobs(40)
    for size in (8, 20):
        drawn.append({})
        recipe = PLAIN.model_copy(update={"epochs": 1, "batch_size": size})
        fit(wrapped(), train, None, recipe, stream=STREAM, augment=watch)
    assert len(set(drawn[0].values())) == 40
    assert drawn[0] == drawn[1]


def test_the_adversary_gets_the_classifier_frozen_and_its_images_are_trained_on() -> None:
    def blank(model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor:
        assert not model.model.training
        assert not any(p.requires_grad for p in model.model.parameters())
        assert len(rng) == len(x) == len(y)
        return torch.zeros_like(x)

    recipe = PLAIN.model_copy(update={"optimizer": SGD(lr=1e-12), "epochs": 1})
    classifier, train = wrapped(), blobs(40)
    expected = evaluate(classifier, TensorSource(torch.zeros_like(train.x), train.y))[0]
    history = fit(classifier, train, None, recipe, stream=STREAM, adversary=blank)
    assert history.train_loss[0] == pytest.approx(expected, rel=1e-5)


def test_memory_format_changes_the_result_by_rounding_alone() -> None:
    config = CNN(depths=(1, 1), widths=(4, 8), norm="batch", skip=True)
    outcomes = []
    for layout in ("channels_last", "contiguous"):
        classifier = wrapped(config)
        recipe = PLAIN.model_copy(update={"memory_format": layout})
        fit(classifier, blobs(64), None, recipe, stream=STREAM)
        outcomes.append(weights(classifier))
    for name, value in outcomes[0].items():
        torch.testing.assert_close(value, outcomes[1][name], atol=1e-4, rtol=1e-3)


def test_bfloat16_trains_float32_weights() -> None:
    recipe = PLAIN.model_copy(update={"precision": "bfloat16", "epochs": 8})
    config = CNN(depths=(1,), widths=(8,), norm="batch")
    classifier = wrapped(config)
    history = fit(classifier, blobs(96), blobs(60, seed=1), recipe, stream=STREAM)
    exact = fit(
        wrapped(config),
        blobs(96),
        None,
        recipe.model_copy(update={"precision": "float32"}),
        stream=STREAM,
    )
    assert all(p.dtype == torch.float32 for p in classifier.model.parameters())
    assert history.val_accuracy[-1] > 0.8
    assert history.train_loss != exact.train_loss
    assert history.train_loss == pytest.approx(exact.train_loss, rel=0.1)


def test_uint8_images_are_trained_on_as_their_floats() -> None:
    data = load_data("digits", split="validation").sample(64)
    floats = TensorSource(data.images.float() / 255, data.labels)
    outcomes = []
    for source in (data, floats):
        classifier = Classifier(MLP(widths=(8,)).build((1, 28, 28), 10, STREAM))
        outcomes.append(fit(classifier, source, None, PLAIN, stream=STREAM).metrics())
    assert outcomes[0] == outcomes[1]


class Streamed:
    """A source that is read in its order and does not say how long it is."""

    length = None
    fingerprint = "streamed"

    def __init__(self, inner: TensorSource) -> None:
        self.inner = inner

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return self.inner.batches(size)


def test_a_source_that_is_not_in_memory_is_shuffled_and_learnt_from() -> None:
    inner = blobs(96)
    seen = [ids for ids, _, _ in batches(Streamed(inner), 16, STREAM)]
    assert sorted(torch.cat(seen).tolist()) == list(range(96))
    assert torch.cat(seen).tolist() != list(range(96))
    recipe = PLAIN.model_copy(update={"epochs": 10})
    history = fit(wrapped(), Streamed(inner), inner, recipe, stream=STREAM)
    assert history.val_accuracy[-1] > 0.9


def test_a_last_batch_of_one_row_joins_the_one_before() -> None:
    assert [len(ids) for ids, _, _ in batches(blobs(33), 16, STREAM)] == [16, 17]
    recipe = PLAIN.model_copy(update={"epochs": 1})
    history = fit(wrapped(MLP(widths=(8,), norm="batch")), blobs(33), None, recipe, stream=STREAM)
    assert history.epochs == 1


def test_label_smoothing_is_that_of_the_literature() -> None:
    """Szegedy et al. 2016: (1 - s) of the cross-entropy, s of its mean over all classes."""
    recipe = PLAIN.model_copy(
        update={"optimizer": Adam(lr=1e-12), "epochs": 1, "label_smoothing": 0.3}
    )
    classifier, train = wrapped(), blobs(32)
    logs = classifier.query(train.x).log_softmax(1)
    expected = -0.7 * logs[torch.arange(32), train.y] - 0.3 * logs.mean(1)
    history = fit(classifier, train, None, recipe, stream=STREAM)
    assert history.train_loss[0] == pytest.approx(float(expected.mean()), rel=1e-5)


def test_progress_rises_to_one() -> None:
    told: list[tuple[float, str]] = []
    recipe = PLAIN.model_copy(update={"batch_size": 2, "epochs": 3})
    fit(
        wrapped(),
        blobs(64),
        blobs(10, seed=1),
        recipe,
        stream=STREAM,
        progress=lambda share, note: told.append((share, note)),
    )
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(told) == 3 * (1 + 32 // 20)
    assert "epoch 3/3" in told[-1][1]
    assert "validation" in told[-1][1]


class Notes(GeneralTracker):
    name = "notes"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int | None, dict[str, float]]] = []
        self.config: dict[str, str] = {}

    @property
    def tracker(self) -> Notes:
        return self

    def store_init_configuration(self, values: dict[str, str]) -> None:
        self.config = values

    def log(self, values: dict[str, float], step: int | None = None, **_: object) -> None:
        self.logged.append((step, dict(values)))


def test_trackers_are_told_the_curves() -> None:
    notes = Notes()
    history = fit(wrapped(), blobs(32), None, PLAIN, stream=STREAM, trackers=[notes])
    assert [step for step, _ in notes.logged] == [1, 2]
    assert [values["train_loss"] for _, values in notes.logged] == history.train_loss
    assert "recipe" in notes.config


def test_what_cannot_be_trained_is_refused_before_anything_is() -> None:
    good = blobs(32)
    wrong = TensorSource(good.x, good.y + 1)
    for train, validation, line in (
        (wrong, good, "the training labels go from 1 to 3, but the network has 3 outputs, 0 to 2"),
        (good, wrong, "the validation labels go from 1 to 3"),
        (TensorSource(good.x[:0], good.y[:0]), good, "there are no training images"),
        (TensorSource(good.x * 255, good.y), good, r"images must lie in \[0, 1\]"),
    ):
        with pytest.raises(AssayError, match=line):
            fit(wrapped(), train, validation, PLAIN, stream=STREAM)
    for update, line in (
        ({"precision": "auto"}, "resolve"),
        ({"memory_format": "auto"}, "resolve"),
        ({"patience": 2}, "no validation set"),
    ):
        with pytest.raises(AssayError, match=line):
            fit(wrapped(), good, None, PLAIN.model_copy(update=update), stream=STREAM)


def test_the_network_is_left_in_eval_mode_also_after_an_error() -> None:
    def fails(_: Tensor, __: Rows) -> Tensor:
        raise KeyboardInterrupt

    classifier = wrapped()
    with pytest.raises(KeyboardInterrupt):
        fit(classifier, blobs(32), None, PLAIN, stream=STREAM, augment=fails)
    assert not classifier.model.training


def test_a_history_shows_itself() -> None:
    history = fit(wrapped(), blobs(32), blobs(20, seed=1), PLAIN, stream=STREAM)
    page = history._repr_html_()
    assert page.startswith("<svg") or "<svg" in page
    assert "validation" in page
    assert "seconds" not in history.metrics()


@dataclass(frozen=True)
class Shards:
    """A source that is read from front to back, as one that does not fit in memory is."""

    held: TensorSource

    @property
    def length(self) -> int:
        return self.held.length

    @property
    def fingerprint(self) -> str:
        return self.held.fingerprint

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return self.held.batches(size)


@pytest.mark.parametrize("n", [BUFFER * 2 + 1, BUFFER * 2 + 2, BUFFER * 4 + 1, BUFFER * 4])
def test_a_stream_gives_every_row_once_and_never_one_alone(n: int) -> None:
    seen = [ids for ids, _, _ in batches(Shards(blobs(n)), 2, STREAM)]
    assert torch.cat(seen).sort().values.tolist() == list(range(n))
    assert min(map(len, seen)) > 1


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_foreign_label_deep_in_a_stream_is_named(where: str) -> None:
    good, bad = blobs(32), blobs(32)
    assert bad.y is not None
    bad.y[30] = 3
    sources = {"training": Shards(good), "validation": Shards(good), where: Shards(bad)}
    with pytest.raises(AssayError, match=rf"{where} labels go .* 3, but .* 3 outputs"):
        fit(wrapped(), sources["training"], sources["validation"], PLAIN, stream=STREAM)


def test_augmentation_and_adversary_draw_anew_every_epoch() -> None:
    drawn: dict[str, list[list[float]]] = {"augment": [], "adversary": []}

    def note(kind: str, rng: Rows) -> None:
        drawn[kind].append(rng.uniform().tolist())

    def augment(x: Tensor, rng: Rows) -> Tensor:
        note("augment", rng)
        return x

    def adversary(model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor:
        del model, y
        note("adversary", rng)
        return x

    recipe = PLAIN.model_copy(update={"batch_size": 64})
    fit(wrapped(), blobs(64), None, recipe, stream=STREAM, augment=augment, adversary=adversary)
    sets = [set(one) for kind in ("augment", "adversary") for one in drawn[kind]]
    assert len(sets) == 4
    assert len(set.union(*sets)) > 250  # of 256 draws of 24 bits, nearly all are different
