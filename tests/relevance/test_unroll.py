"""What unroll accepts, refuses, and returns beyond zennit's presets."""

import operator
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import COMPOSITES, Assignment, composite_from, rule_from, unroll
from lrp_edge.relevance.layers import Kind
from lrp_edge.relevance.pooling import Windows
from lrp_edge.relevance.rules import Epsilon, Flat, Gamma, Norm, Pass, Proportional, WinnerTakesAll, ZPlus
from tests.support.oracles import random_cnn, torchvision_model

X = torch.randn(2, 3, 32, 32, dtype=torch.float64)


def small(*layers):
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *layers, *head)
    model(torch.zeros(1, 3, 32, 32))
    return model.double().eval()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 2)

    def forward(self, x):
        x = F.relu(self.a((x - 0.45) / 0.22))
        x = x + F.relu(self.b(x))
        x = torch.cat([x.mean((2, 3)), x.mean((2, 3)).pow(3).add(1e-6).pow(1 / 3)], 1)
        return self.c(x)


@pytest.mark.parametrize("composite", ["EpsilonPlus", "Segmentation"])
def test_functional_code_is_conserved(composite):
    """Residual sums, concatenations, constants and powers in plain functions, with biases that take nothing."""
    torch.manual_seed(0)
    model = Residual().double()
    for parameter in (model.a.bias, model.b.bias, model.c.bias):
        nn.init.zeros_(parameter)
    if composite == "Segmentation":
        for parameter in model.parameters():
            parameter.data.abs_()
    logits, relevance = unroll(model, X, composite)(X.abs() + 0.5)
    assert torch.allclose(logits, model(X.abs() + 0.5))
    expected = logits.amax(1)
    assert torch.allclose(relevance.sum((1, 2, 3)), expected, rtol=1e-3)


def test_any_size_and_batch_after_one_capture():
    model = random_cnn(3)
    unrolled = unroll(model, torch.zeros(1, 3, 65, 70, dtype=torch.float64))
    for shape in ((1, 3, 65, 70), (4, 3, 90, 81)):
        image = torch.randn(*shape, dtype=torch.float64)
        logits, relevance = unrolled(image)
        assert torch.allclose(logits, model(image))
        assert relevance.shape == image.shape


def test_it_uses_no_autograd():
    unrolled = unroll(small(nn.MaxPool2d(2)), X)
    logits, relevance = unrolled(X.clone().requires_grad_())
    with torch.no_grad():
        again = unrolled(X)
    assert torch.equal(logits, again[0])
    assert torch.equal(relevance, again[1])


class Accumulates(nn.Module):
    def forward(self, x):
        return x.cumsum(1)


def test_an_operator_without_rule_is_named_with_its_place():
    with pytest.raises(LrpEdgeError, match=r"no rule for operator aten\.cumsum.* in module 2\); compute it from"):
        unroll(small(Accumulates()), X)


class Sorts(nn.Module):
    def forward(self, x):
        return x.sort(1)[0]


def test_an_operator_of_several_results_without_rule_is_named():
    with pytest.raises(LrpEdgeError, match=r"no rule for operator aten\.sort\.default .* in module 2\)"):
        unroll(small(Sorts()), X)


def test_nonfinite_weights_are_named():
    model = small()
    model[0].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(LrpEdgeError, match=r"weight '0\.weight' has NaN"):
        unroll(model, X)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Conv2d(3, 2, 1).double(), r"the model returns \[.*\]; expected logits \[N, K\]"),
        (nn.Linear(7, 2).double(), "torch.export cannot capture Linear"),
    ],
)
def test_what_is_no_classifier_is_refused(model, message):
    with pytest.raises(LrpEdgeError, match=message):
        unroll(model, X)


def test_rules_by_name_and_position():
    composite = composite_from("EpsilonPlusFlat", {}).override(
        Assignment(rule_from("Gamma", gamma=0.1), frozenset({Kind.CONVOLUTION}), name="2"),
        Assignment(Proportional(), frozenset({Kind.MAX_POOL})),
    )
    unrolled = unroll(
        small(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()), X, composite
    )
    assert [unrolled.rules[name] for name in ("0", "2", "4", "5", "9")] == [
        Flat(),
        Gamma(0.1),
        Proportional(),
        ZPlus(),
        Epsilon(),
    ]


def test_a_rule_by_name_is_for_the_layers_that_it_can_serve():
    """The pattern also fits an activation, a maximum and a reshape, which keep the rules of their kinds."""
    gamma = rule_from("Gamma", gamma=0.1)
    composite = composite_from("EpsilonPlusFlat", {}).override(Assignment(gamma, name="[1-9]"))
    unrolled = unroll(small(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)), X, composite)
    found = {name: unrolled.rules[name] for name in ("0", "1", "2", "4", "5", "6", "7", "8")}
    expected = (Flat(), Pass(), gamma, Pass(), WinnerTakesAll(), Norm(), Pass(), gamma)
    assert found == dict(zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["features.2", "1"])
