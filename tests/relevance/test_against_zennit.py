"""Relevance equals zennit's, in float64, for the same model, weights, composite and target."""

import pytest
import torch

from lrp_edge.relevance import unroll
from tests.support.oracles import PRESETS, SMALL_FAMILIES, random_cnn, small_family, torchvision_model, zennit_relevance

TOLERANCE = 1e-8


def assert_same_relevance(model, image, preset):
    expected_logits, expected = zennit_relevance(model, image, preset)
    with torch.no_grad():
        logits, relevance = unroll(model, image, preset, **PRESETS[preset])(image)
    assert float(expected.abs().max()) > 0
    assert float((logits - expected_logits).abs().max()) <= 1e-10
    difference = float((relevance - expected).abs().max() / expected.abs().max())
    print(f"max |difference| / max |R| = {difference:.1e}")
    assert difference <= TOLERANCE


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", SMALL_FAMILIES)
def test_families(name, preset):
    torch.manual_seed(1)
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert_same_relevance(small_family(name), image, preset)


@pytest.mark.thorough
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ["vgg11", "vgg16_bn", "resnet18", "resnet50"])
def test_torchvision_families(name, preset):
    torch.manual_seed(1)
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert_same_relevance(torchvision_model(name), image, preset)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("seed", range(10))
def test_random_cnns(seed, preset):
    torch.manual_seed(seed)
    image = torch.randn(3, 3, 65, 70, dtype=torch.float64)
    assert_same_relevance(random_cnn(seed), image, preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_ties_go_to_the_first_maximum(preset):
    """A flat image makes all elements of a window equal."""
    image = torch.full((1, 3, 64, 64), 0.25, dtype=torch.float64)
    assert_same_relevance(small_family("vgg"), image, preset)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["vgg13", "vgg13_bn", "vgg19", "resnet34"])
def test_the_other_depths(name):
    torch.manual_seed(2)
    image = torch.randn(1, 3, 48, 80, dtype=torch.float64)
    assert_same_relevance(torchvision_model(name), image, "EpsilonPlusFlat")


def test_the_model_is_left_as_it_was():
    model = small_family("basic_resnet").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unroll(model, torch.randn(1, 3, 64, 64, dtype=torch.float64))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
