"""Functions that can only be queried: answers are taken as they are, or refused in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay import BlackBox
from assay.attacks import PGD, Attack
from assay.core.oracle import labels
from assay.errors import AssayError

WEIGHTS = np.random.default_rng(0).normal(size=(12, 3))


def logits(x: np.ndarray) -> np.ndarray:
    return (x.reshape(len(x), -1) - 0.5) @ WEIGHTS


def scores(x: np.ndarray) -> np.ndarray:
    raised = np.exp(logits(x))
    return raised / raised.sum(1, keepdims=True)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def refused(answer: Callable[[np.ndarray], Any], access: str, x: Tensor) -> str:
    """Return the one line with which an answer is refused."""
    with pytest.raises(AssayError) as caught:
        BlackBox(answer, classes=3, access=access, name="it").query(x)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_answers_are_those_of_the_function_in_batches(x: Tensor) -> None:
    sizes = []

    def seen(images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        sizes.append(len(images))
        return logits(images)

    box = BlackBox(seen, classes=("a", "b", "c"), access="logits", batch_size=3)
    expected = torch.from_numpy(logits(x.numpy())).float()
    torch.testing.assert_close(box.query(x), expected)
    torch.testing.assert_close(box.query(x.to(memory_format=torch.channels_last)), expected)
    assert sizes == [3, 3, 1] * 2
    assert box.queries == 14
    assert torch.equal(box.predict(x), expected.argmax(1))
    assert box.classes == ("a", "b", "c")
    assert box.access == "logits"


def test_scores_and_labels_in_every_form_that_holds_them(x: Tensor) -> None:
    expected = torch.from_numpy(scores(x.numpy())).float()
    for answer in (scores, lambda x: scores(x).tolist(), lambda x: torch.from_numpy(scores(x))):
        box = BlackBox(answer, classes=3, access="scores")
        torch.testing.assert_close(box.query(x), expected)
        assert box.classes == ("0", "1", "2")
    for answer in (
        lambda x: logits(x).argmax(1),
        lambda x: logits(x).argmax(1).astype(np.uint8),
        lambda x: logits(x).argmax(1).astype(np.float32),
        lambda x: torch.from_numpy(logits(x)).argmax(1).tolist(),
    ):
        said = BlackBox(answer, classes=3, access="labels").query(x)
        assert said.dtype == torch.int64
        assert torch.equal(said, expected.argmax(1))


def test_the_function_may_write_into_its_images(x: Tensor) -> None:
    def careless(images: np.ndarray) -> np.ndarray:
        images -= 0.5
        return images.reshape(len(images), -1) @ WEIGHTS

    before = x.clone()
    box = BlackBox(careless, classes=3, access="logits")
    torch.testing.assert_close(box.query(x), torch.from_numpy(logits(x.numpy())).float())
    assert torch.equal(x, before)


def test_rows_without_an_answer_are_counted_and_equal_no_class(x: Tensor) -> None:
    def some(images: np.ndarray) -> list[list[float | None] | None]:
        rows: list[list[float | None] | None] = scores(images).tolist()
        rows[1] = [None, None, None]
        rows[4][2] = float("nan")
        rows[5] = None
        return rows

    box = BlackBox(some, classes=3, access="scores")
    answer = box.query(x)
    assert answer.isnan().all(1).tolist() == [False, True, False, False, True, True, False]
    assert labels(answer)[[1, 4, 5]].tolist() == [-1, -1, -1]
    assert box.unanswered == 3
    assert box.queries == 7
    said = BlackBox(lambda _: [0, None, 2, -1, 1, 1, 0], classes=3, access="labels")
    assert said.query(x).tolist() == [0, -1, 2, -1, 1, 1, 0]
    assert said.unanswered == 2


@pytest.mark.parametrize(
    ("access", "answer", "line"),
    [
        (
            "labels",
            lambda x: x[:-1, 0, 0, 0] > 9,
            "it returned ndarray (array([False, False, False, False, False, False])), which is not "
            "an array of labels of shape (7,)",
        ),
        ("labels", lambda _: [1] * 6, "it returned shape (6,) for 7 images"),
        ("labels", lambda x: logits(x), "it returned shape (7, 3) for 7 images; labels of 3"),
        ("labels", lambda _: [0, 1, 2, 3, 0, 0, 0], "the label 3; labels are whole numbers from 0"),
        ("labels", lambda _: [0, 1, 2, -2, 0, 0, 0], "it returned the label -2"),
        ("labels", lambda _: [0, 1, 2, 0.5, 0, 0, 0], "it returned the label 0.5"),
        ("labels", lambda _: [0, 1, 2, np.inf, 0, 0, 0], "it returned the label inf"),
        ("labels", lambda _: ["cat"] * 7, "it returned list (['cat', 'cat', 'cat',"),
        ("labels", lambda _: None, "it returned NoneType (None), which is not"),
        ("scores", lambda x: scores(x)[:, :2], "shape (7, 2) for 7 images; scores of 3 classes"),
        ("scores", lambda x: scores(x)[:6], "it returned shape (6, 3) for 7 images"),
        ("scores", lambda x: scores(x) * 1.1, "and sum to 1.1 in one row; scores are prob"),
        ("scores", lambda _: [[-0.2, 0.6, 0.6]] * 7, "scores that go down to -0.2"),
        ("scores", lambda _: [[0.5, 0.5, 0.0]] * 6 + [[1.0]], "which is not an array of scores"),
        ("scores", lambda _: [[0.5, 0.5, 1e999]] * 7, "it returned infinity"),
        ("logits", lambda _: [[-1e300, 0, 0]] * 7, "it returned infinity, or what is that in"),
        ("logits", lambda x: scores(x), 'not logits: declare access="scores"'),
    ],
)
def test_an_answer_that_cannot_be_one_is_one_clear_line(
    access: str, answer: Callable[[np.ndarray], Any], line: str, x: Tensor
) -> None:
    assert line in refused(answer, access, x)


def test_scores_that_a_service_has_rounded_are_scores(x: Tensor) -> None:
    box = BlackBox(lambda x: scores(x).round(3), classes=3, access="scores")
    assert torch.equal(box.predict(x), torch.from_numpy(scores(x.numpy()).argmax(1)))


def test_what_the_function_raises_is_told_in_one_line(x: Tensor) -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        raise ValueError("no such\n\x1b[31mfile")

    with pytest.raises(AssayError) as caught:
        BlackBox(broken, classes=3, access="labels").query(x)
    assert re.fullmatch(
        r"broken fails on these images, \(3, 2, 2\) each, 7 at a time "
        r"\(test_blackbox\.py, line \d+\): ValueError: no such \[31mfile",
        str(caught.value),
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_function_without_the_memory_is_asked_in_smaller_parts(x: Tensor) -> None:
    sizes = []

    def small(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        if len(images) > 3:
            raise MemoryError
        return logits(images)

    box = BlackBox(small, classes=3, access="logits")
    torch.testing.assert_close(box.query(x), torch.from_numpy(logits(x.numpy())).float())
    assert sizes == [7, 3, 3, 1]
    assert box.queries == 7


def test_no_images_are_not_asked_about() -> None:
    box = BlackBox(lambda _: 1 / 0, classes=3, access="labels")
    assert box.query(torch.zeros(0, 3, 2, 2)).dtype == torch.int64
    assert BlackBox(scores, classes=3, access="scores").query(torch.zeros(0, 3, 2, 2)).shape == (
        0,
        3,
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"access": "gradient"}, "access is 'labels', 'scores' or 'logits', not 'gradient'"),
        ({"access": "labels", "classes": 1}, "a classifier has at least 2 classes, got 1"),
        ({"access": "labels", "batch_size": 0}, "batch_size is at least 1, or None, not 0"),
        ({"access": "labels", "function": 3}, "a BlackBox wraps a function of images, not int"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(AssayError, match=line):
        BlackBox(**{"function": scores, "classes": 3, **settings})


def test_images_outside_the_range_are_refused_before_the_function_is_asked() -> None:
    box = BlackBox(lambda _: 1 / 0, classes=3, access="labels")
    with pytest.raises(AssayError, match=r"must lie in \[0, 1\]"):
        box.query(torch.full((2, 3, 2, 2), 1.5))


def test_an_attack_by_gradients_says_that_there_are_none(x: Tensor) -> None:
    attack: Attack = PGD()
    with pytest.raises(AssayError, match="pgd needs access to the gradient of the model"):
        attack(BlackBox(scores, classes=3, access="scores"), x)
