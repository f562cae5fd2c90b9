"""Pooling by the logarithm of summed exponentials, and the start of relevance for all defects at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrp_edge.classifiers import vgg
from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import Assignment, composite_from, unroll
from lrp_edge.relevance.layers import Kind
from lrp_edge.relevance.rules import Density, Norm, Proportional, WinnerTakesAll
from lrp_edge.relevance.targets import target_from

POOL = frozenset({Kind.SOFT_MAXIMUM})


class Pooled(nn.Module):
    """Its positions are its pixels, so that relevance is what the pooling shares out."""

    def __init__(self, keepdim):
        super().__init__()
        self.keepdim = keepdim

    def forward(self, x):
        return torch.logsumexp(x, (2, 3), self.keepdim).flatten(1)


def shared(x, rule, keepdim=False):
    composite = composite_from("EpsilonPlus", {}).override(Assignment(rule, POOL))
    return unroll(Pooled(keepdim), x, composite, target=lambda logits: 2 * logits)(x)


@pytest.mark.parametrize("keepdim", [False, True])
@settings(max_examples=5)
@given(seed=st.integers(0, 200))
def test_shares_against_autograd_and_plain_sums(keepdim, seed):
    x = (3 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))).double()
    x.requires_grad_()
    logits = torch.logsumexp(x, (2, 3))
    logits.sum().backward()
    relevance, positive = 2 * logits.detach()[..., None, None], x.detach().clamp(min=0)
    found, got = shared(x.detach(), WinnerTakesAll(), keepdim)
    assert torch.allclose(found, logits)
    assert torch.allclose(got, x.grad * relevance)
    assert torch.allclose(got.sum((2, 3)), relevance[..., 0, 0])
    _, got = shared(x.detach(), Proportional(), keepdim)
    total = positive.sum((2, 3), keepdim=True)
    assert torch.allclose(got, positive / total.clamp(min=1e-6) * relevance, rtol=1e-4)
    _, got = shared(x.detach(), Density(), keepdim)
    assert torch.allclose(got, 2 * positive, rtol=1e-4)


def test_one_input_far_above_the_others_takes_all():
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    x[0, 0, 1, 2] = 60
    _, got = shared(x, WinnerTakesAll())
    assert got[0, 0, 1, 2] == pytest.approx(120)
    with pytest.raises(LrpEdgeError, match=r"Norm is not a rule for aten\.logsumexp"):
        shared(x, Norm())


def test_density_of_a_pixel_does_not_depend_on_the_defects_size():
    small, large = (torch.full((1, 1, 20, 20), -30.0, dtype=torch.float64) for _ in range(2))
    small[..., 3:5, 3:5], large[..., 2:18, 2:18] = 5.0, 5.0
    assert shared(small, Density())[1].amax() == pytest.approx(shared(large, Density())[1].amax().item())
    shares = [shared(x, Proportional())[1].amax().item() for x in (small, large)]
    assert shares[0] > 20 * shares[1]


def test_scores_do_not_depend_on_how_often_an_image_repeats():
    """The number of positions is added to all logits alike."""
    torch.manual_seed(0)
    model = vgg("A", channels=1, classes=4, width=0.1, pools=3, pooling="lse").eval()
    nn.init.normal_(model.head.weight)
    flat = torch.full((1, 1, 64, 64), 0.3)
    inner = model.features(flat)[..., 3:5, 3:5]
    once, four = (model.classify(inner.repeat(1, 1, n, n)).softmax(1) for n in (1, 2))
    assert torch.allclose(once, four, atol=1e-5)
    assert model.stride == 8


@given(st.lists(st.floats(-20, 20), min_size=4, max_size=4))
def test_evidence_is_the_surprise_of_ok(logits):
    values = torch.tensor([logits], dtype=torch.float64)
    start = target_from("evidence", 4, [0, 3])(values)
    assert start[0, 1] == start[0, 2] == 0
    for defect in (0, 3):
        rest = values[0, [defect, 1, 2]].softmax(0)
        assert float(start[0, defect]) == pytest.approx(-float(torch.log(rest[1:].sum())), rel=1e-6, abs=1e-9)
    with pytest.raises(LrpEdgeError, match="'evidence' needs defects"):
        target_from("evidence", 4)
