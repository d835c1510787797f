"""What does not fit in memory is asked in smaller parts; what cannot be, gets one clear line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay import BlackBox, NormBall, attacks, explain
from assay.attacks.losses import cross_entropy
from assay.attacks.methods.gradient import uphill
from assay.core import memory
from assay.core.classifier import Classifier
from assay.core.fast import fast_copy
from assay.core.memory import Tally, in_parts, is_out_of_memory
from assay.core.oracle import gradient
from assay.errors import AssayError

BEYOND_ANY_MACHINE = 2**48
"""Bytes: more than a process can address."""


class Small(nn.Module):
    """A linear classifier with memory for `fits` rows; a real allocation fails beyond them."""

    def __init__(self, fits: int, backward_fits: int = 1000) -> None:
        super().__init__()
        self.fits, self.backward_fits = fits, backward_fits
        self.seen: list[int] = []
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(12, 3, generator=generator))

    def __deepcopy__(self, memo: object) -> Small:
        raise TypeError("one of its kind")  # so that there is no fast copy

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.fits:
            torch.empty(BEYOND_ANY_MACHINE, dtype=torch.uint8)
        logits = (x.flatten(1) - 0.5) @ self.weight
        if logits.requires_grad:
            logits.register_hook(self._backward)
        return logits

    def _backward(self, slope: Tensor) -> None:
        if len(slope) > self.backward_fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def x() -> Tensor:
    return torch.rand(21, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def test_a_query_that_does_not_fit_is_halved_until_it_does(x: Tensor) -> None:
    model = Small(fits=3)
    classifier = Classifier(model)
    expected = (x.flatten(1) - 0.5) @ model.weight
    torch.testing.assert_close(classifier.query(x), expected)
    # 21, 10 and 5 are too many; 2 are not, and stay the size for all that is left.
    assert model.seen == [21, 10, 5] + [2] * 10 + [1]
    assert classifier.queries == 21  # rows, not attempts


def test_the_size_that_fits_is_remembered_by_shape(x: Tensor) -> None:
    model = Small(fits=3)
    classifier = Classifier(model)
    classifier.query(x)
    model.seen.clear()
    classifier.query(x[:5])
    assert model.seen == [2, 2, 1]
    model.seen.clear()
    classifier.query(x[:3].reshape(3, 12, 1, 1))  # of another shape, nothing is known
    assert model.seen == [3]


def test_the_fast_copy_halves_too(x: Tensor) -> None:
    class Wide(nn.Module):
        """Too wide for more than 8 rows, which is what the copy is checked on."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            torch.empty(BEYOND_ANY_MACHINE if len(x) > 8 else 1, dtype=torch.uint8)
            return self.conv(x).flatten(1)

    classifier = Classifier(Wide())
    copy, report = fast_copy(classifier, x)
    assert report.used
    torch.testing.assert_close(copy.query(x), classifier.query(x))
    assert copy.queries == 21
    assert list(copy.tally.fits.values()) == [5]


def test_gradients_that_do_not_fit_are_halved_and_counted_once(x: Tensor) -> None:
    model = Small(fits=1000, backward_fits=6)
    classifier = Classifier(model)
    y = torch.arange(21) % 3
    with classifier.borrowed():
        logits, slope = uphill(classifier, x, y, cross_entropy)
        assert model.seen == [21, 10] + [5] * 4 + [1]
        assert classifier.queries == 21
        model.backward_fits = 1000
        expected_logits, expected_slope = gradient(classifier, x, y, cross_entropy)
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(slope, expected_slope)
    model.seen.clear()
    classifier.query(x)
    assert model.seen == [21]  # a query takes less memory than a gradient


def test_an_attack_on_a_model_with_little_memory_is_the_same_attack(x: Tensor) -> None:
    attack = attacks.PGD(eps=0.3, steps=4)
    roomy = attack(Classifier(Small(fits=1000)), x, seed=3)
    tight = attack(Classifier(Small(fits=7, backward_fits=3)), x, seed=3)
    assert roomy.success.sum() > 10
    assert torch.equal(tight.success, roomy.success)
    torch.testing.assert_close(tight.adversarial, roomy.adversarial)
    assert torch.equal(tight.queries, roomy.queries)
    assert NormBall(eps=0.3).contains(x, tight.adversarial).all()


