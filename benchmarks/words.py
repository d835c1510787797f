"""Attacks on words: batching, the cache, success in both settings, and TextAttack's same recipe.

A MiniLM fine-tuned on Rotten Tomatoes (a file of `assay train`, or of a trial of the study `words`)
is attacked on the same correctly classified test sentences. Seconds are those of the processor, on
one thread. What is measured:

- candidates asked together, against one at a time, as sentences per second of the model itself;
- what that brings to a whole attack, and how many queries the cache of a search saves;
- greedy substitution, permissive and strict: success, share of words changed, queries;
- what readers say of its successes that no attack has used: a classifier of word counts (TF-IDF and
  logistic regression, on all training sentences), and with `--reader ENCODER` (a folder or an id on
  the hub) another sentence encoder. Both are compared with antonyms: the same sentences, the first
  word that has one replaced by its opposite, which does change what is said;
- TextAttack 0.3.11 with the same transformation (WordNet synonyms), search (importance by deletion)
  and constraints (stop words, a fifth of the words, no word twice), without a sentence encoder in
  either: its own (Universal Sentence Encoder) must be downloaded. It is skipped, and the reason
  said, without nltk and its list of stop words.

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
from typing import Any
from unittest.mock import MagicMock

import torch

from assay.attacks.runner import run
from assay.attacks.text import Substitute, greedy, text_attacks
from assay.attacks.text.asking import Row, ask
from assay.attacks.text.offers import Remembered, offered
from assay.attacks.text.stopwords import STOP_WORDS
from assay.attacks.text.substitutes import Synonyms
from assay.attacks.text.threat import Words
from assay.attacks.text.wordnet import wordnet
from assay.core.edits import replaced, words
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

    @property
    def threat(self) -> Words:
        return Words(share=self.share)


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


def settings(clf: Any, texts: list[str], y: torch.Tensor, other: Judge | None) -> dict[str, Any]:
    """Return what greedy substitution does in both settings, and what others say of it."""
    found, results = dict[str, Any](), dict[str, Any]()
    for setting in ("permissive", "strict"):
        attack = Substitute(setting=setting)
        before = offered("encoder", "default").encoded
        seconds, result = timed(lambda a=attack: run(a, clf, texts, y, stop="fooled"))
        results[setting] = result
        found[setting] = described(result, seconds, offered("encoder", "default").encoded - before)
        print(f"{setting}: {result.describe()}", json.dumps(found[setting]), flush=True)
    found["read_again"] = read_again(results, other)
    print("read again", json.dumps(found["read_again"]), flush=True)
    return found


def ours(clf: Any, texts: list[str], y: torch.Tensor) -> dict[str, Any]:
    """Return the plain attack; and with candidates evaluated one at a time, without a cache."""
    attack = Plain()
    wanted = 0

    def counted(model: Any, rows: list[Row], some: list[list[str]]) -> torch.Tensor:
        nonlocal wanted
        wanted += sum(map(len, some))
        return ask(model, rows, some)

    greedy.ask = counted  # type: ignore[attr-defined]
    seconds, result = timed(lambda: run(attack, clf, texts, y, stop="fooled"))
    found = described(result, seconds, 0)
    greedy.ask = ask  # type: ignore[attr-defined]
    asked = int(result.queries.sum()) - 2 * len(texts)
    clf.batch_size = 1
    alone, _ = timed(lambda: run(attack, clf, texts, y, stop="fooled"))
    clf.batch_size = None
    print("plain, candidates one at a time", json.dumps({"seconds": alone}), flush=True)
    return {**found, "one_at_a_time": alone, "batching": alone / seconds, "cache": wanted / asked}


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


def theirs(clf: Any, texts: list[str], y: torch.Tensor) -> dict[str, Any]:
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

    constraints = [RepeatModification(), StopwordModification(stopwords=set(STOP_WORDS))]
    constraints.append(MaxWordsPerturbed(max_percent=0.2))
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
    parser.add_argument("--only", nargs="*", help="of batching, settings, plain, textattack")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = set(options.only or ("batching", "settings", "plain", "textattack"))
    clf = load_text(options.model)
    texts, y = load_texts(DATA, split=options.split).take(4 * options.texts)
    right = (clf.predict(texts) == y).nonzero()[: options.texts, 0].tolist()
    texts, y = [texts[k] for k in right], y[right]
    judge()
    report: dict[str, Any] = {"texts": len(texts), "attacks": list(text_attacks())}
    if "batching" in wanted:
        report["batching"] = batching(clf, texts)
        print("batching", json.dumps(report["batching"]), flush=True)
    if "plain" in wanted:
        report["plain"] = ours(clf, texts, y)
        print("plain", json.dumps(report["plain"]), flush=True)
    if "textattack" in wanted:
        report["textattack"] = theirs(clf, texts, y)
        print("textattack", json.dumps(report["textattack"]), flush=True)
    if "settings" in wanted:
        report["settings"] = settings(
            clf, texts, y, None if options.reader is None else Judge(options.reader)
        )
    OUT.mkdir(exist_ok=True)
    (OUT / "words.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
