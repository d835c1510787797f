"""Which tokens are patches, and in how many rows and columns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.errors import AssayError
from assay.explain.tokens import Grid, Sizes, measured


@pytest.mark.parametrize(
    ("image", "patches", "tokens", "grid"),
    [
        ((224, 224), [(14, 14)], 197, (14, 14, 1)),  # a class token
        ((224, 224), [(14, 14)], 196, (14, 14, 0)),
        ((224, 224), [(14, 14)], 198, (14, 14, 2)),  # and one of the teacher
        ((224, 224), [(16, 16)], 261, (16, 16, 5)),  # and registers
        ((30, 30), [(7, 7)], 50, (7, 7, 1)),  # what is left over at the border is cut off
        ((32, 64), [(4, 8)], 33, (4, 8, 1)),
        ((32, 32), [(16, 16), (8, 8)], 65, (8, 8, 1)),  # a stem of convolutions
        ((32, 32), [(32, 32), (16, 16)], 256, (16, 16, 0)),  # a convolution, pooled
        ((32, 32), [(4, 4)], 21, (4, 4, 5)),  # and not 4.6 x 4.6
        ((2, 1), [(2, 1)], 3, (2, 1, 1)),
        ((32, 32), [], 65, (8, 8, 1)),  # patches by a linear layer: the image's proportions
        ((32, 32), [(32, 32)], 65, (8, 8, 1)),  # after a module that normalises it
        ((32, 64), [], 129, (8, 16, 1)),
        ((48, 32), [], 97, (12, 8, 1)),
    ],
)
def test_patches_are_found(
    image: tuple[int, int],
    patches: list[tuple[int, int]],
    tokens: int,
    grid: tuple[int, int, int],
) -> None:
    found = Sizes(image, patches).grid(tokens, "it", merged=False)
    assert (found.rows, found.columns, found.prefix) == grid
    assert len(found) == tokens


@pytest.mark.parametrize(
    ("image", "patches", "tokens"),
    [
        ((32, 32), [(8, 8)], 80),  # too many others
        ((32, 32), [(8, 8)], 32),
        ((32, 32), [], 64 - 1),  # 7 x 7 and 14 others
        ((32, 32), [], 8),  # 2 x 2 and as many others
        ((32, 32), [], 1),
        ((32, 48), [], 5),
        ((32, 32), [(1, 1)], 1),
    ],
)
def test_what_is_no_grid_is_refused(
    image: tuple[int, int], patches: list[tuple[int, int]], tokens: int
) -> None:
    with pytest.raises(AssayError, match=f"it has {tokens} tokens, which are no grid of patches"):
        Sizes(image, patches).grid(tokens, "it", merged=False)


@pytest.mark.parametrize(("tokens", "grid"), [(16, (4, 4, 0)), (17, (4, 4, 1)), (4, (2, 2, 0))])
def test_where_tokens_may_have_been_merged_there_are_fewer(
    tokens: int, grid: tuple[int, int, int]
) -> None:
    sizes = Sizes((32, 32), [(8, 8)])
    assert sizes.fit(tokens, merged=False) is None
    assert sizes.fit(tokens) == Grid(*grid)
    assert sizes.fit(80) is None  # more there never are


def test_patches_are_laid_row_by_row() -> None:
    tokens = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 3)
    maps = Grid(2, 3, prefix=2).maps(tokens)
    assert tuple(maps.shape) == (1, 3, 2, 3)
    assert maps[0, 1].tolist() == [[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]]


class Cut(nn.Module):
    """Two convolutions, tokens, and an image of other rows and columns among them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 2, stride=2)
        self.second = nn.Conv2d(4, 4, 2, stride=2)
        self.norm = nn.LayerNorm(4)
        self.later = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.second(self.first(x)).flatten(2).mT)
        return self.later(tokens.mT.unflatten(2, (1, -1)))


def test_sizes_are_those_before_the_first_tokens_of_the_last_pass() -> None:
    model = Cut()
    with measured(model) as sizes:
        model(torch.rand(1, 3, 16, 16))
        model(torch.rand(1, 3, 8, 12))
    assert sizes.image == (8, 12)
    assert sizes.patches == [(4, 6), (2, 3)]
    model(torch.rand(1, 3, 16, 16))
    assert sizes.image == (8, 12), "a hook was left behind"


def test_for_a_grid_one_pass_is_noted_up_to_the_tokens() -> None:
    model = Cut()
    seen: list[int] = []
    model.later.register_forward_hook(lambda *_: seen.append(hooks(model)))
    with measured(model, grid=True) as sizes:
        assert hooks(model) > 5
        model(torch.rand(1, 3, 8, 12))
    assert sizes.image == (8, 12)
    assert sizes.patches == [(4, 6), (2, 3)]
    assert seen == [1]  # the test's own
    with measured(model, grid=True):
        pass  # a model that is not run, or has no tokens
    assert hooks(model) == 1


def hooks(model: nn.Module) -> int:
    """How many hooks there are in a model."""
    modules = list(model.modules())
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
