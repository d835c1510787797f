"""How much of a pretrained encoder is trained: all, low-rank additions, biases, or a head alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from assay.config import Config, Number
from assay.errors import AssayError

if TYPE_CHECKING:
    from torch import nn

    from assay.core.random import Stream
    from assay.models.textnet import TextNet

ATTENTION = r"(?i).*(attention|attn)\b.*\..+"
"""The linear layers below a module that is called so, whatever they are called themselves: query in
BERT, query_proj in DeBERTa, in_proj in its first version, q in MPNet, Wqkv in ModernBERT."""


class Adaptation(Config):
    """What is trained of a `TextNet`: its encoder is prepared once, before training."""

    name: str
    """The way of adapting."""

    def prepare(self, net: TextNet, stream: Stream) -> None:
        """Freeze what stays, and add what is to be added; initial values come from `stream`."""
        raise NotImplementedError


class Full(Adaptation):
    """Every weight, that of the encoder too."""

    name: Literal["full"] = "full"
    """The way of adapting."""

    def prepare(self, net: TextNet, stream: Stream) -> None:
        del stream
        net.requires_grad_(True)
        # the pooler is not used: it would have no gradient
        for name, parameter in net.encoder.named_parameters():
            if name.startswith("pooler."):
                parameter.requires_grad_(False)


class Head(Adaptation):
    """Nothing but the new head."""

    name: Literal["head"] = "head"
    """The way of adapting."""

    def prepare(self, net: TextNet, stream: Stream) -> None:
        del stream
        net.encoder.requires_grad_(False)


class BitFit(Adaptation):
    """The biases of the encoder, and the head (Ben Zaken et al. 2022, "BitFit")."""

    name: Literal["bitfit"] = "bitfit"
    """The way of adapting."""

    def prepare(self, net: TextNet, stream: Stream) -> None:
        del stream
        for name, parameter in net.encoder.named_parameters():
            own = name.rpartition(".")[2] == "bias" and not name.startswith("pooler.")
            parameter.requires_grad_(own)


class LoRA(Adaptation):
    """Low-rank additions to linear layers, W + α/r · B A, and the head (Hu et al. 2022).

    Additions to all linear layers, those of the MLP too, lose least (Schulman et al. 2025, "LoRA
    without regret"), with about ten times the learning rate of full fine-tuning.
    """

    VERSION: ClassVar[int] = 2  # of attention every linear layer, by whatever name

    name: Literal["lora"] = "lora"
    """The way of adapting."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """r: the rank of an addition."""
    alpha: Annotated[int, Field(ge=1)] = 16
    """α: an addition is multiplied by α / r."""
    layers: Literal["all", "attention"] = "all"
    """The linear layers that are added to: all of the encoder's, or those of attention."""
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of what an addition reads that is dropped in training."""

    def prepare(self, net: TextNet, stream: Stream) -> None:
        net.encoder.requires_grad_(False)
        try:
            import peft
        except ImportError as error:
            raise AssayError("LoRA needs the package peft: pip install 'assay[text]'") from error
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            # never the head: it is trained itself, and peft's "all-linear" would adapt it
            target_modules=_named_layers(net.encoder, self.layers),
            bias="none",
        )
        with stream.seeding():
            peft.inject_adapter_in_model(config, net.encoder)


def _named_layers(encoder: nn.Module, which: Literal["all", "attention"]) -> list[str]:
    """Return the names of the encoder's linear layers, less those of a pooler.

    Raises:
        AssayError: there are none.
    """
    from torch import nn

    linear = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith("pooler.")
    ]
    chosen = linear if which == "all" else [n for n in linear if re.fullmatch(ATTENTION, n)]
    if not chosen:
        raise AssayError(f"LoRA finds no linear layers ({which}) in {type(encoder).__name__}")
    return chosen


AnyAdaptation = Annotated[Full | Head | BitFit | LoRA, Field(discriminator="name")]
"""What may be trained of an encoder."""