def test_an_assignment_that_fits_no_layer_is_refused(name):
    composite = composite_from("EpsilonPlus", {}).override(Assignment(Gamma(), name=name))
    with pytest.raises(LrpEdgeError, match=f"Gamma is assigned to '{name}', but is for no layer of that name"):
        unroll(small(), X, composite)


class Asserts(nn.Module):
    def forward(self, x):
        torch._assert_async(x.isfinite().all())
        return x


def test_assertions_of_the_model_are_left_out():
    model = small(Asserts())
    assert torch.allclose(unroll(model, X)(X)[0], model(X))


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("EpsilonPlusFlatt", {}, r"did you mean EpsilonPlusFlat\?"),
        ("EpsilonPlus", {"gamma": 1}, "has no parameter 'gamma'; expected one of epsilon, stabilizer"),
        ("EpsilonGammaBox", {}, "composite EpsilonGammaBox needs low and high; give a value for each"),
    ],
)
def test_composites_that_cannot_be_built(name, parameters, message):
    with pytest.raises(LrpEdgeError, match=message):
        composite_from(name, parameters)


def test_a_rule_that_an_operator_cannot_follow():
    composite = composite_from("EpsilonPlus", {}).override(Assignment(ZPlus(), frozenset({Kind.MAX_POOL})))
    with pytest.raises(LrpEdgeError, match=r"ZPlus is not a rule for aten\.max_pool2d.*expected one of WinnerTakesAll"):
        unroll(small(nn.MaxPool2d(2)), X, composite)


def test_targets():
    model = small()
    start = {}
    for target in (0, "predicted", "contrast", "defect"):
        seeds = []
        unrolled = unroll(model, X, "EpsilonPlus", target, defects=[1, 2])
        inner = unrolled._target
        unrolled._target = lambda logits, seeds=seeds, inner=inner: seeds.append(inner(logits)) or seeds[-1]
        logits, _ = unrolled(X)
        start[target] = seeds[0]
    one_hot = F.one_hot(logits.argmax(1), 3)
    assert torch.equal(start["predicted"], logits * one_hot)
    assert torch.equal(start[0], logits * torch.tensor([1, 0, 0]))
    best = logits[:, 1:].argmax(1) + 1
    assert torch.equal(start["defect"], logits * F.one_hot(best, 3))
    free = logits.detach().requires_grad_()
    odds = free[:, 1:].logsumexp(1) - free[:, :1].logsumexp(1)
    (gradient,) = torch.autograd.grad(odds.sum(), free)
    assert torch.allclose(start["contrast"], gradient * logits)


@pytest.mark.parametrize("target", [7, "worst", "contrast"])
def test_targets_that_do_not_exist(target):
    with pytest.raises(LrpEdgeError, match="target"):
        unroll(small(), X, target=target)


def test_segmentation_relevance_is_nonnegative_for_a_positive_logit():
    model = torchvision_model("vgg11")
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    logits, relevance = unroll(model, image, "Segmentation", int(model(image).argmax()))(image)
    assert operator.gt(float(logits.max()), 0)
    assert float(relevance.min()) >= 0
    assert set(COMPOSITES) >= {"Segmentation", "EpsilonGammaBox"}


@pytest.mark.parametrize(
    "windows",
    [
        Windows((2, 2), (2, 2), (0, 0)),
        Windows((2, 2), (2, 2), (0, 0), ceil=True),
        Windows((5, 3), (5, 3), (0, 0), ceil=True),
        Windows((3, 3), (2, 2), (1, 1)),
    ],
)
def test_max_pooling_against_autograd_and_a_loop(windows):
    torch.manual_seed(0)
    # Few distinct values make many ties.
    x = torch.randint(0, 4, (2, 3, 9, 8)).double().requires_grad_()
    y = F.max_pool2d(x, windows.kernel, windows.stride, windows.padding, ceil_mode=windows.ceil)
    relevance = torch.rand_like(y)
    (expected,) = torch.autograd.grad(y, x, relevance)
    x = x.detach()
    layers = [SimpleNamespace(form=windows, sums_channels=sums) for sums in (False, True)]
    (got,), (summed,) = (WinnerTakesAll().step(layer)([x], y, relevance) for layer in layers)
    assert torch.allclose(got, expected)
    assert torch.allclose(summed, expected.sum(1, keepdim=True))
    (shared,) = Proportional(1e-9).step(layers[0])([x], y, relevance)
    slow = torch.zeros_like(x)
    padding, (rows, columns) = windows.padding[0], windows.kernel
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            top, left = i * windows.stride[0] - padding, j * windows.stride[1] - padding
            block = (..., slice(max(top, 0), top + rows), slice(max(left, 0), left + columns))
            total = x[block].sum((2, 3), keepdim=True) + 1e-9
            slow[block] += x[block] / total * relevance[:, :, i : i + 1, j : j + 1]
    assert torch.allclose(shared, slow)
