"""The search for neighbours: exact in whatever groups it looks, and made once for an embedding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from assay.core.embedding import Embedding
from assay.core.head import Head
from assay.ood import KNN, RankAverage, neighbours


def made(n: int, seed: int) -> Embedding:
    h = torch.rand(n, 5, generator=torch.Generator().manual_seed(seed))
    head = Head(torch.eye(3, 5), torch.zeros(3))
    return Embedding(head(h), h, head=head)


@pytest.mark.parametrize("levels", [1000.0, 4.0], ids=["apart", "with ties"])
@pytest.mark.parametrize("columns", [50, 50 * 64, 51 * 64, 51 * 64 + 63, 100 * 64 + 1])
def test_the_kth_largest_is_found_in_groups(columns: int, levels: float) -> None:
    draw = torch.Generator().manual_seed(columns)
    values = (torch.rand(40, columns, generator=draw) * levels).round() / levels
    for k in (1, 2, 50):
        found = values.gather(1, neighbours.kth_largest(values, k)[:, None])
        torch.testing.assert_close(found, values.sort(1, descending=True).values[:, k - 1 : k])


@given(
    n=st.integers(1, 40), k=st.integers(1, 40), seed=st.integers(0, 999), scale=st.floats(0.01, 100)
)
def test_the_distance_is_that_of_the_kth_neighbour_whatever_the_order_and_the_length(
    n: int, k: int, seed: int, scale: float
) -> None:
    k = min(n, k)
    train, e = made(n, seed), made(6, seed + 1000)
    found = KNN(k=k).fit(train).score(e)
    assert train.features is not None
    assert e.features is not None
    far = torch.cdist(normalize(e.features.double()), normalize(train.features.double()))
    torch.testing.assert_close(found.double(), far.sort(1).values[:, k - 1], atol=2e-6, rtol=1e-5)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    other = Embedding(train.logits, train.features[order] * scale, head=train.head)
    torch.testing.assert_close(KNN(k=k).fit(other).score(e), found, atol=2e-6, rtol=1e-5)
    nearer = KNN(k=max(1, k - 1)).fit(train).score(e)
    assert bool((nearer <= found + 1e-6).all())


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []

    def counting(features: Tensor, bank: Tensor, k: int, search=neighbours.distances) -> Tensor:  # type: ignore[no-untyped-def]
        counted.append(len(features))
        found: Tensor = search(features, bank, k)
        return found

    monkeypatch.setattr(neighbours, "distances", counting)
    return counted


def test_a_rank_average_looks_at_what_its_part_has_found(searches: list[int]) -> None:
    train, held, e = made(90, 0), made(60, 1), made(70, 2)
    knn = KNN().fit(train)
    both = RankAverage(of=("max-logit", "knn")).fit(train, calibrate=held)
    searches.clear()
    scores = knn.score(e)
    both.score(e)
    assert searches == [70]
    scores.zero_()  # what is returned is the caller's own
    assert float(knn.score(e).min()) > 0


def test_another_bank_k_or_value_is_looked_for_anew(searches: list[int]) -> None:
    e = made(20, 2)
    first, other, third = KNN(k=3).fit(made(90, 0)), KNN(k=3).fit(made(90, 1)), KNN(k=4)
    before = first.score(e)
    assert not torch.equal(before, other.score(e))
    assert not torch.equal(before, third.fit(made(90, 0)).score(e))
    assert torch.equal(before, first.score(e))
    assert len(searches) == 4
    assert e.features is not None
    e.features[:10].mul_(torch.tensor([1.0, 2, 3, 4, 5]))  # in place
    after = first.score(e)
    assert not torch.equal(before[:10], after[:10])
    assert torch.equal(before[10:], after[10:])


def test_a_gradient_goes_through_it() -> None:
    state = KNN(k=3).fit(made(90, 0)).state
    h = torch.rand(4, 5, requires_grad=True)
    for _ in range(2):
        KNN(k=3).ood_score(Embedding(torch.zeros(4, 3), h), state).sum().backward()  # type: ignore[no-untyped-call]
    assert h.grad is not None
    assert bool((h.grad != 0).any())
