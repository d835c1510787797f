"""What vision transformers are made of: the torch side of the config in `vit`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.models.vit import ViT


class VisionTransformer(nn.Module):
    """The network of a `ViT` config: (N, C, H, W) to logits (N, classes)."""

    def __init__(self, config: ViT, in_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = in_shape
        stages: list[nn.Module] = []
        for after in config.stem:
            conv = nn.Conv2d(channels, after, 3, stride=2, padding=1, bias=False)
            stages += [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            channels = after
        self.stem = nn.Sequential(*stages)
        side = config.patch // 2 ** len(config.stem)
        self.patches = nn.Conv2d(channels, config.width, side, stride=side)
        tokens = (height // config.patch) * (width // config.patch)
        self.token: nn.Parameter | None = None
        if config.pool == "class":
            self.token = nn.Parameter(torch.zeros(1, 1, config.width))
            tokens += 1
        self.positions = nn.Parameter(torch.empty(1, tokens, config.width).normal_(0, 0.02))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, classes)
        nn.init.normal_(self.head.weight, 0, 0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(self.stem(x)).flatten(2).transpose(1, 2)  # (N, T, D)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = self.norm(self.blocks(self.dropout(x + self.positions)))
        x = x.mean(1) if self.token is None else x[:, 0]
        return self.head(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Self-attention, then two linear layers; each normalises first and is added to its input."""

    def __init__(self, config: ViT) -> None:
        super().__init__()
        inner = max(1, round(config.mlp_ratio * config.width))
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            linear(config.width, inner),
            nn.GELU(),
            nn.Dropout(config.dropout),
            linear(inner, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017), by the fused kernel or step by step."""

    def __init__(self, config: ViT) -> None:
        super().__init__()
        self.heads = config.heads
        self.fused = config.fused
        self.query = linear(config.width, config.width)
        self.key = linear(config.width, config.width)
        self.value = linear(config.width, config.width)
        self.out = linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (N, heads, T, D / heads)
            for part in (self.query, self.key, self.value)
        )
        if self.fused:
            y = F.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.mT / query.shape[-1] ** 0.5
            y = scores.softmax(-1) @ value
        return self.dropout(self.out(y.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


def linear(before: int, after: int) -> nn.Linear:
    """Return a linear layer with Xavier's weights (Glorot & Bengio 2010) and no bias yet."""
    made = nn.Linear(before, after)
    nn.init.xavier_uniform_(made.weight)
    nn.init.zeros_(made.bias)
    return made
