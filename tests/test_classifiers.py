from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrp_edge.classifiers import CHANNELS, GlobalPool, build, evidence, vgg
from lrp_edge.errors import LrpEdgeError

LAYERS = {"A": 11, "B": 13, "D": 16, "E": 19}


@pytest.mark.parametrize("variant", LAYERS)
def test_variants_are_the_papers_without_its_linear_layers(variant: str) -> None:
    model = vgg(variant, channels=3, classes=4)
    convolutions = [m for m in model.features if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == LAYERS[variant] - 3
    assert {c.out_channels for c in convolutions} == set(CHANNELS)
    assert all(c.kernel_size == (3, 3) and c.padding == (1, 1) for c in convolutions)
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.features) == 5


def test_vgg_11_has_as_many_weights_as_torchvisions() -> None:
    # 9 220 480 in the convolutions of VGG-11, 5 504 in its batch normalisation.
    plain = vgg("A", channels=3, classes=2, batch_norm=False)
    assert sum(p.numel() for p in plain.features.parameters()) == 9_220_480
    normalised = vgg("A", channels=3, classes=2)
    convolution_biases = 64 + 128 + 256 + 256 + 4 * 512
    assert sum(p.numel() for p in normalised.features.parameters()) == 9_220_480 - convolution_biases + 5_504


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(64, 99),
    width=st.integers(64, 99),
    pooling=st.sampled_from(["gem", "average", "max", "lse"]),
    stem=st.integers(1, 2),
    pools=st.integers(1, 5),
)
def test_any_size_of_64_pixels_and_more_is_classified(
    height: int, width: int, pooling: str, stem: int, pools: int
) -> None:
    model = build(
        {
            "family": "vgg", "width": 0.05, "channels": 1, "classes": 3,
            "pooling": pooling, "stem": stem, "pools": pools,
        }
    ).eval()  # fmt: skip
    image = torch.rand(2, 1, height, width)
    assert model(image).shape == (2, 3)
    assert model.stride == stem * 2**pools
    rows, columns = (-(-size // stem) // 2**pools for size in (height, width))
    assert evidence(model, image).shape == (2, 3, rows, columns)


@pytest.mark.parametrize("power", [1.0, 3.0, 7.5])
def test_generalised_mean_is_what_its_formula_says(power: float) -> None:
    features = torch.rand(2, 3, 5, 7, dtype=torch.float64) + 0.1
    expected = torch.linalg.vector_norm(features.flatten(2), power, dim=2) / 35 ** (1 / power)
    assert torch.allclose(GlobalPool("gem", power)(features), expected, rtol=1e-4)


def test_generalised_mean_lies_between_mean_and_maximum() -> None:
    features = torch.rand(4, 8, 6, 6)
    average, gem, maximum = (GlobalPool(name, 4.0)(features) for name in ("average", "gem", "max"))
    assert torch.equal(average, features.mean((2, 3)))
    assert torch.equal(maximum, features.amax((2, 3)))
    assert ((average < gem) & (gem < maximum)).all()


def test_a_channel_of_zeros_has_a_finite_derivative() -> None:
    features = torch.zeros(1, 2, 4, 4, requires_grad=True)
    GlobalPool("gem", 3.0)(features).sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_evidence_of_a_position_is_the_logit_of_its_features_alone() -> None:
    model = vgg(channels=1, classes=3, width=0.1, pooling="average").eval()
    image = torch.rand(1, 1, 96, 128)
    scores = evidence(model, image)
    assert torch.allclose(scores.mean((2, 3)), model(image), atol=1e-5)


def test_two_builds_of_one_description_differ_only_in_their_random_weights() -> None:
    description = {"family": "vgg", "variant": "B", "width": 0.1, "channels": 1, "classes": 2, "dropout": 0.5}
    first, second = build(description), build(description)
    second.load_state_dict(first.state_dict())
    image = torch.rand(1, 1, 64, 64)
    assert torch.equal(first.eval()(image), second.eval()(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "resnext"}, "classifier family is 'resnext'"),
        ({"variant": "C"}, "VGG variant is 'C'"),
        ({"pooling": "median"}, "pooling is 'median'"),
        ({"power": 0.5}, "power of the generalised mean"),
        ({"width": 0}, "width > 0"),
        ({"pools": 6}, "pools"),
        ({"stem": 3}, "stem 1 or 2"),
        ({"depth": 3}, "depth"),
    ],
)
def test_a_description_that_fits_nothing_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(LrpEdgeError, match=message):
        build({"family": "vgg", "width": 0.1, "channels": 1, "classes": 2, **change})


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(LrpEdgeError, match="classes"):
        build({"family": "vgg", "channels": 1})
