"""What an explainer returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True, repr=False)
class Attribution:
    """Saliency maps: what in each image speaks for a class. It behaves as an array of `values`.

    Attributes:
        values: float32 (N, H, W), or (N, T) per token; each row scaled to [0, 1], empty rows 0.
        raw: the unscaled attribution, at the resolution the method works in.
        empty: bool (N,), rows with nothing positive, or the same value everywhere: such a map
            explains nothing.
        layer: the layer that was explained, by its name in the model.
        targets: int64 (N,), the class each row explains.
        spans: for text, the (start, end) characters of each token; None for images.
        undefined: bool (N,), rows where the method gave NaN or infinity: their `raw` is 0, and they
            are empty too. None where there are none.

    >>> maps = assay.explain.GradCAM()(clf, x, targets=y)
    >>> maps.values.shape, maps.layer
    (torch.Size([12, 8, 8]), '1')
    """

    values: Tensor
    raw: Tensor
    empty: Tensor
    layer: str
    targets: Tensor
    spans: tuple[tuple[tuple[int, int], ...], ...] | None = None
    undefined: Tensor | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array: np.ndarray[Any, Any] = self.values.cpu().numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        size = " × ".join(str(n) for n in self.values.shape[1:])
        return (
            f"Attribution({len(self)} maps of {size}, layer {self.layer!r}, "
            f"{int(self.empty.sum())} empty)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what a record keeps of it: everything but the arrays."""
        return {
            "n": len(self),
            "shape": list(self.values.shape),
            "layer": self.layer,
            "empty": int(self.empty.sum()),
            "undefined": 0 if self.undefined is None else int(self.undefined.sum()),
        }

    def plot(self, images: Tensor | None = None, columns: int = 8) -> Any:
        """Return a matplotlib figure of the first maps, over `images` (N, C, H, W) if given."""
        from assay.report.figures import maps

        shown = None if images is None else images[: 2 * columns].cpu().numpy()
        return maps(self.values[: 2 * columns].cpu().numpy(), shown, columns=columns)

    def _repr_html_(self) -> str:
        from assay.report.figures import inline_svg

        return inline_svg(self.plot())
