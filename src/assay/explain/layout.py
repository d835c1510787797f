"""Where a module's output has its channels: on the second axis, as torch has it, or on the last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

FIRST = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)


def named(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a model by their names.

    Those inside of what `torch.compile` has wrapped have two: its `_orig_mod.` may be left out.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    return {name.replace("_orig_mod.", ""): module for name, module in modules.items()} | modules


def channels_last(module: nn.Module, shape: Sequence[int], image: tuple[int, int]) -> bool | None:
    """Return whether what a module returned is (N, H, W, C), or None where it does not say.

    A linear layer works on the last axis, and so does a layer norm; of other norms the number of
    weights tells which axis has the channels, where only one axis is of that size.

    Args:
        module: which returned it.
        shape: of what it returned, four axes.
        image: height and width of the image. A linear layer may also mix the columns of
            (N, C, H, W): then the last two axes have the proportions of the image, and the two
            before do not.
    """
    if isinstance(module, FIRST):
        return False
    if isinstance(module, nn.Linear):
        return not alike(shape[2:], image) or alike(shape[1:3], image)
    if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1:
        return True
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim == 1 and len(weight) > 1:
        second, last = (size == len(weight) for size in (shape[1], shape[3]))
        return last if second != last else None
    return None


def alike(size: Sequence[int], image: tuple[int, int]) -> bool:
    """Return whether a size (h, w) has the proportions of the image, to a pixel."""
    return abs(size[0] * image[1] - size[1] * image[0]) <= max(image)
