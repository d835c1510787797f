"""Tokens of a vision transformer as patches of an image, in rows and columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from assay.errors import AssayError
from assay.explain.layout import alike, channels_last, named

FEW = 8
"""Tokens that are no patches, at most: models have a class token, a distillation token, up to four
registers."""


@dataclass(frozen=True)
class Grid:
    """Where the patches are among tokens: after `prefix` others, `rows` × `columns` of them."""

    rows: int
    columns: int
    prefix: int
    """Tokens before the patches: a class token, a distillation token, registers."""

    def __len__(self) -> int:
        """Return how many tokens there are in all."""
        return self.prefix + self.rows * self.columns

    def maps(self, tokens: Tensor) -> Tensor:
        """Return the patches of tokens (N, T, D) as channels in space: (N, D, rows, columns)."""
        patches = tokens[:, self.prefix :].mT
        return patches.reshape(*patches.shape[:2], self.rows, self.columns)


@dataclass
class Sizes:
    """What a model has shown of sizes (height, width), in the last pass through it."""

    image: tuple[int, int] = (0, 0)
    """That of the images as the model takes them, after any preprocessing."""
    patches: list[tuple[int, int]] = field(default_factory=list)
    """Those of what its modules return before the first of them returns tokens (N, T, D)."""
    cut: bool = False
    """Whether tokens have been seen."""
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    """Those of the model, by name."""
    layouts: dict[tuple[int, ...], set[bool]] = field(default_factory=dict)
    """Of a shape (N, ·, ·, ·), whether modules that say so have returned it with channels last."""
    convolved: set[tuple[int, int]] = field(default_factory=set)
    """Those of what convolutions return: pixels of an image in their places, at any proportions."""
    rows: int = 0
    """How many images there are."""

    def begin(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        """Begin a pass: a forward pre-hook of the model."""
        self.rows, self.image = args[0].shape[0], (args[0].shape[-2], args[0].shape[-1])
        self.patches, self.convolved, self.cut, self.layouts = [], set(), False, {}

    def note(self, module: nn.Module, shape: Sequence[int]) -> None:
        """Note the shape of what a module has returned; windows of images, one to a row, are left
        aside."""
        if shape and shape[0] != self.rows:
            return
        if len(shape) == 4:
            if isinstance(module, nn.Conv2d):
                self.convolved.add((shape[2], shape[3]))
            last = channels_last(module, shape, self.image)
            if last is not None:
                self.layouts.setdefault(tuple(shape), set()).add(last)
            if not self.cut:
                self.patches.append((shape[1], shape[2]) if last else (shape[2], shape[3]))
        self.cut |= len(shape) == 3

    def last(self, layer: str, shape: Sequence[int]) -> bool | None:
        """Return whether a layer's output of four axes is (N, H, W, C).

        Where the layer itself does not say, such as a container, others say it that returned the
        same shape; without any it is (N, C, H, W). None where they disagree: height, width and
        channels are then as many.
        """
        own = channels_last(self.modules[layer], shape, self.image)
        if own is not None:
            return own
        found = self.layouts.get(tuple(shape), set())
        return None if len(found) > 1 else True in found

    def extent(self, layer: str, shape: Sequence[int]) -> tuple[int, int]:
        """Return height and width of a layer's output of four axes."""
        return (shape[1], shape[2]) if self.last(layer, shape) else (shape[2], shape[3])

    def whole(self, size: tuple[int, int]) -> bool:
        """Return whether a size can be that of an image in its layout: it has the proportions of
        the image, or is that of a convolution. Windows beside each other, (N, windows, pixels of
        one, C), have neither."""
        return size in self.convolved or alike(size, self.image)

    def grid(self, tokens: int, whose: str, *, merged: bool = True) -> Grid:
        """Return where the patches are among `tokens` tokens, as `fit` does.

        Raises:
            AssayError: where there is no such grid; `whose` says in it what has the tokens.
        """
        found = self.fit(tokens, merged=merged)
        if found is None:
            high, wide = self.image
            cuts = [f"{rows} × {columns}" for rows, columns in self._cuts()] or ["any number of"]
            raise AssayError(
                f"{whose} has {tokens} tokens, which are no grid of patches of an image of "
                f"{high} × {wide} pixels, cut into {cuts[-1]} patches, "
                "with or without a class token; occlusion and smoothgrad need none"
            )
        return found

    def fit(self, tokens: int, *, merged: bool = True) -> Grid | None:
        """Return where the patches are among `tokens` tokens, or None where there is no grid.

        The image was cut into what the last module before the tokens returned, a convolution in
        most models. Without such a module, or with fewer tokens than that, which some models merge
        on their way (`merged`), the patches have the proportions of the image, as many as there may
        be, and most tokens are patches.
        """
        for rows, columns in reversed(self.patches):
            if 1 < rows * columns <= tokens <= rows * columns + FEW:
                return Grid(rows, columns, prefix=tokens - rows * columns)
        if any(not merged or rows * columns <= tokens for rows, columns in self._cuts()):
            return None
        unit = max(1, math.gcd(*self.image))
        high, wide = self.image[0] // unit, self.image[1] // unit
        times = math.isqrt(tokens // max(1, high * wide))
        patches = times * times * high * wide
        if patches < 2 or not patches <= tokens <= patches + min(FEW, patches - 1):
            return None
        return Grid(times * high, times * wide, prefix=tokens - patches)

    def _cuts(self) -> list[tuple[int, int]]:
        """Return the sizes that are not the image's own, which says nothing about patches."""
        return [size for size in self.patches if size != self.image]


@contextmanager
def measured(model: nn.Module, *, grid: bool = False) -> Iterator[Sizes]:
    """Note sizes in every pass through the model: those of the last are in what is yielded.

    With `grid` it is one pass, of which only what `Sizes.grid` needs is noted: hooks take a fifth
    of the time that a small transformer takes for one image, and are gone once there are tokens.
    """
    sizes = Sizes() if grid else Sizes(modules=named(model))

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.note(module, output.shape)
            if grid and sizes.cut:
                remove()

    handles = [model.register_forward_pre_hook(sizes.begin)]

    def remove() -> None:
        while handles:
            handles.pop().remove()

    try:
        handles += [module.register_forward_hook(note) for module in model.modules()]
        yield sizes
    finally:
        remove()
