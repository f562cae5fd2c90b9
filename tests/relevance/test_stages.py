"""Relevance at a stage against that of the rest of the network alone, and its way to the size of the image."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import composite_from, unroll
from lrp_edge.relevance.receptive_field import Span, receptive_field
from lrp_edge.relevance.rules import Flat
from lrp_edge.relevance.stages import Stage
from tests.support.marks import quick_of
from tests.support.oracles import small_family, torchvision_model


def without_flat(name):
    """The rules of layers after the first one."""
    composite = composite_from(name, {})
    kept = tuple(each for each in composite.assignments if not isinstance(each.rule, Flat))
    return dataclasses.replace(composite, assignments=kept)


def divided_vgg(place):
    model = small_family("vgg_bn")
    rest = nn.Sequential(model.features[place:], model.avgpool, nn.Flatten(), model.classifier)
    return model, model.features[:place], rest


def divided_resnet(place):
    model = small_family("bottleneck_resnet")
    parts = list(model.children())
    return model, nn.Sequential(*parts[:place]), nn.Sequential(*parts[place:-1], nn.Flatten(), parts[-1])


def divided_mobilenet(block, place):
    """Divide within an inverted residual block: the last tensor of a stride is what the strided convolution reads."""
    model = torchvision_model("mobilenet_v2", width_mult=0.25)
    inside = model.features[block].conv
    before = nn.Sequential(model.features[:block], inside[:place])
    rest = [inside[place:], *model.features[block + 1 :], nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.classifier]
    return model, before, nn.Sequential(*rest)


NETWORKS = {
    "vgg, 2": (2, lambda: divided_vgg(7)),
    "vgg, 8": (8, lambda: divided_vgg(18)),
    "vgg, 16, its last": (16, lambda: divided_vgg(19)),
    "resnet, 4": (4, lambda: divided_resnet(5)),
    "resnet, 8": (8, lambda: divided_resnet(6)),
    "mobilenet, 4": (4, lambda: divided_mobilenet(4, 1)),
    "mobilenet, 8": (8, lambda: divided_mobilenet(7, 1)),
}


CASES = [*((name, "Segmentation") for name in NETWORKS), ("vgg, 2", "EpsilonAlpha2Beta1Flat")]


@pytest.mark.parametrize(
    ("name", "composite"), quick_of(CASES, [case for case in CASES if case[0] not in ("mobilenet, 8", "resnet, 8")])
)
def test_relevance_of_a_stage_is_that_of_the_rest_of_the_network(name, composite):
    stride, divide = NETWORKS[name]
    model, before, rest = (part.eval() for part in divide())
    torch.manual_seed(1)
    image = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    with torch.no_grad():
        features = before(image)
        expected_logits, expected = unroll(rest, features, without_flat(composite))(features)
        unrolled = unroll(model, image, composite, stride=stride)
        logits, found = unrolled(image)
    assert unrolled.stage.stride == stride
    assert found.shape == features.shape == (2, found.shape[1], 96 // stride, 64 // stride)
    assert torch.allclose(logits, expected_logits, atol=1e-9)
    assert torch.allclose(found, expected, atol=1e-9 * float(expected.abs().max()))
    assert not any(isinstance(rule, Flat) for rule in unrolled.rules.values())


def test_at_the_pixels_nothing_changes():
    model, image = small_family("basic_resnet"), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    first, second = unroll(model, image), unroll(model, image, stride=1)
    assert torch.equal(first(image)[1], second(image)[1])
    assert second.stage.enlarge(second(image)[1].sum(1), (64, 64)).shape == (1, 64, 64)


@pytest.mark.parametrize("stride", [1, 4])
def test_the_receptive_field_is_that_of_the_whole_network(stride):
    image = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    model = small_family("vgg_bn")
    assert receptive_field(unroll(model, image, stride=stride)) == receptive_field(unroll(model, image))


class Bypassed(nn.Module):
    """What has stride 2 is bypassed by a pooling of the image."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(5, 2, 1)

    def forward(self, x):
        both = torch.cat([self.second(self.first(x).relu()).relu(), nn.functional.avg_pool2d(x, 4)], 1)
        return self.head(both).mean((2, 3))


@pytest.mark.parametrize("stride", [2, 3, 8])
def test_a_stage_that_is_not_there_is_refused(stride):
    with pytest.raises(LrpEdgeError, match=f"at stride {stride}: this network has stages of stride 1, 4; choose one"):
        unroll(Bypassed(), torch.zeros(1, 1, 32, 32), stride=stride)


class LessItsMean(nn.Module):
    """After this it cannot be told what units see."""

    def forward(self, x):
        return x - x.mean((2, 3), keepdim=True)


def test_where_units_are_not_known_to_look_shapes_tell_the_stride():
    head = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(LessItsMean(), nn.Conv2d(1, 4, 3, 2, 1), head, nn.Linear(4, 2))
    unrolled = unroll(model, torch.zeros(1, 1, 33, 48), stride=2)
    assert unrolled.stage.spans == (Span(0, 1, 2), Span(0, 1, 2))
    assert receptive_field(unrolled) is None


spans = st.builds(
    lambda stride, low, length: Span(-low, length - low, stride),
    st.sampled_from([2, 4, 8]),
    st.integers(0, 9),
    st.integers(0, 20),
)


@given(spans, spans, st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_enlarged_linearly_between_the_centres(rows, columns, height, width, seed):
    stage = Stage(None, (rows, columns), depth=1)
    relevance = np.random.default_rng(seed).random((2, height, width))
    size = (height * rows.stride - seed % rows.stride, width * columns.stride)
    found = stage.enlarge(torch.from_numpy(relevance), size).numpy()
    places = [
        np.arange(count) * span.stride + (span.low + span.high) / 2
        for count, span in ((height, rows), (width, columns))
    ]
    by_rows = np.apply_along_axis(lambda line: np.interp(np.arange(size[0]), places[0], line), 1, relevance)
    expected = np.apply_along_axis(lambda line: np.interp(np.arange(size[1]), places[1], line), 2, by_rows)
    assert np.allclose(found, expected / (rows.stride * columns.stride))


@pytest.mark.parametrize("padding", [(1, 1), (0, 1)])
@pytest.mark.parametrize("stride", [2, 4, 8])
def test_what_is_enlarged_lies_where_it_is_in_the_image(stride, padding):
    """A spot in a network of strided convolutions, padded on both sides, or on one as TensorFlow does."""
    layers = []
    for i in range(4):
        layers += [nn.ZeroPad2d((padding[0], padding[1]) * 2), nn.Conv2d(1 if i == 0 else 2, 2, 3, 2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).double()
    for weight in model.parameters():
        weight.data.fill_(1.0 if weight.ndim > 1 else 0.0)
    rows, columns = np.mgrid[:96, :128]
    # A spot wide enough for units of any stride to sample it evenly.
    spot = np.exp(-((rows - 41.0) ** 2 + (columns - 77.0) ** 2) / (2 * 12.0**2))
    image = torch.from_numpy(spot)[None, None]
    unrolled = unroll(model, image, "EpsilonPlus", stride=stride)
    found = unrolled.stage.enlarge(unrolled(image)[1].sum(1), image.shape[2:])[0].numpy()
    at_pixels = unroll(model, image, "EpsilonPlus")(image)[1].sum(1)[0].numpy()
    for relevance in (found, at_pixels):
        centre = [(relevance * place).sum() / relevance.sum() for place in (rows, columns)]
        assert centre == pytest.approx([41, 77], abs=0.3)
    assert found.sum() == pytest.approx(at_pixels.sum(), rel=0.02)
