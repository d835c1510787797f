"""Fine-tuning MiniLM against transformers' Trainer; features against the bare encoder.

Rotten Tomatoes, batches of 32, float32, AdamW, one thread, processor time. All in one process,
taking turns; ratios are medians over the rounds.

- padded: every sentence padded to 512 tokens, as the course does (a few sentences: it is slow).
- trainer: transformers' Trainer, each batch padded to its longest sentence.
- grouped: the same with sentences of like length together (train_sampling_strategy).
- assay: `fit`, with tokenising, counting and all.
- bare: the encoder alone on batches that are padded already, of the same sentences.

    python benchmarks/text.py                # about two minutes of one core
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from assay.core.lengths import padded as pad_ids
from assay.core.lengths import padding_share
from assay.core.random import Stream
from assay.core.text_embedding import embed_texts
from assay.core.texts import TextClassifier
from assay.data import TextSet, load_texts
from assay.models.encoders import located, read_tokenizer
from assay.models.textnet import TextNetwork
from assay.train import AdamW, Constant, Recipe
from assay.train.batches import batches, measured
from assay.train.fit import fit

OUT = Path(__file__).parent / "out"
BATCH = 32
TARGETS = {"padded": 20.0, "trainer": 1.3, "grouped": 1.0}


def fresh() -> tuple[Any, Any]:
    """Return BERT with a new head, the same each time, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification

    found = located("minilm")
    torch.manual_seed(0)
    kind = AutoModelForSequenceClassification
    return kind.from_pretrained(found.folder, dtype="float32"), read_tokenizer(found)


def by_assay(texts: TextSet) -> Callable[[], None]:
    model, tokenizer = fresh()
    clf = TextClassifier(model, tokenizer, classes=texts.classes)
    recipe = Recipe(
        epochs=1,
        batch_size=BATCH,
        optimizer=AdamW(lr=5e-5),
        schedule=Constant(),
        grad_clip=1.0,
        memory_format="contiguous",
    )

    def run() -> None:
        fit(clf, texts, None, recipe, stream=Stream(0))

    return run


def by_trainer(texts: TextSet, folder: str, **how: Any) -> Callable[[], None]:
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = fresh()
    to = how.pop("pad_to", None)
    padding = {"padding": "max_length", "max_length": to} if to else {}

    def run() -> None:
        data = Dataset.from_dict({"text": list(texts.texts), "label": texts.labels.tolist()})
        data = data.map(
            lambda rows: tokenizer(rows["text"], truncation=True, **padding),
            batched=True,
            remove_columns=["text"],
        )
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=5e-5,
            lr_scheduler_type="constant",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            **how,
        )
        Trainer(
            model=model,
            args=arguments,
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
        ).train()

    return run


def rate(run: Callable[[], None], sentences: int) -> float:
    """Return sentences per second of processor time."""
    started = time.process_time()
    run()
    return sentences / (time.process_time() - started)


def training(train: TextSet, sentences: int, rounds: int) -> dict[str, Any]:
    texts, few = train.sample(sentences), train.sample(BATCH // 2)
    found: dict[str, list[float]] = {"assay": [], "trainer": [], "grouped": [], "padded": []}
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "assay": (by_assay(texts), len(texts)),
            "trainer": (by_trainer(texts, folder), len(texts)),
            "grouped": (
                by_trainer(texts, folder, train_sampling_strategy="group_by_length"),
                len(texts),
            ),
            "padded": (by_trainer(few, folder, pad_to=512), len(few)),
        }
        for turn in range(rounds):
            for name, (run, n) in runs.items():
                if name != "padded" or turn == 0:
                    found[name].append(rate(run, n))
    rates = {name: statistics.median(values) for name, values in found.items()}
    ratios = {}
    for name in TARGETS:
        pairs = [ours / theirs for ours, theirs in zip(found["assay"], found[name], strict=False)]
        ratios[name] = statistics.median(pairs)
    return {"sentences per second": rates, "assay over": ratios}


def padding(train: TextSet) -> float:
    """Return the share of padding in an epoch over the whole set."""
    network = TextNetwork()
    clf = network.classifier(train.classes, Stream(0))
    known = measured(clf, train)
    parts = [ids for ids, _, _ in batches(known, BATCH, Stream(0))]
    assert isinstance(known, TextSet)
    assert known.lengths is not None
    return padding_share(list(known.lengths), parts)


def features(train: TextSet, sentences: int, rounds: int) -> float:
    """Return the rate of embedding texts over that of the bare encoder on the same batches."""
    clf = TextNetwork().classifier(train.classes, Stream(0))
    texts = list(train.sample(sentences).texts)
    tokens = clf.tokens(texts)
    ready = [
        pad_ids([tokens.ids[row] for row in some.tolist()], clf.pad) for some in clf.parts(tokens)
    ]

    def bare() -> None:
        with torch.no_grad():
            for ids, mask in ready:
                clf.model(input_ids=ids, attention_mask=mask.long())

    bare()
    pairs = []
    for _ in range(rounds):
        ours = rate(lambda: embed_texts(clf, texts) and None, len(texts))
        pairs.append(ours / rate(bare, len(texts)))
    return statistics.median(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    train = load_texts("rotten_tomatoes", split="train")
    share = padding(train)
    print(f"padding, all {len(train):,} sentences: {100 * share:.2f} % (at most 3 %)")
    ratio = features(train, asked.sentences, asked.rounds)
    print(f"features over the bare encoder: {ratio:.2f} (at least 0.85)")
    found = training(train, asked.sentences, asked.rounds)
    for name, per_second in found["sentences per second"].items():
        print(f"{name}: {per_second:.1f} sentences per second of one core")
    for name, times in found["assay over"].items():
        print(f"assay over {name}: {times:.2f} (at least {TARGETS[name]})")
    OUT.mkdir(exist_ok=True)
    found |= {"padding": share, "features over bare": ratio}
    (OUT / "text.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
