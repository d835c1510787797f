"""Randomness that is passed, never ambient.

A `Stream` is a seed and a path of names. What it draws for row `i` depends on the stream, on the
row's own index and on nothing else: not on the batch the row sits in, nor on how many rows there
are, nor on the device (normal draws agree between devices to float32 rounding, all others to the
bit). Per-row numbers come from SplitMix64 (Steele, Lea & Flood 2014, "Fast
splittable pseudorandom number generators"), one generator per row, computed for all rows at once
in int64 arithmetic, which wraps the same way on every device.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay.errors import AssayError

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # the odd constant of SplitMix64, as a signed int64
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True)
class Stream:
    """A named source of random numbers: `Stream(seed).child("train", "order", epoch)`.

    >>> stream = assay.Stream(0)
    >>> stream.child("train").integer() == assay.Stream(0).child("train").integer()
    True
    >>> stream.child("train").integer() == stream.child("test").integer()
    False
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def child(self, *names: str | int) -> Stream:
        """Return the stream below this one; different names give independent streams."""
        return Stream(self.seed, self.path + names)

    def integer(self) -> int:
        """Return this stream's 63-bit integer, for seeding a library's own generator."""
        # numpy's 3 must draw what Python's 3 draws, though their repr differ
        names = [name if isinstance(name, str) else operator.index(name) for name in self.path]
        try:
            seed = operator.index(self.seed)
        except TypeError as error:
            raise AssayError(f"a seed is a whole number, not {self.seed!r}") from error
        text = json.dumps([seed, *names])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

    @contextmanager
    def seeding(self, device: torch.device | str = "cpu") -> Iterator[None]:
        """Seed torch's own generators from this stream, and put them back on the way out.

        For what can only draw from those: initial weights and dropout.
        """
        device = torch.device(device)
        forked = [device] if device.type == "cuda" else []
        mps = torch.mps.get_rng_state() if device.type == "mps" else None
        with torch.random.fork_rng(devices=forked):
            torch.default_generator.manual_seed(self.integer())
            for one in forked:
                with torch.cuda.device(one):
                    torch.cuda.manual_seed(self.integer())
            if mps is not None:
                torch.mps.manual_seed(self.integer())
            try:
                yield
            finally:
                if mps is not None:
                    torch.mps.set_rng_state(mps)

    def numpy(self) -> np.random.Generator:
        """Return a fresh numpy generator; calling it again starts over."""
        return np.random.default_rng(self.integer())

    def torch(self, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a fresh torch generator; calling it again starts over."""
        return torch.Generator(device=device).manual_seed(self.integer())

    def rows(self, ids: Tensor | Sequence[int]) -> Rows:
        """Return one generator per row; `ids` are the rows' indices in their data set, (N,)."""
        index = torch.as_tensor(ids, dtype=torch.int64)
        start = _mix(index * _GAMMA + self.integer())
        return Rows(start, torch.zeros_like(start), index)


class Rows:
    """One random generator per row of a batch. Indexing keeps the rows' own states.

    Attributes:
        ids: int64 (N,), the rows' indices in their data set.
    """

    def __init__(self, state: Tensor, drawn: Tensor, ids: Tensor) -> None:
        self._state = state
        self._drawn = drawn  # how many numbers each row has used
        self.ids = ids

    def __len__(self) -> int:
        return len(self._state)

    def __getitem__(self, keep: Tensor) -> Rows:
        """Return the generators of the rows that `keep` (a mask or indices) selects."""
        keep = keep.to(self._state.device)
        return Rows(self._state[keep], self._drawn[keep], self.ids[keep])

    def to(self, device: torch.device | str) -> Rows:
        """Return the same generators on `device`: they draw the same numbers there."""
        return Rows(self._state.to(device), self._drawn.to(device), self.ids.to(device))

    def repeat(self, times: int) -> Rows:
        """Return `times` independent generators per row, grouped by row: (N * times,)."""
        children = torch.arange(1, times + 1, device=self._state.device, dtype=torch.int64)
        state = _mix(_mix(self._state + self._drawn)[:, None] ^ (children * _MIX_1)).flatten()
        self._drawn = self._drawn + 1
        return Rows(state, torch.zeros_like(state), self.ids.repeat_interleave(times))

    def _bits(self, count: int) -> Tensor:
        """Return the next `count` 64-bit numbers of every row, (N, count) int64."""
        steps = torch.arange(1, count + 1, device=self._state.device, dtype=torch.int64)
        start = self._state + self._drawn * _GAMMA
        self._drawn = self._drawn + count
        return _mix_(start[:, None] + steps.mul_(_GAMMA))

    def _quarters(self, count: int) -> Tensor:
        """Return the next `count` 16-bit numbers of every row, (N, count) int16."""
        return self._bits((count + 3) // 4).view(torch.int16)[:, :count]

    def uniform(self, shape: Sequence[int] = (), low: float = 0.0, high: float = 1.0) -> Tensor:
        """Draw from [low, high), to float32 rounding: float32 (N, *shape)."""
        bits = self._bits(math.prod(shape))
        unit = ((bits >> 40) & 0xFFFFFF).to(torch.float32).mul_(2.0**-24)
        return unit.mul_(high - low).add_(low).view(len(self), *shape)

    def coarse(self, shape: Sequence[int] = ()) -> Tensor:
        """Draw from [0, 1) in steps of 2**-16, at a quarter of the price of `uniform`: float32
        (N, *shape). Good for decisions, of which an attack by populations takes millions."""
        count = math.prod(shape)
        return (
            self._quarters(count).to(torch.float32).mul_(2.0**-16).add_(0.5).view(len(self), *shape)
        )

    def chance(self, probability: Tensor, count: int) -> Tensor:
        """Draw what happens with a probability, in steps of 2**-16, `count` times for each of
        float32 (N, M): 1.0 where it does, float32 (N, M, count)."""
        rows = probability.shape[1]
        drawn = self._quarters(rows * count).view(len(self), rows, count)
        limit = (probability * 2.0**16).round().sub_(2**15)[..., None]
        happens = torch.empty(drawn.shape, device=drawn.device)
        return torch.lt(drawn, limit, out=happens)

    def normal(self, shape: Sequence[int] = ()) -> Tensor:
        """Draw from the standard normal (Box & Muller 1958): float32 (N, *shape)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        unit = self.uniform((2, half))
        radius = torch.sqrt(-2.0 * torch.log1p(-unit[:, 0]))
        angle = 2.0 * math.pi * unit[:, 1]
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return both[:, :count].reshape(len(self), *shape)

    def integers(self, high: int, shape: Sequence[int] = ()) -> Tensor:
        """Draw whole numbers from 0 to high - 1: int64 (N, *shape); 0 < `high` < 2**31."""
        bits = (self._bits(math.prod(shape)) >> 32) & 0xFFFFFFFF
        return ((bits * high) >> 32).view(len(self), *shape)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64."""
    return _mix_(z.clone())


def _mix_(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64, in place; a mask makes shifts of a signed int64 logical."""
    half = torch.empty_like(z)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        z ^= torch.bitwise_right_shift(z, shift, out=half).bitwise_and_((1 << 64 - shift) - 1)
        z *= factor
    z ^= torch.bitwise_right_shift(z, 31, out=half).bitwise_and_((1 << 33) - 1)
    return z
