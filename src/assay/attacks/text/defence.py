"""What is left of an attack once texts are brought to a normal form before the model reads them."""

from __future__ import annotations

from torch import Tensor

from assay import stats
from assay.attacks.base import wins
from assay.attacks.result import AttackResult
from assay.attacks.text.characters import Form, normalised
from assay.attacks.text.threat import Words
from assay.core.oracle import Access, Oracle
from assay.stats import Estimate


class Normalised:
    """An oracle that is given every text in a normal form: a model with that defence, which an
    attack may know of and search around.

    >>> defended = assay.attacks.text.Normalised(text_clf, "nfkc")
    >>> wide = defended.query(["a ｇｏｏｄ film"])
    >>> torch.equal(wide, text_clf.query(["a good film"]))
    True
    """

    def __init__(self, oracle: Oracle[list[str]], form: Form) -> None:
        self.oracle, self.form = oracle, form
        self.access: Access = "scores" if oracle.access == "scores" else "logits"
        if oracle.access == "labels":
            self.access = "labels"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.oracle.classes

    @property
    def queries(self) -> int:
        return self.oracle.queries

    def query(self, x: list[str]) -> Tensor:
        """Return what the oracle says of the texts in their normal form."""
        return self.oracle.query([normalised(text, self.form) for text in x])


def after_normalising(result: AttackResult[list[str], Words], form: Form) -> Estimate:
    """Return the success rate once the attacked texts are in a normal form; queries the model.

    Of the correctly classified texts: those that were fooled, and still are.

    >>> attack = assay.attacks.text.Misspell(edits=("wide",), share=1)
    >>> said = ["a good film", "the plot is bad"]
    >>> result = attack(text_clf, said, text_clf.predict(said), seed=0)
    >>> assay.attacks.text.after_normalising(result, "nfkc").value
    0.0
    """
    rows = result.fooled.nonzero()[:, 0].tolist()
    kept = 0
    if rows:
        answer = result.oracle.query([normalised(result.adversarial[k], form) for k in rows])
        goal = result.labels if result.targets is None else result.targets
        kept = int(wins(answer, goal[rows].to(answer.device), result.targets is not None).sum())
    return stats.proportion(kept, int(result.correct.sum()), "correctly classified texts")
