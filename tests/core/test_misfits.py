"""What is advised about images that a network cannot take, by what torch itself says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assay.core.classifier import Classifier
from assay.core.misfits import advice
from assay.errors import AssayError

GREY, COLOURS = torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("first", "x", "words"),
    [
        (nn.Conv2d(3, 2, 3), GREY, "takes 3 channels and all images are grey: save copies in col"),
        (nn.Conv2d(1, 2, 3), COLOURS, "takes one channel and the images are coloured"),
        (nn.Conv2d(4, 2, 3), COLOURS, "takes 4 channels and images have 3"),
        (nn.Conv2d(3, 2, 9), COLOURS, "images of 8×8 pixels are too small"),
        (nn.Conv2d(3, 2, 3), COLOURS[..., :1, :1], "images of 1×1 pixels are too small"),
        (nn.MaxPool2d(9), COLOURS, "images of 8×8 pixels are too small"),
        (nn.ReflectionPad2d(9), COLOURS, "images of 8×8 pixels are too small"),
        (nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), COLOURS, "--size scales them to another"),
    ],
)
def test_what_torch_says_of_them_is_known(first: nn.Module, x: torch.Tensor, words: str) -> None:
    clf = Classifier(nn.Sequential(first, nn.Flatten()), classes=("a", "b"))
    with pytest.raises(AssayError, match="the model fails on these images") as raised:
        clf.query(x)
    assert words in str(raised.value)


def test_of_what_is_not_known_nothing_is_advised() -> None:
    assert advice("the licence has run out", GREY) == ""
    assert (
        advice("expected input[2, 7, 8, 8] to have 3 channels, but got 7 channels", GREY) == ""
    ), "of a layer within"
    assert advice("Kernel size can't be greater than actual input size", GREY[0]) == "", "of texts"
    said = "Make sure that the channel dimension of the pixel values match with the one set in the "
    said += "configuration. Expected 3 but got 1."
    assert "all images are grey" in advice(said, GREY), "what transformers says"


def test_a_mean_of_another_number_of_channels() -> None:
    clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), mean=(0.5, 0.5))
    with pytest.raises(AssayError, match=r"2 values, .* 3 channels; give one value per channel$"):
        clf.query(COLOURS)
