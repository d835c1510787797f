"""Behavioural tests in the manner of CheckList (Ribeiro et al. 2020): edits whose effect is known.

No search and no budget: each text is edited once, by a rule, and the model should answer as before
(invariance) or otherwise (direction).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from assay import stats
from assay.core.edits import cased
from assay.core.oracle import Oracle, labels

NAMES: Mapping[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, names in {
        "women": """
            mary anna emma julia laura sarah linda susan karen nancy lisa helen sandra maria
            diane alice jessica jennifer michelle elizabeth amina fatima yuki mei ingrid
            olga
        """,
        "men": """
            james john robert michael david richard thomas charles daniel paul kevin brian
            steven andrew peter george henry jack adam ahmed omar kenji wei lars ivan pablo
        """,
        "places": """
            france germany italy spain china japan india brazil mexico canada russia poland
            sweden london paris berlin rome madrid tokyo moscow boston chicago
        """,
    }.items()
}
"""Names by kind, in lower case; a name is swapped for one of its kind."""

CONTRACTIONS: Mapping[str, str] = {
    "isn't": "is not",
    "aren't": "are not",
    "wasn't": "was not",
    "doesn't": "does not",
    "don't": "do not",
    "didn't": "did not",
    "it's": "it is",
    "that's": "that is",
    "there's": "there is",
    "he's": "he is",
    "she's": "she is",
    "can't": "cannot",
    "won't": "will not",
}
VERBS = ("is", "was", "are", "were")


def renamed(text: str) -> str | None:
    """Return a text with every known name swapped for the next of its kind, or None without one.

    >>> renamed("Anna plays well in Paris")
    'Emma plays well in Berlin'
    """
    following = {
        name: kind[(k + 1) % len(kind)] for kind in NAMES.values() for k, name in enumerate(kind)
    }
    return _swapped(text, following)


def contracted(text: str) -> str | None:
    """Return a text with contractions written out, or, where it has none, contracted; or None.

    >>> contracted("it isn't good"), contracted("there is a film")
    ('it is not good', "there's a film")
    """
    opposite = {whole: short for short, whole in CONTRACTIONS.items()}
    return _swapped(text, CONTRACTIONS) or _swapped(text, opposite)


def negated(text: str) -> str | None:
    """Return a short sentence with its one "is" (was, are, were) negated, or its one negation taken
    away; None where it has none or several, whose negation need not turn it around.

    >>> negated("the plot is good"), negated("the plot is not good")
    ('the plot is not good', 'the plot is good')
    """
    verbs = "|".join(VERBS)
    pattern = rf"\b({verbs})(n['’]t\b|\b not\b|\b)"
    found = list(re.finditer(pattern, text, re.IGNORECASE))
    turns = re.search(r"\b(?:but|if|than)\b", text, re.IGNORECASE)
    if len(found) != 1 or len(text.split()) > 12 or turns:
        return None
    verb, negation = found[0].groups()
    return text[: found[0].start()] + verb + ("" if negation else " not") + text[found[0].end() :]


def _swapped(text: str, table: Mapping[str, str]) -> str | None:
    pattern = "|".join(rf"\b{re.escape(key)}\b" for key in table)

    def other(found: re.Match[str]) -> str:
        new = table[found[0].lower()]
        return cased(new, found[0]) if " " not in new else new

    made = re.sub(pattern, other, text, flags=re.IGNORECASE)
    return made if made != text else None


@dataclass(frozen=True)
class Behaviour:
    """What a rule found.

    Attributes:
        name: names, contractions or negation.
        expects: whether the prediction should stay as it is, or change.
        failed: share of the texts that the rule applies to, and that were classified correctly, for
            which it does not.
        examples: (text, edited text) of the first that failed.
        fails: of each of those texts, by its row, whether it fails.
    """

    name: str
    expects: Literal["same", "other"]
    failed: stats.Estimate
    examples: tuple[tuple[str, str], ...]
    fails: Mapping[int, bool]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "expects": self.expects,
            "failed": self.failed.to_dict(),
            "examples": [list(pair) for pair in self.examples],
        }


RULES: Mapping[str, tuple[Callable[[str], str | None], Literal["same", "other"]]] = {
    "names": (renamed, "same"),
    "contractions": (contracted, "same"),
    "negation": (negated, "other"),
}


def behaviours(oracle: Oracle[list[str]], x: list[str], y: Tensor) -> list[Behaviour]:
    """Return what each rule found on texts `x` with labels `y` int64 (N,).

    >>> said = ["the plot is good", "the plot is bad"]
    >>> found = assay.attacks.text.behaviours(text_clf, said, text_clf.predict(said))
    >>> [one.name for one in found][:2]
    ['names', 'contractions']
    """
    right = (labels(oracle.query(x)).cpu() == y).tolist()
    found = []
    for name, (rule, expects) in RULES.items():
        edited = {
            row: new
            for row, (text, fine) in enumerate(zip(x, right, strict=True))
            if fine and (new := rule(text)) is not None
        }
        said = labels(oracle.query(list(edited.values()))).tolist() if edited else []
        fails = {
            row: (now != int(y[row])) == (expects == "same")
            for row, now in zip(edited, said, strict=True)
        }
        wrong = [(x[row], edited[row]) for row, failed in fails.items() if failed]
        share = stats.proportion(len(wrong), len(fails), "texts that the rule applies to")
        found.append(Behaviour(name, expects, share, tuple(wrong[:5]), fails))
    return found
