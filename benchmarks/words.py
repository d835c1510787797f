"""Attacks on words: batching, success in both settings, and TextAttack's same recipe.

A MiniLM fine-tuned on Rotten Tomatoes (a file of `assay train`, or of a trial of the study `words`)
is attacked on the same correctly classified test sentences. Seconds are those of the processor, on
one thread. What is measured:

- candidates asked together, against one at a time, as sentences per second of the model itself;
- what that brings to a whole attack;
- greedy substitution, permissive and strict: success, share of words changed, queries;
- what readers say of its successes that no attack has used: a classifier of word counts (TF-IDF and
  logistic regression, on all training sentences), and with `--reader ENCODER` (a folder or an id on
  the hub) another sentence encoder. Both are compared with antonyms: the same sentences, the first
  word that has one replaced by its opposite, which does change what is said;
- TextAttack 0.3.11 with the same transformation (WordNet synonyms), search (importance by deletion)
  and constraints (stop words, a fifth of the words, no word twice), without a sentence encoder and
  with TextFooler's windows of 15 words at 0.84, judged by the same MiniLM in both: its own
  (Universal Sentence Encoder) must be downloaded. It is given assay's batches by length for the
  model. It is skipped, and the reason said, without nltk and its list of stop words.

Attacks of assay are measured in float32 and with a search in bfloat16, whose verdicts are
float32's; `forwards` is the share of an attack's seconds that the model and the encoder take.

    python benchmarks/words.py MODEL --texts 12
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import torch

from assay.attacks.runner import run
from assay.attacks.text import Substitute, text_attacks
from assay.attacks.text.asking import Row
from assay.attacks.text.base import WordImportance
from assay.attacks.text.offers import Remembered, offer, offered
from assay.attacks.text.stopwords import STOP_WORDS
from assay.attacks.text.substitutes import Synonyms
from assay.attacks.text.threat import WORDS, Words
from assay.attacks.text.wordnet import wordnet
from assay.core.edits import replaced, words
from assay.core.fast import Precision
from assay.core.fast_text import text_copy
from assay.core.random import Stream
from assay.core.texts import TextClassifier
from assay.data.loadtexts import load_texts
from assay.models.text import load_text
from assay.stats import proportion
from assay.tasks.judges import Judge, judge
from assay.tasks.read_text import WordCounts

OUT = Path(__file__).parent / "out"
DATA = "rotten_tomatoes"


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor's seconds that a call takes, and what it returns."""
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


class Plain(Substitute):
    """Greedy substitution with WordNet synonyms, under the constraints that TextAttack is given."""

    name: Any = "plain"
    windows: bool = False
    """Whether sentences are held to TextFooler's similarity."""

    @property
    def threat(self) -> Words:
        limits = WORDS["permissive"] if self.windows else {}
        return Words(
            share=self.share, **{k: v for k, v in limits.items() if k != "word_similarity"}
        )


