"""EfficientNet-Lite0 against timm's, and its ImageNet weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lrp_edge import _torchvision  # noqa: F401
from lrp_edge.backbones.efficientnet_lite0 import efficientnet_lite0, features_of
from lrp_edge.backbones.weights import LITE_DEVIATION, imagenet_lite0, start_lite0
from lrp_edge.errors import LrpEdgeError
from tests.support.oracles import with_statistics


def timms(stages: int) -> nn.Sequential:
    """Return timm's network with the same ImageNet weights, which it has in the same order."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = timm.create_model("tf_efficientnet_lite0").eval()
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    given = [value for name, value in imagenet_lite0().items() if not name.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, given, strict=True)), strict=False)
    return nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:stages])


def started(channels: int, stages: int, stride: int) -> nn.Sequential:
    features = efficientnet_lite0(channels=channels, stages=stages, stride=stride).eval()
    start_lite0(features, imagenet_lite0(), "imagenet")
    return features


@pytest.mark.parametrize("stages", [1, 3, 5, 7])
@torch.no_grad()
def test_features_are_those_of_timm(stages: int) -> None:
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    theirs = timms(stages)(image * LITE_DEVIATION)
    assert torch.allclose(started(3, stages, 32)(image), theirs, atol=1e-4 * float(theirs.abs().max()))


@torch.no_grad()
def test_stride_8_has_the_features_of_stride_16_in_between() -> None:
    """Where nothing after the stage looks around, every other position is that of the larger stride."""
    features = {stride: started(3, 4, stride) for stride in (8, 16)}
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    before = features[8][:4](image)
    assert torch.equal(before, features[16][:4](image))
    # The first block of the stage, where 5 × 5 windows at stride 2 begin one position before the image.
    fine, coarse = (found[4][0](before) for found in features.values())
    assert fine.shape[2:] == (8, 12)
    assert coarse.shape[2:] == (4, 6)
    assert torch.allclose(fine[..., 1::2, 1::2], coarse, atol=1e-4)


@torch.no_grad()
def test_gray_is_colour_with_equal_channels() -> None:
    gray = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    colour = started(3, 5, 8)(gray.expand(-1, 3, -1, -1))
    assert torch.allclose(started(1, 5, 8)(gray), colour, atol=1e-4 * float(colour.abs().max()))


@settings(max_examples=15)
@given(
    height=st.integers(32, 99), width=st.integers(32, 99), stages=st.integers(1, 7), stride=st.sampled_from([4, 8, 16])
)
def test_any_size_gives_features_at_the_stride(height: int, width: int, stages: int, stride: int) -> None:
    channels, reached = features_of(stages, stride, 0.1)
    features = with_statistics(efficientnet_lite0(channels=1, stages=stages, stride=stride, width=0.1))
    assert reached <= stride
    assert features(torch.rand(1, 1, height, width)).shape == (1, channels, height // reached, width // reached)


@pytest.mark.parametrize("change", [{"channels": 0}, {"stages": 0}, {"stages": 8}, {"stride": 2}, {"width": 0}])
def test_a_number_out_of_its_range_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(LrpEdgeError, match=f"{next(iter(change))}="):
        efficientnet_lite0(**{"channels": 1, **change})


def other(name: str) -> dict[str, Tensor]:
    own = dict(efficientnet_lite0(channels=3, width=0.5).state_dict())
    whole = imagenet_lite0()
    if name == "cut":
        return dict(list(whole.items())[:100])
    if name == "of another order":
        return dict(reversed(whole.items()))
    return own if name == "narrow" else {"conv1.weight": torch.zeros(64, 3, 7, 7)}


@pytest.mark.parametrize("name", ["resnet", "narrow", "cut", "of another order"])
def test_weights_of_another_network_are_refused_and_named(name: str) -> None:
    features = efficientnet_lite0(channels=1)
    before = [value.clone() for value in features.state_dict().values()]
    with pytest.raises(
        LrpEdgeError, match=r"^f\.pth: these are not weights of efficientnet_lite0: .* expected one like"
    ):
        start_lite0(features, other(name), "f.pth")
    assert all(torch.equal(*pair) for pair in zip(before, features.state_dict().values(), strict=True))