def test_one_image_that_alone_does_not_fit_is_one_clear_line(x: Tensor) -> None:
    classifier = Classifier(Small(fits=0))
    with pytest.raises(AssayError) as caught:
        classifier.query(x)
    line = str(caught.value)
    assert "\n" not in line
    assert "a single image of shape (3, 2, 2) does not fit in memory" in line
    assert is_out_of_memory(caught.value.__cause__)
    assert Classifier(Small(fits=0), batch_size=1).query(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("attack", [attacks.PGD(steps=2), attacks.Square(queries=5)])
def test_an_attack_on_it_is_one_clear_line_too(x: Tensor, attack: attacks.Attack) -> None:
    """Whether the first image does not fit, or one gradient, or the second question."""
    with pytest.raises(AssayError, match=r"a single image of shape .* does not fit in memory"):
        attack(Classifier(Small(fits=0)), x)
    box = BlackBox(Small(fits=0).eval(), classes=3, access="logits")
    with pytest.raises(AssayError, match=r"a single image of shape .* does not fit in memory"):
        attacks.Square(queries=5)(box, x)
    if attack.needs == "gradient":
        with pytest.raises(AssayError, match=r"a single image of shape .* does not fit in memory"):
            attack(Classifier(Small(fits=1000, backward_fits=0)), x)


def test_what_is_not_memory_is_not_asked_again(x: Tensor) -> None:
    class Broken(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({len(x)}x3)")

    model = Broken()
    with pytest.raises(AssayError, match="RuntimeError: mat1"):
        Classifier(model).query(x)
    assert model.calls == 1


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), True),
        (MemoryError(), True),
        (RuntimeError("shape '[2]' is invalid for input of size 3"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_of_memory(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


def test_parts_are_joined_in_order_and_limits_are_kept_by_kind() -> None:
    tally = Tally()
    rows, other = torch.arange(7.0)[:, None], torch.arange(7)

    def both(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if len(a) > 3:
            raise MemoryError
        return a * 2, b + 1

    doubled, next_ = in_parts(both, 5, rows, other, tally=tally, kind="gradient")
    assert torch.equal(doubled, rows * 2)
    assert torch.equal(next_, other + 1)
    assert tally.fits == {("gradient", (1,)): 2}


def test_a_batch_size_is_at_least_one() -> None:
    with pytest.raises(AssayError, match="batch_size is at least 1, or None, not -3"):
        Classifier(Small(fits=1), batch_size=-3)


# -- before the system kills -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "takes", "free", "sizes"),
    [
        (256, 100, 400, [1, 2, 2, 1]),  # half of what is free holds two rows; one is tried first
        (256, 100, 10, [1, 1, 1, 1, 1, 1]),
        (256, 100, 10_000, [1, 5]),
        (256, None, 400, [1, 5]),  # nothing is known
        (256, 100, None, [1, 5]),
        (255, 100, 10, [5]),  # small rows are not measured
    ],
)
def test_large_rows_are_measured_and_no_more_are_evaluated_than_fit(
    side: int,
    takes: int | None,
    free: int | None,
    sizes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(call: Callable[[], object]) -> int | None:
        call()
        return takes

    monkeypatch.setattr(memory, "peak_of", measured)
    monkeypatch.setattr(memory, "available", lambda: free)
    seen, tally, x = [], Tally(), torch.rand(5, 1, 256, side)

    def double(part: Tensor) -> Tensor:
        seen.append(len(part))
        tally.queries += len(part)
        return 2 * part

    assert torch.equal(in_parts(double, 8, x, tally=tally), 2 * x)
    assert seen == sizes
    assert tally.queries == 5
    seen.clear()
    in_parts(double, 8, x, tally=tally)  # measured once
    assert seen == (sizes[1:] if side == 256 else sizes)


def test_a_large_row_that_does_not_fit_when_tried_is_one_clear_line() -> None:
    def fails(part: Tensor) -> Tensor:
        raise MemoryError(f"{len(part)} at a time")

    with pytest.raises(AssayError, match="a single image of shape"):
        in_parts(fails, 8, torch.rand(3, 1, 256, 256))


@pytest.mark.skipif(memory.available() is None, reason="the system does not say")
def test_the_peak_is_that_of_the_call_alone() -> None:
    held = torch.ones(40_000_000, dtype=torch.uint8)
    for _ in range(2):  # an earlier peak, as high, counts for nothing
        found = memory.peak_of(lambda: torch.ones(60_000_000, dtype=torch.uint8))
        assert found is None or 50e6 < found < 90e6
    assert len(held) == 40_000_000
    assert memory.available() > 0


def test_the_fast_copy_is_checked_on_large_images_one_at_a_time() -> None:
    seen = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            if type(x) is Tensor:
                seen.append(len(x))
            return self.conv(x).mean((2, 3))

    classifier = Classifier(Watched())
    fast_copy(classifier, torch.rand(3, 1, 700, 700))
    assert set(seen) == {1}


def test_what_keeps_or_counts_its_calls_is_not_called_in_vain() -> None:
    calls, x = [], torch.rand(3, 1, 256, 256)
    box = BlackBox(
        lambda part: calls.append(len(part)) or part.mean((2, 3)) * [1, 2],
        classes=2,
        access="logits",
    )
    assert box.query(x).shape == (3, 2)
    assert calls == [3]
    classifier = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)))
    assert classifier.embed(x).logits.shape == (3, 3)
    assert torch.equal(classifier.embed(x).logits, classifier.query(x))
    seen = Classifier(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert len(explain.GradCAM(layer="0")(seen, x).raw) == 3
