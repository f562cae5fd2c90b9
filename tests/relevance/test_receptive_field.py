"""The receptive field against the support of a gradient, and its way into the model card."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec
from lrp_edge.classifiers import POOLINGS, vgg
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_onnx
from lrp_edge.relevance import unroll
from lrp_edge.relevance.receptive_field import receptive_field
from tests.support.command import lrp_edge
from tests.support.exported import CARD, tiny
from tests.support.oracles import random_cnn, small_family, torchvision_model


class Sums(nn.Module):
    """Max pooling without a winner: the sum of each window."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        kernel, pool = self.pool.kernel_size, self.pool
        ones = x.new_ones(x.shape[1], 1, *((kernel, kernel) if isinstance(kernel, int) else kernel))
        return F.conv2d(x, ones, None, pool.stride, pool.padding, pool.dilation, x.shape[1])


def all_positive(features):
    """Replace maxima by sums, and weights by positive ones, so that no path of a gradient cancels another."""
    for module in list(features.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, Sums(child))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                child.weight.data.uniform_(0.5, 1).div_(child.weight[0].numel())
                child.bias = None
    return features


def support(features, size):
    """Return the size of the part of an image that the unit in the middle of the features depends on."""
    image = torch.ones(1, 3, *size, requires_grad=True)
    units = all_positive(features.float())(image)
    units[0, :, units.shape[2] // 2, units.shape[3] // 2].sum().backward()
    rows, columns = (image.grad[0].sum((0, axis)).nonzero() for axis in (2, 1))
    for found, length in ((rows, size[0]), (columns, size[1])):
        assert 0 < int(found.min()) <= int(found.max()) < length - 1, "the image is too small to tell"
    return tuple(int(found.max() - found.min()) + 1 for found in (rows, columns))


def field(model, side=64):
    return receptive_field(unroll(model, torch.zeros(1, 3, side, side, dtype=next(model.parameters()).dtype)))


@pytest.mark.parametrize(("name", "side"), [("vgg_bn", 112), ("basic_resnet", 384)])
def test_families(name, side):
    assert_field_is_seen(small_family(name), side)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "side"), [("vgg11", 224), ("resnet18", 512)])
def test_torchvision_families(name, side):
    assert_field_is_seen(torchvision_model(name), side)


def assert_field_is_seen(model, side):
    found = field(model)
    assert found == support(nn.Sequential(*list(model.children())[:-2]), (side, side))


@pytest.mark.parametrize("seed", range(8))
def test_random_cnns(seed):
    model = random_cnn(seed)
    pooled = next(i for i, layer in enumerate(model) if isinstance(layer, nn.AdaptiveAvgPool2d))
    found = receptive_field(unroll(model, torch.zeros(1, 3, 65, 70, dtype=torch.float64)))
    size = tuple(3 * length + 64 for length in found)
    assert found == support(model[:pooled], size)


class Branches(nn.Module):
    """A sum of maps that see windows of several sizes, side by side, and a concatenation."""

    def __init__(self):
        super().__init__()
        self.near = nn.Conv2d(3, 4, 1, stride=2)
        self.wide = nn.Conv2d(3, 4, (7, 3), stride=2, padding=(3, 1))
        self.late = nn.Sequential(nn.ZeroPad2d((4, 0, 0, 2)), nn.Conv2d(4, 4, 3, dilation=2))

    def forward(self, x):
        x = F.relu(self.near(x)) + F.relu(self.wide(x))
        return torch.cat([x, F.pad(self.late(x), (0, 0, 2, 0))], 1)


class Shuffled(nn.Module):
    """Channels in another order, by views that keep rows and columns."""

    def forward(self, x):
        return x.view(x.shape[0], 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


def with_head(features, channels, *head):
    return nn.Sequential(features, *(head or (nn.AdaptiveAvgPool2d(1), nn.Flatten())), nn.Linear(channels, 2)).eval()


@pytest.mark.parametrize(
    "features",
    [Branches(), nn.Sequential(nn.Conv2d(3, 8, 5, 2), Shuffled(), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2))],
)
def test_branches_and_shuffled_channels(features):
    assert field(with_head(features, 8)) == support(features, (200, 210))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_window_before_any_global_pooling(pooling):
    """3 × 3 convolutions with three poolings by two between: 1 + 2·1 + 1 + 2·2 + 2 + 4·4 + 4 + 4·8·2 = 94."""
    model = vgg("A", channels=3, classes=2, width=0.05, pools=3, pooling=pooling)
    assert field(model) == (94, 94)


class Mixed(nn.Module):
    def __init__(self, mix):
        super().__init__()
        self.mix, self.first, self.second = mix, nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.second(self.mix(self.first(x)))


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x - x.mean((2, 3), keepdim=True),
        lambda x: x + x.mean(3, keepdim=True),
        lambda x: x.transpose(2, 3),
        lambda x: x.permute(0, 1, 3, 2),
        lambda x: torch.cat([x, x], 2),
        lambda x: x.flatten(1).view(x.shape[0], 4, 32, 32),
        nn.Linear(32, 32),
    ],
    ids=["less its mean", "mean of rows", "transposed", "permuted", "added to itself", "flat between", "dense rows"],
)
def test_what_cannot_be_told(mix):
    model = with_head(Mixed(mix), 4)
    assert field(model, 32) is None


class MeanOfFlat(nn.Module):
    def forward(self, x):
        return x.flatten(2).mean(2)


@pytest.mark.parametrize(("head", "channels"), [(nn.Flatten(), 4 * 15 * 15), (MeanOfFlat(), 4)])
def test_positions_laid_side_by_side_end_the_feature_maps(head, channels):
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    assert field(with_head(body, channels, head), 32) == (4, 4)


def test_the_card_has_it(tmp_path):
    spec = InputSpec(size=None, resize=(64, 64))
    file = to_onnx(tiny(), tmp_path, card=CARD.replace(input=spec))
    card = ModelCard.from_json(file.with_suffix(".json").read_text())
    assert card.receptive_field == (8, 8)
    assert ModelCard.from_json(card.to_json()) == card
    done = lrp_edge("inspect", file)
    assert "8x8 pixels of a frame that is resized to 64x64" in done.stdout


def test_cards_of_former_files_are_read():
    former = {key: value for key, value in json.loads(CARD.to_json()).items() if key != "receptive_field"}
    assert former["schema"] == 1
    assert ModelCard.from_json(json.dumps(former)) == CARD
    with pytest.raises(LrpEdgeError, match="does not fit its schema"):
        ModelCard.from_json(json.dumps({**former, "receptive_fields": [3, 3]}))
