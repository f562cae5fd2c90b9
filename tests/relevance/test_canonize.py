"""Arithmetic that is equal gives relevance that is equal: branches and BatchNorms folded, and other spellings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lrp_edge.relevance import unroll
from lrp_edge.relevance.layers import Kind
from lrp_edge.relevance.rules import AffineRule, Epsilon, Flat, ZPlus
from tests.relevance.test_operators import CHANNELS, Of, X, network
from tests.support.oracles import with_statistics

GIVEN = {"EpsilonGammaBox": {"low": -3.0, "high": 3.0}}


class Branches(nn.Module):
    """A sum of convolutions of different kernels, each with a BatchNorm, a BatchNorm, and the signal itself."""

    def __init__(self, kernels, groups, stride, norm, identity):
        super().__init__()
        self.identity = identity
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(CHANNELS, CHANNELS, size, stride, size // 2, groups=groups, bias=size == 1),
                nn.BatchNorm2d(CHANNELS),
            )
            for size in kernels
        )
        if norm:
            self.branches.append(nn.BatchNorm2d(CHANNELS))

    def forward(self, x):
        total = x if self.identity else 0
        for branch in self.branches:
            total = total + branch(x)
        return total


def as_one(branches, image):
    """Return the convolution that a sum of branches is, read off from its answers to single pixels."""
    size, groups = 5, branches.branches[0][0].groups
    stride = branches.branches[0][0].stride
    one = nn.Conv2d(CHANNELS, CHANNELS, size, stride, size // 2, groups=groups).to(image)
    zero = torch.zeros(1, CHANNELS, 9, 9).to(image)
    with torch.no_grad():
        one.bias.copy_(branches(zero)[0, :, 2, 2])
        inputs = CHANNELS // groups
        for channel in range(CHANNELS):
            for row in range(size):
                for column in range(size):
                    pixel = zero.clone()
                    middle = 2 * stride[0]
                    pixel[0, channel, middle + row - 2, middle + column - 2] = 1
                    answer = branches(pixel)[0, :, 2, 2] - one.bias
                    group = channel // inputs
                    outputs = slice(group * CHANNELS // groups, (group + 1) * CHANNELS // groups)
                    one.weight[outputs, channel % inputs, row, column] = answer[outputs]
    return one


@settings(max_examples=12)
@given(
    st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=3),
    st.sampled_from([1, 2, CHANNELS]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.booleans(),
)
def test_branches_of_one_signal_are_one_convolution(kernels, groups, stride, norm, identity):
    norm = norm and stride == 1
    identity = identity and stride == 1 and len(kernels) + norm > 1
    model = with_statistics(network(lambda: Branches(kernels, groups, stride, norm, identity)))
    merged = with_statistics(network(nn.Identity()))
    merged[2] = as_one(model[2], X)
    for place in (0, 3, 7):
        merged[place].load_state_dict(model[place].state_dict())
    unrolled = unroll(model, X, "Segmentation", any_size=False)
    assert not any(layer.kind in (Kind.SUM, Kind.BATCH_NORM) for layer in unrolled.layers)
    with torch.no_grad():
        found, expected = unrolled(X), unroll(merged, X, "Segmentation", any_size=False)(X)
    assert all(torch.allclose(got, wanted, rtol=1e-9, atol=1e-12) for got, wanted in zip(found, expected, strict=True))


def test_what_a_residual_block_adds_to_is_no_branch():
    model = network(Of(lambda s, x: x + s.a(x), a=nn.Conv2d(8, 8, 3, padding=1)))
    assert sum(layer.kind is Kind.SUM for layer in unroll(model, X, any_size=False).layers) == 1


def test_branches_of_different_signals_stay():
    model = network(Of(lambda s, x: s.a(x) + s.b(F.relu(x - 0.1)), a=nn.Conv2d(8, 4, 1), b=nn.Conv2d(8, 4, 1)))
    assert sum(layer.kind is Kind.SUM for layer in unroll(model, X, any_size=False).layers) == 1


WEIGHT, BIAS = (torch.randn(*shape, generator=torch.Generator().manual_seed(5)).double() for shape in ((5, 8), (5,)))


def by_positions(function):
    return lambda s, x: function(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


#: The same 1 × 1 convolution, and the same gate, in the words that people use.
SPELLINGS = {
    "a convolution of one pixel": [
        lambda s, x: F.conv2d(x, WEIGHT[:, :, None, None], BIAS),
        lambda s, x: F.conv2d(x, WEIGHT[:, :, None, None]) + BIAS[:, None, None],
        lambda s, x: BIAS.reshape(1, 5, 1, 1) + F.conv2d(x, WEIGHT[:, :, None, None], padding="same"),
        by_positions(lambda x: F.linear(x, WEIGHT, BIAS)),
        by_positions(lambda x: x @ WEIGHT.T + BIAS),
        by_positions(lambda x: torch.matmul(x, WEIGHT.T).add(BIAS)),
        lambda s, x: torch.einsum("nchw,kc->nkhw", x, WEIGHT) + BIAS[:, None, None],
        lambda s, x: F.conv1d(x.flatten(2), WEIGHT[:, :, None], BIAS).unflatten(2, (16, 16)),
    ],
    "hard swish": [
        lambda s, x: F.hardswish(x - 0.2),
        lambda s, x: (x - 0.2) * F.relu6(x - 0.2 + 3) / 6,
        lambda s, x: (x - 0.2) * (F.relu6(x - 0.2 + 3) / 6),
        lambda s, x: (x - 0.2) * F.hardsigmoid(x - 0.2),
        lambda s, x: (x - 0.2) * ((x - 0.2) / 6 + 0.5).clamp(0, 1),
    ],
    "halves": [
        lambda s, x: torch.cat([x[:, 4:], x[:, :4]], 1),
        lambda s, x: torch.cat(x.chunk(2, 1)[::-1], 1),
        lambda s, x: torch.cat(torch.split(x, 4, 1)[::-1], 1),
        lambda s, x: x.roll(4, 1),
        lambda s, x: x[:, [4, 5, 6, 7, 0, 1, 2, 3]],
        lambda s, x: x.unflatten(1, (2, 4)).flip(1).flatten(1, 2),
    ],
}


@pytest.mark.parametrize("composite", ["Segmentation", "EpsilonGammaBox"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_never_decides(name, composite):
    answers = []
    for function in SPELLINGS[name]:
        unrolled = unroll(network(Of(function)), X, composite, any_size=False, **GIVEN.get(composite, {}))
        with torch.no_grad():
            answers.append(unrolled(X))
    for found in answers[1:]:
        for got, wanted in zip(found, answers[0], strict=True):
            assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))


HEADS = [
    lambda s, x: F.linear(x, WEIGHT, BIAS),
    lambda s, x: x @ WEIGHT.T + BIAS,
    lambda s, x: torch.addmm(BIAS, x, WEIGHT.T),
    lambda s, x: torch.einsum("nc,kc->nk", x, WEIGHT).add_(BIAS),
]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_a_linear_layer_in_other_words(head):
    def model(function):
        torch.manual_seed(2)
        pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(nn.Conv2d(3, CHANNELS, 3), nn.ReLU(), *pooled, Of(function)).double()

    unrolled = unroll(model(head), X, any_size=False)
    assert _affine(unrolled) == [Flat(), Epsilon()]
    with torch.no_grad():
        found, expected = unrolled(X), unroll(model(HEADS[0]), X, any_size=False)(X)
    assert all(torch.allclose(got, wanted, rtol=1e-9) for got, wanted in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "equation", ["nic,njc->nij", "N I C, N J C -> N I J", "BAC,BcC->BAc", "Zay,Zby", "...Ba,...ba->...Bb"]
)
def test_axes_of_a_product_of_two_signals_have_any_names(equation):
    def attend(s, x):
        tokens = x.flatten(2).transpose(1, 2)
        weights = torch.einsum(equation, tokens, 0.3 * tokens.flip(1))
        return (weights.softmax(-1) @ tokens).transpose(1, 2).reshape(x.shape)

    model = network(Of(attend))
    with torch.no_grad():
        assert torch.allclose(unroll(model, X, any_size=False)(X)[0], model(X), rtol=1e-9)


def test_a_linear_layer_on_positions_is_a_convolution_to_composites_and_the_head_is_not():
    model = network(Of(by_positions(lambda x: F.linear(x, WEIGHT, BIAS))))
    assert _affine(unroll(model, X, any_size=False)) == [Flat(), ZPlus(), ZPlus(), Epsilon()]
    assert _affine(unroll(model, X, "Segmentation", any_size=False)) == [Flat(), ZPlus(), ZPlus(), Epsilon()]


def _affine(unrolled):
    return [rule for rule in unrolled.rules.values() if isinstance(rule, AffineRule)]
