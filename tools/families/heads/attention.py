"""Gates and attention: of channels, of positions, of patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.families.heads.parts import CHANNELS, CLASSES, Head, between, conv, ending, function, stem

_HEADS = 4


class SqueezeExcite(nn.Module):
    """Channels gated by what all positions say."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(CHANNELS, 4, 1), nn.Conv2d(4, CHANNELS, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return x * gate


class ChannelsThenPositions(nn.Module):
    """Channels gated by average and maximum over positions, then positions by those over channels (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Conv2d(CHANNELS, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, CHANNELS, 1, bias=False)
        self.channels, self.positions = nn.Sequential(*shared), conv(2, 1, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pools = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        x = x * torch.sigmoid(self.channels(pools[0]) + self.channels(pools[1]))
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.positions(summary))


class AttentionPooling(nn.Module):
    """Positions weighted by attention, as in learning from multiple instances (Ilse et al. 2018)."""

    def __init__(self, gated: bool = False) -> None:
        super().__init__()
        self.values, self.gates = nn.Linear(CHANNELS, 8), nn.Linear(CHANNELS, 8) if gated else None
        self.weigh, self.head = nn.Linear(8, 1), nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = _patches(x)
        hidden = torch.tanh(self.values(patches))
        if self.gates is not None:
            hidden = hidden * torch.sigmoid(self.gates(patches))
        logits: Tensor = self.head((self.weigh(hidden).softmax(1) * patches).sum(1))
        return logits


class SelfAttention(nn.Module):
    """Patches that attend to each other, and a residual; ``fused`` is PyTorch's one operator for it."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.project, self.out, self.fused = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS), fused

    def forward(self, patches: Tensor) -> Tensor:
        n, length, _ = patches.shape
        split = self.project(patches).reshape(n, length, 3, _HEADS, CHANNELS // _HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1) @ value
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(n, length, CHANNELS))
        return patches + out


class LinearAttention(nn.Module):
    """Attention without a softmax over pairs: positive features of keys and queries."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(CHANNELS, 8), nn.Linear(CHANNELS, 8)

    def forward(self, patches: Tensor) -> Tensor:
        query, key = (F.elu(layer(patches)) + 1 for layer in (self.query, self.key))
        return query @ (key.transpose(1, 2) @ patches) / patches.shape[1]


class ClassToken(nn.Module):
    """A token before the patches that attends to them, and the logits from it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, CHANNELS))
        self.attend, self.head = SelfAttention(fused=True), nn.Linear(CHANNELS, CLASSES)

    def forward(self, patches: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], 1)
        logits: Tensor = self.head(self.attend(tokens)[:, 0])
        return logits


def _patches(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _eca(x: Tensor, mix: nn.Module) -> Tensor:
    gate: Tensor = torch.sigmoid(mix(x.mean((2, 3)).unsqueeze(1))).squeeze(1)
    return x * gate[:, :, None, None]


def _attend_to_all(patches: Tensor, layer: nn.Module) -> Tensor:
    mixed: Tensor = layer(patches, patches, patches, need_weights=False)[0]
    return patches + mixed


def _of_patches(*layers: nn.Module) -> nn.Module:
    """Return a network of patches: stem, 64 patches, layers, mean, logits."""
    mean = function(lambda patches: patches.mean(1))()
    return nn.Sequential(stem(), nn.MaxPool2d(4), function(_patches)(), *layers, mean, nn.Linear(CHANNELS, CLASSES))


HEADS = {
    "SE, sigmoid": between(lambda: SqueezeExcite(nn.Sigmoid())),
    "SE, hardsigmoid": between(lambda: SqueezeExcite(nn.Hardsigmoid())),
    "ECA (Conv1d over channels)": between(function(_eca, mix=lambda: nn.Conv1d(1, 1, 3, padding=1, bias=False))),
    "CBAM": between(ChannelsThenPositions),
    "MIL attention": ending(AttentionPooling),
    "MIL attention, gated": ending(lambda: AttentionPooling(gated=True)),
    "attention, written out": Head(lambda: _of_patches(SelfAttention(fused=False))),
    "attention, fused": Head(lambda: _of_patches(SelfAttention(fused=True))),
    "MultiheadAttention": Head(
        lambda: _of_patches(
            function(_attend_to_all, layer=lambda: nn.MultiheadAttention(CHANNELS, _HEADS, batch_first=True))()
        )
    ),
    "TransformerEncoderLayer": Head(
        lambda: _of_patches(nn.TransformerEncoderLayer(CHANNELS, _HEADS, 2 * CHANNELS, batch_first=True))
    ),
    "linear attention": Head(lambda: _of_patches(LinearAttention())),
    "class token": Head(lambda: nn.Sequential(stem(), nn.MaxPool2d(4), function(_patches)(), ClassToken())),
}
