"""One detector of several: the mean rank of their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from assay.core.embedding import Embedding
from assay.errors import unknown
from assay.ood.base import Detector, LearnsFrom
from assay.ood.needs import Need, required


class RankAverage(Detector):
    """The mean over detectors of the share of held-out inliers that score lower, ties counting
    half: from 0 to 1, whatever the units of each score are. Scores are not weighted, since weights
    would have to be chosen on outliers.

    The detectors have their default settings. What learns from held-out data itself is given half
    of the half that `calibrate` gives.

    >>> train, held = clf.embed(x[:4], y[:4]), clf.embed(x[4:], y[4:])
    >>> detector = assay.ood.RankAverage(of=("max-logit", "gen"))
    >>> fitted = detector.fit(train, calibrate=held, tpr=0.5)
    >>> fitted.score(clf.embed(torch.full_like(x[:1], 0.5))).item()  # below all held-out rows
    1.0
    """

    VERSION: ClassVar[int] = 2  # the halves of held-out rows are drawn
    learns_from: ClassVar[LearnsFrom] = "both"

    name: Literal["rank-average"] = "rank-average"
    """The method's name in configs."""
    of: tuple[str, ...] = Field(default=("gen", "knn"), min_length=2)
    """The names of the detectors."""

    @field_validator("of")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _kind(name)
        if len(set(names)) < len(names):
            raise ValueError("a detector is there twice")
        return names

    @property
    def parts(self) -> tuple[Detector, ...]:
        """The detectors, with their default settings."""
        return tuple(_kind(name).parse({}) for name in self.of)

    def reads(self) -> frozenset[Need]:
        return frozenset[Need]().union(*(part.reads() for part in self.parts))

    def layers_of(self, model: nn.Module) -> Sequence[str]:
        return [layer for part in self.parts for layer in part.layers_of(model)]

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        state: dict[str, Tensor] = {}
        for part in self.parts:
            if part.learns_from == "training":
                state |= _under(part, part.learn(required(part, e), y))
        return state

    def learn_more(self, held: Embedding, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        more = dict(state)
        held, ranked = self._parted(held)
        for part in self.parts:
            if part.learns_from == "held-out":
                more |= _under(part, part.learn(required(part, held), held.y))
            scores = part.ood_score(required(part, ranked), _own(part, more))
            more[f"{part.name}/scores"] = scores.sort().values
        return more

    def _parted(self, held: Embedding) -> tuple[Embedding, Embedding]:
        """Return what parts learn from, and what scores are ranked among."""
        learned = any(part.learns_from == "held-out" for part in self.parts)
        return held.halves() if learned else (held, held)

    def caveats(self, e: Embedding, state: Mapping[str, Tensor]) -> Sequence[str]:
        return self._caveats_of("training", e, state)

    def more_caveats(self, held: Embedding, state: Mapping[str, Tensor]) -> Sequence[str]:
        return self._caveats_of("held-out", self._parted(held)[0], state)

    def _caveats_of(self, kind: LearnsFrom, e: Embedding, state: Mapping[str, Tensor]) -> list[str]:
        """Return what the parts that learned from that kind of data say of it."""
        return [
            f"{part.name}: {note}"
            for part in self.parts
            if part.learns_from == kind
            for note in part.caveats(required(part, e), _own(part, state))
        ]

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        ranks = []
        for part in self.parts:
            own = dict(_own(part, state))
            among = own.pop("scores")
            score = part.ood_score(required(part, e), own)
            below = torch.searchsorted(among, score, right=False)
            not_above = torch.searchsorted(among, score, right=True)
            share = (below + not_above).double() / (2 * len(among))
            ranks.append(share.masked_fill(score.isnan(), torch.nan))
        return torch.stack(ranks).mean(0)


def _kind(name: str) -> type[Detector]:
    """Return the detector of a name; those of other packages are loaded if it is none of ours."""
    from assay.ood.registry import detectors

    ours = detectors.built_in()
    known = ours if name in ours else detectors()
    kind = known.get(name)
    if kind is None:
        raise ValueError(str(unknown("detector", name, known)))
    if kind.learns_from == "both":
        raise ValueError(f"{name} is made of detectors itself: name those")
    return kind


def _under(part: Detector, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part.name}/{name}": values for name, values in state.items()}


def _own(part: Detector, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    mine = f"{part.name}/"
    return {n.removeprefix(mine): values for n, values in state.items() if n.startswith(mine)}
