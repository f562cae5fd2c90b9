"""Capturing a model: what writes to its tensors in place is the same graph, at once where that is safe."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import unroll
from lrp_edge.relevance.capture import capture
from lrp_edge.relevance.operators import OPERATORS
from tests.support.oracles import with_statistics

aten = torch.ops.aten
IMAGE = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Blocks(nn.Module):
    """Blocks whose operations may write to what others read, before or after: aliases, views, a block's own input."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks = blocks
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in blocks)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in blocks)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        for block, convolution, norm in zip(self.blocks, self.convolutions, self.norms, strict=True):
            x = getattr(self, block)(x, convolution, norm)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def plain(self, x, convolution, norm):
        return F.relu_(norm(convolution(x)))

    def residual(self, x, convolution, norm):
        out = norm(convolution(x))
        out += x
        return F.relu_(out)

    def preactivation(self, x, convolution, norm):
        """The shortcut is what the activation wrote to."""
        y = convolution(x)
        return norm(F.relu_(y)) + y

    def view(self, x, convolution, norm):
        y = convolution(x)
        seen = y.view(y.shape)
        F.relu_(y)
        return norm(seen)

    def through_a_view(self, x, convolution, norm):
        y = convolution(x)
        F.leaky_relu_(y.view(y.shape), 0.1)
        return norm(y)

    def through_dropout(self, x, convolution, norm):
        y = convolution(x)
        F.relu_(F.dropout(y, 0.5, self.training))
        return norm(y)

    def earlier_reader(self, x, convolution, norm):
        y = convolution(x)
        z = norm(y)
        return z + F.hardtanh_(y)

    def both(self, x, convolution, norm):
        y = convolution(x)
        y += y
        return norm(y)

    def by_its_size(self, x, convolution, norm):
        y = convolution(x)
        y *= y.shape[3]
        return norm(y)

    def of_two_dtypes(self, x, convolution, norm):
        y = convolution(x)
        y += x.float()
        return norm(y)

    def scaled(self, x, convolution, norm):
        return norm(convolution(x).mul_(0.5).sub_(0.1))


def model_of(blocks):
    torch.manual_seed(len(blocks))
    return with_statistics(Blocks(blocks), 0).double()


BLOCKS = [name for name in vars(Blocks) if name not in ("__init__", "forward") and not name.startswith("_")]


@settings(max_examples=20)
@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=3))
def test_a_model_that_writes_in_place_is_computed_as_it_computes(blocks):
    model = model_of(blocks).eval()
    with torch.no_grad():
        expected = model(IMAGE.clone())
    logits, relevance = unroll(model, IMAGE)(IMAGE)
    assert torch.allclose(logits, expected, rtol=1e-12, atol=1e-12)
    assert bool(relevance.isfinite().all())


def test_statistics_of_the_batch_are_refused():
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    model = nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).double()
    with pytest.raises(LrpEdgeError, match=r"no rule for operator .*batch_norm"):
        unroll(model, IMAGE)


def test_a_condition_on_the_image_is_refused():
    class Conditional(Blocks):
        def plain(self, x, convolution, norm):
            return torch.cond(x.mean() > 0, lambda x: x + 1, lambda x: x - 1, (convolution(x),))

    with pytest.raises(LrpEdgeError, match="no rule for operator"):
        unroll(Conditional(["plain"]).double(), IMAGE)


def test_a_list_that_is_written_to_is_refused():
    class Several(Blocks):
        def plain(self, x, convolution, norm):
            both = [convolution(x), norm(x)]
            torch._foreach_mul_(both, 0.5)
            return both[0] + both[1]

    with pytest.raises(LrpEdgeError, match=r"no rule for operator .*foreach_mul"):
        unroll(Several(["plain"]).double(), IMAGE)


def test_dropout_that_stays_on_is_refused():
    class Noisy(Blocks):
        def plain(self, x, convolution, norm):
            return F.dropout(convolution(x), 0.5, training=True)

    with pytest.raises(LrpEdgeError, match="no rule for operator"):
        unroll(Noisy(["plain"]).double(), IMAGE)


@pytest.mark.parametrize(("block", "at_once"), [("plain", True), ("residual", True), ("scaled", True), ("view", False)])
def test_a_second_trace_is_only_for_what_needs_one(block, at_once, monkeypatch):
    traces = []
    decompose = torch.export.ExportedProgram.run_decompositions

    def counted(program, table):
        traces.append(1)
        return decompose(program, table)

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", counted)
    captured = capture(model_of([block]), IMAGE, known=OPERATORS)
    assert not any(node.op == "call_function" and node.target._schema.is_mutable for node in captured.graph.nodes)
    assert len(traces) == (0 if at_once else 1)
    capture(model_of([block]), IMAGE)
    assert len(traces) == (1 if at_once else 2)


def test_an_image_that_the_model_writes_to_is_left_alone():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    image = IMAGE - 0.5
    before = image.clone()
    with torch.no_grad():
        expected = model(image.clone())
    assert torch.allclose(unroll(model, image)(image)[0], expected)
    assert torch.equal(image, before)
