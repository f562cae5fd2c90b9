"""Transformers against LXT, by its own rules, written out block by block."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from lxt.explicit import functional as rules
from torch import nn
from torch.nn import functional as F

from lrp_edge.relevance import composite_from, unroll
from lrp_edge.relevance.layers import Kind

WIDTH, HEADS, CLASSES, EPSILON = 12, 3, 4, 1e-13
X = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A block of a vision transformer, its attention in one call, in parts, or torch's own module."""

    def __init__(self, spelling):
        super().__init__()
        self.spelling = spelling
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.inner, self.outer = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attend(self.before(x))
        return x + self.outer(F.relu(self.inner(self.between(x))))

    def attend(self, x):
        if self.spelling == "module":
            return self.attention(x, x, x, need_weights=False)[0]
        qkv = F.linear(x, self.attention.in_proj_weight, self.attention.in_proj_bias)
        query, key, value = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in qkv.chunk(3, 2))
        if self.spelling == "call":
            y = F.scaled_dot_product_attention(query, key, value)
        else:
            y = (query @ key.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)).softmax(-1) @ value
        return self.attention.out_proj(y.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Patches, a class token, positions, blocks, a norm, and a head on the class token."""

    def __init__(self, spelling="call"):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks = nn.Sequential(Block(spelling), Block(spelling))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def transformer(spelling="call"):
    torch.manual_seed(0)
    model = Transformer(spelling)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.1, 0.6)  # no weight of a norm, and no bias, is one or zero
    return model.double().eval()


def by_lxt(model, image, follows_attention):
    """Return logits, and the relevance of the greatest one for the patches, [N, tokens, width]."""
    linear = lambda layer, x: rules.linear_epsilon(x, layer.weight, layer.bias, EPSILON)  # noqa: E731
    norm = lambda layer, x: rules.layer_norm_grad_fn.apply(x, layer.weight, layer.bias, layer.eps, EPSILON)  # noqa: E731
    patches = model.patches(image).flatten(2).transpose(1, 2).detach().requires_grad_()
    tokens = torch.cat([model.token.expand(len(image), -1, -1), patches], 1)
    x = rules.add2(tokens, model.positions.expand_as(tokens), False, EPSILON)
    for block in model.blocks:
        y, layer = norm(block.before, x), block.attention
        qkv = rules.linear_epsilon(y, layer.in_proj_weight, layer.in_proj_bias, EPSILON)
        query, key, value = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in qkv.chunk(3, 2))
        # Relevance is that of the product: a constant factor passes it on.
        scaled = _scaled(rules.matmul(query, key.transpose(-2, -1), False, EPSILON), 1 / math.sqrt(WIDTH // HEADS))
        weights = rules.softmax(scaled, -1)
        y = rules.matmul(weights, value, False, EPSILON) if follows_attention else _weighed(weights.detach(), value)
        x = rules.add2(x, linear(layer.out_proj, y.transpose(1, 2).flatten(2)), False, EPSILON)
        y = _passed(linear(block.inner, norm(block.between, x)))
        x = rules.add2(x, linear(block.outer, y), False, EPSILON)
    logits = linear(model.head, norm(model.norm, x)[:, 0])
    start = logits * F.one_hot(logits.argmax(1), CLASSES)
    (relevance,) = torch.autograd.grad(logits, patches, start.detach())
    return logits.detach(), relevance


class _Pass(torch.autograd.Function):
    """A function of each element, whose relevance is passed on."""

    @staticmethod
    def forward(ctx, x, function):
        return function(x)

    @staticmethod
    def backward(ctx, relevance):
        return relevance, None


def _scaled(x, factor):
    return _Pass.apply(x, lambda x: x * factor)


def _passed(x):
    return _Pass.apply(x, F.relu)


class _Weighed(torch.autograd.Function):
    """CP-LRP: a linear layer whose weights are those of attention (Ali et al. 2022)."""

    @staticmethod
    def forward(ctx, weights, value):
        ctx.save_for_backward(weights, value)
        return weights @ value

    @staticmethod
    def backward(ctx, relevance):
        weights, value = ctx.saved_tensors
        return None, value * (weights.transpose(-2, -1) @ (relevance / (weights @ value)))


def _weighed(weights, value):
    return _Weighed.apply(weights, value)


def of_patches(model, image, composite, **parameters):
    """Return logits and relevance at the patches: that of the image, were each patch a pixel of as many channels."""
    unrolled = unroll(_FromPatches(model), _patches(model, image), composite, any_size=False, **parameters)
    with torch.no_grad():
        logits, relevance = unrolled(_patches(model, image))
    return logits, relevance.flatten(2).transpose(1, 2)


def _patches(model, image):
    with torch.no_grad():
        return model.patches(image)


class _FromPatches(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, patches):
        whole, self.model.patches = self.model.patches, nn.Identity()
        logits = self.model(patches)
        self.model.patches = whole
        return logits


@pytest.mark.parametrize("spelling", ["call", "parts", "module"])
def test_attn_lrp_is_that_of_lxt(spelling):
    model = transformer(spelling)
    expected_logits, expected = by_lxt(model, X, follows_attention=True)
    logits, relevance = of_patches(model, X, "AttnLRP", epsilon=EPSILON, stabilizer=EPSILON)
    assert torch.allclose(logits, expected_logits, rtol=1e-12)
    difference = float((relevance - expected).abs().max() / expected.abs().max())
    print(f"max |difference| / max |R| = {difference:.1e}")
    assert difference <= 1e-6


def test_relevance_of_values_alone_is_that_of_lxt_with_attention_held_fixed():
    model = transformer()
    composite = replace(composite_from("AttnLRP", {"epsilon": EPSILON, "stabilizer": EPSILON}), follows_attention=False)
    _, expected = by_lxt(model, X, follows_attention=False)
    _, relevance = of_patches(model, X, composite)
    assert float((relevance - expected).abs().max() / expected.abs().max()) <= 1e-6


def test_attention_of_the_presets_goes_to_values_alone():
    layers = unroll(transformer(), X, "Segmentation", any_size=False).layers
    assert [layer.kind for layer in layers].count(Kind.ATTENTION) == 2
    assert not any(layer.kind in (Kind.SOFTMAX, Kind.PRODUCT) for layer in layers)


def test_relevance_of_segmentation_is_conserved_through_a_transformer():
    model = transformer()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name in ("token", "positions"):
            nn.init.zeros_(parameter)
    logits, relevance = (value.detach() for value in unroll(model, X, "Segmentation", any_size=False)(X))
    assert float((relevance.sum((1, 2, 3)) / logits.amax(1)).min()) > 0.5
