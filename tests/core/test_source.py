"""A part of a source: some examples, in order, whatever the batches of the whole are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from assay.core.source import Part, TensorSource
from assay.errors import AssayError


class Words:
    """Seven texts, in batches of three."""

    length = 7
    fingerprint = "words"

    def batches(self, size: int) -> Iterator[tuple[Tensor, list[str], Tensor]]:
        del size
        for some in (range(3), range(3, 6), range(6, 7)):
            ids = torch.tensor([10 * k for k in some])
            yield ids, [f"text {k}" for k in some], torch.tensor([k % 2 for k in some])


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_part_of_a_tensor(size: int) -> None:
    x, y = torch.arange(10.0).view(10, 1, 1, 1) / 10, torch.arange(10)
    part = Part(TensorSource(x, y), (0, 4, 5, 9))
    assert part.length == 4
    ids, images, labels = (torch.cat(parts) for parts in zip(*part.batches(size), strict=True))
    assert ids.tolist() == labels.tolist() == [0, 4, 5, 9]
    assert torch.equal(images, x[[0, 4, 5, 9]])


def test_a_part_of_texts_and_a_part_of_a_part() -> None:
    part = Part(Part(Words(), (1, 2, 6)), (0, 2))
    found = list(part.batches(4))
    assert [text for _, texts, _ in found for text in texts] == ["text 1", "text 6"]
    assert [place for ids, _, _ in found for place in ids.tolist()] == [10, 60]


def test_parts_differ_by_their_places_and_by_the_whole() -> None:
    x = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    parts = [Part(TensorSource(x), (0, 1)), Part(TensorSource(x), (0, 2))]
    parts.append(Part(TensorSource(1 - x), (0, 1)))
    assert len({part.fingerprint for part in parts}) == 3
    assert Part(TensorSource(x.clone()), (0, 1)).fingerprint == parts[0].fingerprint


@pytest.mark.parametrize("places", [(1, 0), (2, 2)])
def test_a_part_keeps_the_order_of_the_whole(places: tuple[int, ...]) -> None:
    with pytest.raises(AssayError, match="keeps its order, and has each example once"):
        Part(Words(), places)