class Forwards:
    """The processor's seconds that the model and the sentence encoder take, within a block."""

    def __enter__(self) -> Forwards:
        self.seconds = {"model": 0.0, "encoder": 0.0}
        self.kept = (TextClassifier._answered, Judge.__call__)
        TextClassifier._answered = self.clocked("model", self.kept[0])  # type: ignore[method-assign]
        Judge.__call__ = self.clocked("encoder", self.kept[1])  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        TextClassifier._answered, Judge.__call__ = self.kept  # type: ignore[method-assign]

    def clocked(self, name: str, function: Any) -> Any:
        def clocked(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            found = function(*given, **named)
            self.seconds[name] += time.process_time() - start
            return found

        return clocked


def batching(clf: Any, texts: list[str]) -> dict[str, float]:
    """Return sentences per second of candidates asked one at a time, and together."""
    source = Synonyms(most=8)
    row = [Row(text, 0, len(text.split())) for text in texts]
    some = [
        one.with_words({place: new})
        for one in row[:6]
        for place in range(4)
        for new in source.of(one.text, place)[:4]
    ][:64] or texts
    one_by_one, _ = timed(lambda: [clf.query([text]) for text in some])
    together, _ = timed(lambda: clf.query(some))
    return {
        "candidates": len(some),
        "one_at_a_time_per_second": len(some) / one_by_one,
        "together_per_second": len(some) / together,
        "gain": one_by_one / together,
    }


def described(result: Any, seconds: float, encoded: int) -> dict[str, Any]:
    rate = result.success_rate
    return {
        "success": rate.value,
        "interval": [rate.low, rate.high],
        "n": rate.n,
        "median_share_of_words": result.median_distance,
        "mean_queries": float(result.queries.double().mean()),
        "encoded": encoded,
        "seconds": seconds,
        "texts_per_second": len(result) / seconds,
    }


def opposite(text: str) -> str | None:
    """Return the text with the first word that has an antonym replaced by it; None without one."""
    for place, piece in enumerate(words(text)):
        word = text[piece.start : piece.end]
        if word.lower() not in STOP_WORDS and (found := sorted(wordnet().antonyms(word))):
            return replaced(text, {place: found[0]})
    return None


def read_again(results: dict[str, Any], other: Judge | None) -> dict[str, Any]:
    """Return what readers that no attack has used say of the successes: of those whose original
    the classifier of word counts gets right, the share whose label it still gives; and the median
    similarity by another encoder. The sentences are those that the permissive attack fooled."""
    train = load_texts(DATA, split="train")
    counts = WordCounts().made(3.0, 0).fit(list(train.texts), train.labels.numpy())
    pairs = {
        name: [(r.inputs[k], r.adversarial[k], int(r.labels[k])) for k in rows_of(r)]
        for name, r in results.items()
    }
    pairs["antonyms"] = [
        (text, made, label) for text, _, label in pairs["permissive"] if (made := opposite(text))
    ]
    found = {}
    for name, some in pairs.items():
        known = [one for one in some if counts.predict([one[0]])[0] == one[2]]
        kept = sum(counts.predict([adv])[0] == label for _, adv, label in known)
        found[name] = {
            "n": len(some),
            "label_kept": proportion(kept, len(known), "texts").to_dict(),
        }
        if other is not None and some:
            alike = Remembered(other).similarity(*([list(c) for c in zip(*some, strict=True)][:2]))
            found[name]["similarity"] = float(alike.quantile(0.5))
    return found


def rows_of(result: Any) -> list[int]:
    return list(result.fooled.nonzero()[:, 0].tolist())


def settings(
    clf: Any,
    texts: list[str],
    y: torch.Tensor,
    importance: WordImportance,
    source: Synonyms,
    other: Judge | None,
) -> dict[str, Any]:
    """Return what greedy substitution does in both settings, and what others say of it."""
    found, results = dict[str, Any](), dict[str, Any]()
    for setting in ("permissive", "strict"):
        attack = Substitute(setting=setting, importance=importance, substitutes=source)
        before = offered("encoder", "default").encoded
        seconds, result = timed(
            lambda a=attack: run(a, clf, texts, y, stop="fooled", precision="bfloat16")
        )
        results[setting] = result
        found[setting] = described(result, seconds, offered("encoder", "default").encoded - before)
        print(f"{setting}: {result.describe()}", json.dumps(found[setting]), flush=True)
    found["read_again"] = read_again(results, other)
    print("read again", json.dumps(found["read_again"]), flush=True)
    return found


def ours(
    clf: Any, texts: list[str], y: torch.Tensor, windows: bool, precision: Precision
) -> dict[str, Any]:
    """Return the plain attack, and how much of it the forward passes take."""
    attack = Plain(windows=windows)
    judge()  # which remembers nothing of an attack before
    offer("encoder", "default", judge(), rough=judge().rough)
    with Forwards() as forwards:
        seconds, result = timed(
            lambda: run(attack, clf, texts, y, stop="fooled", precision=precision)
        )
    found = described(result, seconds, offered("encoder", "default").encoded)
    found["screened"] = offered("encoder", "default").screened
    return {**found, "forwards": {k: v / seconds for k, v in forwards.seconds.items()}}


def alone(clf: Any, texts: list[str], y: torch.Tensor, precision: Precision) -> dict[str, float]:
    """Return the seconds of the plain attack with candidates evaluated one at a time."""
    clf.batch_size = 1
    seconds, _ = timed(lambda: run(Plain(), clf, texts, y, stop="fooled", precision=precision))
    clf.batch_size = None
    return {"seconds": seconds}


ASIDE = ("Levenshtein", "OpenHowNet", "bert_score", "editdistance", "flair", "langdetect")
ASIDE += ("lemminflect", "pandas", "pinyin", "tensorflow", "tensorflow_hub", "toml")
"""What TextAttack imports for parts that are not used here; nltk and its stop words it does need,
and downloads them otherwise."""


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives an empty module for what is in `ASIDE` and not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        del path, target
        if name.split(".")[0] not in ASIDE:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        made = MagicMock(name=spec.name)
        made.__path__, made.__spec__, made.__name__ = [], spec, spec.name
        return made

    def exec_module(self, module: Any) -> None:
        del module


def theirs(clf: Any, texts: list[str], y: torch.Tensor, windows: bool) -> dict[str, Any]:
    """Return what TextAttack does with the same parts, or why it does nothing."""
    sys.meta_path.append(StandIn())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import textattack
            from textattack.constraints.overlap import MaxWordsPerturbed
            from textattack.constraints.pre_transformation import (
                RepeatModification,
                StopwordModification,
            )
            from textattack.constraints.semantics.sentence_encoders import SentenceEncoder
            from textattack.goal_functions import UntargetedClassification
            from textattack.models.wrappers import ModelWrapper
            from textattack.search_methods import GreedyWordSwapWIR
            from textattack.transformations import WordSwap
    except Exception as error:  # whatever its imports raise without its dependencies
        return {"skipped": f"{type(error).__name__}: {error}"[:200]}

    class Wrapped(ModelWrapper):
        model = clf.model

        def __call__(self, some: list[str]) -> torch.Tensor:
            return clf.query(list(some)).softmax(1)

    class Synonym(WordSwap):
        def _get_replacement_words(self, word: str) -> list[str]:
            return list(wordnet().synonyms(word.lower()))[:50]

    class Share(MaxWordsPerturbed):
        """Its own rounds up: of 14 words it lets 3 change, where assay lets 2."""

        def _check_constraint(self, new: Any, old: Any) -> bool:
            most = max(1, int(self.max_percent * len(old.words) + 1e-6))
            return len(new.all_words_diff(old)) <= most

    constraints = [RepeatModification(), StopwordModification(stopwords=set(STOP_WORDS))]
    constraints.append(Share(max_percent=0.2))
    if windows:

        class MiniLM(SentenceEncoder):
            def encode(self, sentences: list[str]) -> torch.Tensor:
                return judge()(list(sentences))

        constraints.append(
            MiniLM(
                threshold=0.84,
                metric="angular",
                compare_against_original=False,
                window_size=15,
                skip_text_shorter_than_window=True,
            )
        )
    goal = UntargetedClassification(Wrapped(), use_cache=True)
    search = GreedyWordSwapWIR(wir_method="delete")
    attack = textattack.Attack(goal, constraints, Synonym(), search)
    won, queries = 0, 0
    start = time.process_time()
    try:
        for text, label in zip(texts, y.tolist(), strict=True):
            found = attack.attack(text, label)
            won += isinstance(found, textattack.attack_results.SuccessfulAttackResult)
            queries += found.num_queries
    except Exception as error:  # what it asks of the network, say
        return {"skipped": f"{type(error).__name__}: {error}"[:200]}
    seconds = time.process_time() - start
    return {
        "success": won / len(texts),
        "n": len(texts),
        "mean_queries": queries / len(texts),
        "seconds": seconds,
        "texts_per_second": len(texts) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a text classifier that assay has trained")
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--reader", help="another sentence encoder, which no attack uses")
    parser.add_argument("--split", default="test")
    parser.add_argument("--draw", type=int, help="draw the sentences by this seed, not the first")
    parser.add_argument("--related", action="store_true", help="related words of WordNet too")
    parser.add_argument("--importance", default="delete", choices=get_args(WordImportance))
    parser.add_argument("--only", nargs="*", help="of batching, settings, plain, alone, textattack")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = set(options.only or ("batching", "settings", "plain", "alone", "textattack"))
    clf = load_text(options.model)
    data = load_texts(DATA, split=options.split)
    if options.draw is not None:
        data = data.subset(torch.randperm(len(data), generator=Stream(options.draw).torch()))
    texts, y = data.take(2 * options.texts)
    right = (clf.predict(texts) == y).nonzero()[: options.texts, 0].tolist()
    texts, y = [texts[k] for k in right], y[right]
    judge()
    report: dict[str, Any] = {"texts": len(texts), "attacks": list(text_attacks())}
    if "batching" in wanted:
        for name, asked in {"float32": clf, "bfloat16": text_copy(clf, texts)[0]}.items():
            report[f"batching, {name}"] = batching(asked, texts)
            print("batching", name, json.dumps(report[f"batching, {name}"]), flush=True)
    for windows in (False, True):
        said = "with windows" if windows else "plain"
        if "plain" in wanted:
            for precision in get_args(Precision):
                key = f"{said}, {precision}"
                report[key] = ours(clf, texts, y, windows, precision)
                print(key, json.dumps(report[key]), flush=True)
                if "alone" in wanted and not windows:
                    report[f"{key}, one at a time"] = alone(clf, texts, y, precision)
                    print(key, "one at a time", report[f"{key}, one at a time"], flush=True)
        if "textattack" in wanted:
            report[f"textattack, {said}"] = theirs(clf, texts, y, windows)
            print("textattack", said, json.dumps(report[f"textattack, {said}"]), flush=True)
    if "settings" in wanted:
        report["settings"] = settings(
            clf,
            texts,
            y,
            options.importance,
            Synonyms(related=options.related),
            None if options.reader is None else Judge(options.reader),
        )
    OUT.mkdir(exist_ok=True)
    (OUT / "words.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
