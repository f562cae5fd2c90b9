"""Each rule written again as a matrix, slowly and in float64; and conservation where theory promises it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance.affine import Convolution, Linear
from lrp_edge.relevance.layers import Summands, Weighted
from lrp_edge.relevance.rules import AlphaBeta, Epsilon, Flat, Gamma, Magnitude, WSquare, ZBox, ZPlus, ZPlusOfPositive

EPS = 1e-6


def stabilized(z):
    return z + np.where(z >= 0, EPS, -EPS)


def split(x, w, b):
    """Return contributions z [O, I] and biases [O] by their sign."""
    z = w * x
    return z, np.maximum(z, 0), np.minimum(z, 0), np.maximum(b, 0), np.minimum(b, 0)


def matrix_form(name, x, w, b, relevance):
    """Redistribute relevance [O] to inputs [I] by the rule's textbook form."""
    z, up, down, b_up, b_down = split(x, w, b)
    if name == "epsilon":
        share = z / stabilized(z.sum(1) + b)[:, None]
    elif name == "zplus":
        share = up / stabilized(up.sum(1) + b_up)[:, None]
    elif name == "zplus of positive":
        up = np.maximum(w, 0) * np.maximum(x, 0)
        share = up / stabilized(up.sum(1) + b_up)[:, None]
    elif name == "alphabeta":
        share = 2 * up / stabilized(up.sum(1) + b_up)[:, None] - down / stabilized(down.sum(1) + b_down)[:, None]
    elif name == "gamma":
        favoured = z + 0.25 * up, b + 0.25 * b_up
        opposed = z + 0.25 * down, b + 0.25 * b_down
        y = z.sum(1) + b
        shares = [part / stabilized(part.sum(1) + bias)[:, None] for part, bias in (favoured, opposed)]
        share = np.where((y > 0)[:, None], shares[0], np.where((y < 0)[:, None], shares[1], 0))
    elif name == "zbox":
        box = z + 2 * np.maximum(w, 0) - 3 * np.minimum(w, 0)
        share = box / stabilized(box.sum(1))[:, None]
    elif name == "wsquare":
        share = w**2 / stabilized((w**2).sum(1) + b**2)[:, None]
    else:
        share = np.ones_like(w) / stabilized(np.full(len(w), w.shape[1], float))[:, None]
    return relevance @ share


RULES = {
    "epsilon": Epsilon(),
    "zplus": ZPlus(),
    "zplus of positive": ZPlusOfPositive(),
    "alphabeta": AlphaBeta(),
    "gamma": Gamma(),
    "zbox": ZBox(-2.0, 3.0),
    "wsquare": WSquare(),
    "flat": Flat(),
}


def step_of(rule, affine, weight, bias, nonnegative):
    """Return a rule's step for a layer that is known by its form alone."""
    return rule.step(SimpleNamespace(form=Weighted(affine, weight, bias), nonnegative=nonnegative))


@given(
    st.sampled_from(sorted(RULES)),
    st.integers(1, 9),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_linear_layer_equals_the_matrix_form(name, inputs, outputs, nonnegative, seed):
    draw = np.random.default_rng(seed)
    x, w, b = draw.normal(size=inputs), draw.normal(size=(outputs, inputs)), draw.normal(size=outputs)
    x = np.abs(x) if nonnegative else np.clip(x, -2, 3)
    relevance = draw.normal(size=outputs)
    tensors = [torch.from_numpy(value)[None] for value in (x, w @ x + b, relevance)]
    step = step_of(RULES[name], Linear(), torch.from_numpy(w), torch.from_numpy(b), nonnegative)
    (got,) = step(tensors[:1], *tensors[1:])
    got = got[0].numpy()
    expected = matrix_form(name, x, w, b, relevance)
    assert np.allclose(got, expected, rtol=1e-9, atol=1e-9 * max(1, np.abs(expected).max()))


geometries = st.tuples(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from([1, 2]),
)


@settings(max_examples=150)
@given(geometries, st.integers(8, 13), st.integers(8, 13), st.integers(0, 2**31))
def test_convolution_adjoint_is_the_gradient(geometry, height, width, seed):
    kernel, groups = geometry[0], geometry[-1]
    torch.manual_seed(seed)
    affine = Convolution(*geometry)
    x = torch.randn(2, 4, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64)
    y = affine.apply(x, weight, None)
    s = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, s)
    assert torch.allclose(affine.adjoint(s, affine.transpose(weight), x), expected, atol=1e-12)


@settings(max_examples=100)
@given(geometries, st.integers(0, 2**31))
def test_flat_convolution_is_that_of_a_kernel_of_ones(geometry, seed):
    kernel, groups = geometry[0], geometry[-1]
    torch.manual_seed(seed)
    affine = Convolution(*geometry)
    x = torch.randn(2, 4, 11, 12, dtype=torch.float64)
    ones = torch.ones(6, 4 // groups, *kernel, dtype=torch.float64)
    seen = affine.apply(torch.ones_like(x), ones, None)
    relevance = torch.randn_like(seen)
    expected = affine.adjoint(relevance / (seen + EPS), affine.transpose(ones), x)
    assert torch.allclose(affine.flat(relevance, x, EPS), expected, atol=1e-12)


@given(st.lists(st.sampled_from([1.0, -1.0, 0.5, -2.0]), min_size=2, max_size=2), st.integers(0, 2**31))
def test_magnitude_shares_a_sum_whatever_cancels(factors, seed):
    torch.manual_seed(seed)
    first, second = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 1, 1, dtype=torch.float64)
    relevance = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    step = Magnitude(0.0).step(SimpleNamespace(form=Summands(tuple(factors))))
    shares = step([first, second], factors[0] * first + factors[1] * second, relevance)
    assert [share.shape for share in shares] == [first.shape, second.shape]
    assert all(bool((share >= 0).all()) for share in shares)
    assert torch.allclose(sum(share.sum() for share in shares), relevance.sum())
    sizes = (factors[0] * first).abs(), (factors[1] * second).abs()
    assert torch.allclose(shares[0], sizes[0] / (sizes[0] + sizes[1]) * relevance)


@given(
    st.sampled_from(["epsilon", "zplus", "alphabeta", "gamma", "zbox", "wsquare", "flat"]),
    st.integers(0, 2**31),
)
def test_relevance_is_conserved_without_bias_and_padding(name, seed):
    torch.manual_seed(seed)
    affine = Convolution((3, 3), (1, 1), (0, 0), (1, 1), 1)
    x = torch.rand(1, 3, 9, 9, dtype=torch.float64) + 0.1
    # Every output gets contributions of both signs, so that neither side of AlphaBeta is empty.
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    y = affine.apply(x, weight, None)
    relevance = torch.rand_like(y)
    if name in ("epsilon", "gamma"):
        relevance = relevance * (y.abs() > 0.05)
    (got,) = step_of(RULES[name], affine, weight, None, True)([x], y, relevance)
    assert float(got.sum()) == pytest.approx(float(relevance.sum()), rel=1e-3)


def test_alpha_beta_refuses_parameters_that_do_not_conserve():
    with pytest.raises(LrpEdgeError, match="alpha 2 and beta 0"):
        AlphaBeta(2, 0)


def test_rules_survive_a_change_of_type_and_device():
    layer = nn.Linear(4, 3)
    step = step_of(ZPlus(), Linear(), layer.weight.detach(), layer.bias.detach(), True).double()
    assert {buffer.dtype for buffer in step.buffers()} == {torch.float64}
