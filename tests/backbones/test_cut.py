"""Networks of libraries and of users, cut at a module and run at a smaller stride."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lrp_edge.backbones.cut import cut, in_gray
from lrp_edge.backbones.library import library_network
from lrp_edge.backbones.weights import start_cut
from lrp_edge.errors import LrpEdgeError
from tests.support.oracles import with_statistics

#: Where each is cut by itself, and the channels there: the last stage with a stride of 16.
NETWORKS = {
    "torchvision:resnet18": ("layer3", 256),
    "torchvision:mobilenet_v2": ("features.13", 96),
    "torchvision:efficientnet_b0": ("features.5", 112),
    "torchvision:regnet_x_400mf": ("trunk_output.block3", 160),
    "torchvision:shufflenet_v2_x0_5": ("stage3", 96),
    "torchvision:densenet121": ("features.denseblock3", 1024),
    "timm:resnet18": ("layer3", 256),
    "timm:tf_efficientnet_lite0": ("blocks.4", 112),
    "timm:mobilenetv3_small_100": ("blocks.3", 48),
}
IMAGE = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))


@functools.cache
def network(name: str) -> nn.Module:
    library, _, own = name.partition(":")
    if library == "timm":
        pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    return with_statistics(library_network(library, own))


def until(model: nn.Module, path: str, image: Tensor) -> Tensor:
    """What a module returns in the whole network."""
    found: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        model(image)
    handle.remove()
    return found[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_network_returns_what_the_whole_one_has_there(name: str) -> None:
    model, (path, width) = network(name), NETWORKS[name]
    part = cut(model, 3, stride=16)
    assert part.meta == {"cut": path, "stride": 16, "width": width}
    theirs = until(model, path, IMAGE)
    with torch.no_grad():
        assert torch.equal(part(IMAGE), theirs)
    own, whole = part.state_dict(), model.state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in own.items())
    assert len(own) < len(whole)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_stride_8_is_dense_and_changes_no_weight(name: str) -> None:
    part = cut(network(name), 3, stride=8)
    assert part.meta["stride"] == 8
    assert part(IMAGE).shape == (1, NETWORKS[name][1], 12, 8)
    assert all(torch.equal(value, network(name).state_dict()[key]) for key, value in part.state_dict().items())


@torch.no_grad()
def test_every_other_position_of_the_first_dense_convolution_is_that_of_the_whole_network() -> None:
    model = network("torchvision:resnet18")
    fine = cut(model, 3, "layer3.0.conv1", stride=8)(IMAGE)
    assert torch.allclose(fine[..., ::2, ::2], until(model, "layer3.0.conv1", IMAGE), atol=1e-5)


@torch.no_grad()
def test_a_cut_can_be_anywhere() -> None:
    model = network("torchvision:resnet18")
    for path, stride in (("maxpool", 4), ("layer1", 4), ("layer2.1.conv1", 8), ("layer4", 32)):
        part = cut(model, 3, path, 32)
        assert part.meta["stride"] == stride
        assert torch.equal(part(IMAGE), until(model, path, IMAGE))
    assert cut(model, 3, "layer4", 8)(IMAGE).shape == (1, 512, 12, 8)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:mobilenet_v2", "timm:resnet18"])
@torch.no_grad()
def test_gray_is_colour_with_equal_channels(name: str) -> None:
    colour, gray = cut(network(name), 3), cut(network(name), 3)
    in_gray(gray)
    image = IMAGE[:, :1]
    theirs = colour(image.expand(-1, 3, -1, -1))
    assert torch.allclose(gray(image), theirs, atol=1e-4 * float(theirs.abs().max()))


@torch.no_grad()
def test_a_file_of_the_whole_network_starts_its_first_part() -> None:
    torch.manual_seed(1)
    part = cut(library_network("torchvision", "resnet18"), 3)
    in_gray(part)
    wanted = network("torchvision:resnet18")
    start_cut(part, wanted.state_dict(), "resnet18.pth")
    assert torch.equal(part.state_dict()["layer3.1.conv2.weight"], wanted.state_dict()["layer3.1.conv2.weight"])
    theirs = cut(wanted, 3)(IMAGE[:, :1].expand(-1, 3, -1, -1))
    assert torch.allclose(part.eval()(IMAGE[:, :1]), theirs, atol=1e-4 * float(theirs.abs().max()))
    for state, found in (
        (network("torchvision:mobilenet_v2").state_dict(), "conv1.weight is missing, expected"),
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, r"conv1.weight is \[64, 1, 3, 3\], expected \[64, 1, 7, 7\]"),
    ):
        with pytest.raises(LrpEdgeError, match=rf"^other\.pth: weights of another network: {found}"):
            start_cut(part, state, "other.pth")


class Tangle(nn.Module):
    """Its branches have one size at stride 2 alone, since one of them is pooled by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 8, 1)
        self.branch = nn.Conv2d(4, 4, 3, 2, 1)
        self.after = nn.Conv2d(4, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        return self.after(self.branch(x) + nn.functional.max_pool2d(x, 2))


class Branching(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image if image.shape[2] > 32 else -image


@pytest.mark.parametrize(
    ("model", "at", "message"),
    [
        (Tangle(), "", "Tangle cannot have a stride of 8 at after"),
        (Tangle(), "affter", "Tangle cannot be cut at 'affter'; did you mean after?"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), "", "Sequential cannot be cut"),
        (nn.Sequential(Branching(), nn.Linear(3, 2)), "", "Sequential cannot be cut"),
    ],
)
def test_what_cannot_be_cut_is_refused(model: nn.Module, at: str, message: str) -> None:
    with pytest.raises(LrpEdgeError, match=message):
        cut(model, 3, at, 8)


def test_poolings_lose_their_stride_too() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, 2, 1), nn.Conv2d(4, 4, 1)
    )
    image = torch.rand(1, 3, 64, 64)
    for stride, side in ((4, 16), (8, 8), (16, 4)):
        part = cut(model, 3, "4", stride)
        assert part(image).shape == (1, 4, side, side)
    dense = cut(model, 3, "4", 8)(image)
    assert torch.allclose(dense[..., ::2, ::2], model(image), atol=1e-6)


def test_libraries_say_what_they_do_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LrpEdgeError, match=r"torchvision has no network 'resnet81'; did you mean resnet18\?"):
        library_network("torchvision", "resnet81")
    # Nothing answers there.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(LrpEdgeError, match=r"weights of torchvision:resnet18 cannot be downloaded .* --weights FILE"):
        library_network("torchvision", "resnet18", imagenet=True)
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(LrpEdgeError, match=r"networks of timm need it, which cannot be imported: pip install timm"):
        library_network("timm", "resnet18")
