"""The copy of a text classifier in bfloat16: which class it says is the original's word."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract.tiny import text_classifier
from torch import Tensor, nn

from assay.attacks.runner import run
from assay.attacks.text import Misspell
from assay.core.fast_text import TextCopy, text_copy
from assay.core.texts import TextClassifier

TEXTS = ["a good film", "", "the plot is bad but the acting was very good", "not moving", "boring"]


@pytest.fixture
def clf() -> TextClassifier:
    return text_classifier()


def test_it_answers_nearly_as_the_original_which_stays_as_it_was(clf: TextClassifier) -> None:
    before = clf.fingerprint
    fast, report = text_copy(clf, TEXTS)
    assert isinstance(fast, TextCopy)
    assert report.used
    assert 0 < report.difference < 0.25
    fast.error = 0.0  # nothing is in doubt
    answer, expected = fast.query(TEXTS), clf.query(TEXTS)
    assert fast.asked_again == 0
    assert fast.queries == len(TEXTS)
    assert answer.dtype == torch.float32
    assert not torch.equal(answer, expected)
    torch.testing.assert_close(answer, expected, rtol=0, atol=0.1 * float(expected.std()))
    assert answer.bfloat16().float().ne(answer).any(), "the head is in float32"
    assert clf.fingerprint == before


def test_where_two_classes_are_near_the_original_answers(clf: TextClassifier) -> None:
    fast, _ = text_copy(clf, TEXTS)
    assert isinstance(fast, TextCopy)
    expected = clf.query(TEXTS)
    gap = expected.sort(1).values.diff(dim=1)[:, -1]
    fast.error = float(gap.sort().values[1:3].mean()) / 4  # between the second and the third
    answer = fast.query(TEXTS)
    assert fast.asked_again == 2
    same = (answer - expected).abs().amax(1) < 1e-6
    assert same.nonzero()[:, 0].tolist() == sorted(gap.argsort()[:2].tolist())
    assert fast.queries == len(TEXTS), "a text that is asked twice is one query"
    assert fast.query([]).shape == (0, 2)


def test_no_error_is_taken_for_smaller_than_rounding(clf: TextClassifier) -> None:
    fast, _ = text_copy(clf, [""])
    assert isinstance(fast, TextCopy)
    assert fast.error >= 2**-7 * float(clf.query([""]).abs().max())


class Wide(nn.Module):
    """A model that cannot do without float32."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def get_input_embeddings(self) -> Any:
        return self.inside.get_input_embeddings()  # type: ignore[operator]

    def forward(self, attention_mask: Tensor, **given: Tensor) -> Any:
        if next(self.inside.parameters()).dtype != torch.float32:
            raise ValueError("float32 only")
        return self.inside(attention_mask=attention_mask, **given)


def test_a_model_without_a_copy_answers_itself(clf: TextClassifier) -> None:
    wide = TextClassifier(Wide(clf.model), clf.tokenizer)
    fast, report = text_copy(wide, TEXTS)
    assert fast is wide
    assert not report.used
    assert "float32 only" in report.why


def test_attacks_are_screened_and_successes_the_originals(clf: TextClassifier) -> None:
    y = clf.predict(TEXTS)
    attack = Misspell(share=1.0)
    found = run(attack, clf, TEXTS, y, stop="fooled", precision="bfloat16")
    assert found.fast is not None
    assert found.fast.used
    assert torch.equal(clf.predict(found.adversarial) != y, found.success)
    assert int(found.queries.sum()) == found.evaluations["forward"]
    assert run(attack, clf, TEXTS, y, stop="fooled").fast is None
