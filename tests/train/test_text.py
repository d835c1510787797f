from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contract.tiny import encoder_folder

from assay.core.lengths import padding_share
from assay.core.random import Rows, Stream
from assay.core.texts import TextClassifier
from assay.data.textset import TextSet, in_memory
from assay.errors import AssayError
from assay.models.adaptation import Adaptation, Full, Head, LoRA
from assay.models.textnet import TextNetwork
from assay.train import AdamW, Recipe
from assay.train.batches import batches
from assay.train.evaluate import evaluate
from assay.train.fit import fit

CLASSES = ("negative", "positive")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("models") / "encoder")


def reviews(count: int, start: int = 0) -> TextSet:
    """Sentences of many lengths that are good, or bad."""
    words = ["the", "film", "is", "very", "and", "plot", "acting"]
    texts, labels = [], []
    for k in range(start, start + count):
        around = [words[(k * 7 + j) % len(words)] for j in range(2 + k % 9)]
        around.insert(k % len(around), "good" if k % 2 else "bad")
        texts.append(" ".join(around))
        labels.append(k % 2)
    return in_memory("reviews", "train", CLASSES, texts, labels)


def made(encoder: Path, adaptation: Adaptation) -> TextClassifier:
    network = TextNetwork(base=str(encoder), adaptation=adaptation)  # type: ignore[arg-type]
    return network.classifier(CLASSES, Stream(0))


RECIPE = Recipe(epochs=6, batch_size=16, optimizer=AdamW(lr=1e-2))


@pytest.mark.parametrize("adaptation", [Full(), LoRA(rank=4)], ids=lambda found: found.name)
def test_one_loop_trains_texts_too(encoder: Path, adaptation: Adaptation) -> None:
    clf = made(encoder, adaptation)
    train, held = reviews(160), reviews(60, start=160)
    before = evaluate(clf, held)[1]
    frozen = {n: p.clone() for n, p in clf.model.named_parameters() if not p.requires_grad}
    history = fit(clf, train, held, RECIPE, stream=Stream(0))
    assert before < 0.7
    assert history.val_accuracy[-1] > 0.8
    assert evaluate(clf, held)[1] == history.val_accuracy[-1]
    for name, parameter in clf.model.named_parameters():
        assert name not in frozen or torch.equal(parameter, frozen[name]), name


def test_an_interrupted_training_ends_with_the_same_bytes(encoder: Path, tmp_path: Path) -> None:
    def trained(checkpoint: Path | None, stop_after: int | None) -> dict[str, Any]:
        clf = made(encoder, Full())

        def progress(done: float, note: str) -> None:
            if stop_after is not None and note.startswith(f"epoch {stop_after}/") and done >= 0.5:
                raise KeyboardInterrupt

        recipe = RECIPE.model_copy(update={"epochs": 2})
        fit(
            clf,
            reviews(48),
            None,
            recipe,
            stream=Stream(1),
            checkpoint=checkpoint,
            progress=progress,
        )
        return clf.model.state_dict()

    whole = trained(None, None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "c.pt", 1)
    resumed = trained(tmp_path / "c.pt", None)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_batches_are_of_like_length_and_new_in_every_epoch() -> None:
    source = reviews(200)
    source = replace(source, lengths=tuple(len(text.split()) for text in source.texts))
    assert source.lengths is not None
    epochs = [list(batches(source, 16, Stream(0).child(e))) for e in (0, 1)]
    for epoch in epochs:
        ids = torch.cat([batch[0] for batch in epoch])
        assert sorted(ids.tolist()) == list(range(200))
        assert padding_share(list(source.lengths), [batch[0] for batch in epoch]) < 0.05
        for some, texts, y in epoch:
            assert texts == [source.texts[i] for i in some.tolist()]
            assert y.tolist() == [i % 2 for i in some.tolist()]
        longest = [max(source.lengths[i] for i in batch[0].tolist()) for batch in epoch]
        assert longest != sorted(longest), "long and short batches are mixed"
    first, second = ([set(b[0].tolist()) for b in epoch] for epoch in epochs)
    assert not any(batch in second for batch in first)


def test_texts_can_be_augmented(encoder: Path) -> None:
    seen: list[str] = []

    def upper(x: list[str], rng: Rows) -> list[str]:
        assert len(rng) == len(x)
        seen.extend(x)
        return [text.upper() for text in x]

    recipe = Recipe(epochs=1, batch_size=8)
    fit(made(encoder, Head()), reviews(16), None, recipe, stream=Stream(0), augment=upper)
    assert len(seen) == 16


def test_what_goes_with_images_is_refused(encoder: Path) -> None:
    recipe = Recipe(epochs=1, mixup=0.2)
    with pytest.raises(AssayError, match="mixup, an adversary and watch go with images"):
        fit(made(encoder, Head()), reviews(16), None, recipe, stream=Stream(0))
    empty = in_memory("none", "train", CLASSES, [], [])
    with pytest.raises(AssayError, match="there are no training texts"):
        fit(made(encoder, Head()), empty, None, Recipe(), stream=Stream(0))
    odd = in_memory("odd", "train", CLASSES, ["a", "b", "c"], [0, 1, 2])
    with pytest.raises(AssayError, match="labels go from 0 to 2"):
        fit(made(encoder, Head()), odd, None, Recipe(), stream=Stream(0))
