"""What is around a network, its dtype and the form of its answer change neither its logits nor their relevance."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import unroll
from lrp_edge.relevance.plain import plain
from tests.support.oracles import with_statistics

IMAGE = torch.rand(2, 3, 20, 16, generator=torch.Generator().manual_seed(0))


def network(classes=3):
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return with_statistics(nn.Sequential(*layers, nn.Linear(6, classes)))


class Answers(nn.Module):
    """Answers with whatever a function makes of logits and features."""

    def __init__(self, answer, classes=3):
        super().__init__()
        self.network, self.answer = network(classes), answer

    def forward(self, x):
        return self.answer(self.network(x), x)


class Inside(nn.Module):
    """A wrapper around a part of a network."""

    def __init__(self, wrap):
        super().__init__()
        whole = network()
        self.first, self.rest = wrap(whole[:3]), whole[3:]

    def forward(self, x):
        return self.rest(self.first(x))


def in_place():
    model = Answers(lambda logits, _: logits)
    model.network.compile()
    return model


def with_former_weight_norm():
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model[0] = nn.utils.weight_norm(model[0])
    return model


WRAPPED = {
    "DataParallel": lambda: nn.DataParallel(network()),
    "compiled": lambda: torch.compile(network()),
    "compiled in place": in_place,
    "a compiled part": lambda: Inside(torch.compile),
    "both": lambda: torch.compile(nn.DataParallel(torch.compile(network()))),
    "float64": lambda: network().double(),
    "channels last": lambda: network().to(memory_format=torch.channels_last),
    "training": lambda: network().train(),
    "former weight_norm": with_former_weight_norm,
    "new weight_norm": lambda: Inside(
        lambda part: nn.Sequential(nn.utils.parametrizations.weight_norm(part[0]), *part[1:])
    ),
    "one of a dict": lambda: Answers(lambda logits, x: {"logits": logits}),
    "one beside nothing": lambda: Answers(lambda logits, x: (None, logits)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_is_around_a_network_changes_nothing(name):
    expected = unroll(network(), IMAGE)(IMAGE)
    model = WRAPPED[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for found, wanted in zip(unroll(model, IMAGE)(IMAGE), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_exact_in_float32(dtype):
    model = network().to(dtype)
    same = network()
    same.load_state_dict(model.state_dict())
    for found, wanted in zip(unroll(model, IMAGE)(IMAGE), unroll(same, IMAGE)(IMAGE), strict=True):
        assert torch.equal(found, wanted)
    assert next(model.parameters()).dtype == dtype


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", [torch.jit.script, lambda model: torch.jit.trace(model, IMAGE)])
def test_torchscript_is_refused_by_name(kind):
    compiled = kind(network())
    with pytest.raises(LrpEdgeError, match=r"TorchScript.*give the torch\.nn\.Module"):
        unroll(compiled, IMAGE)


def test_weights_beyond_float32_are_named():
    model = network().double()
    model[5].bias.data[0] = 1e300
    with pytest.raises(LrpEdgeError, match=r"weight '5\.bias' has NaN or infinite"):
        plain(model, IMAGE)


STRUCTURES = {
    "logits": lambda logits, x: {"features": x, "logits": logits},
    "0": lambda logits, x: (logits, x),
    "1": lambda logits, x: [x, logits, 3],
    "heads.1": lambda logits, x: {"heads": (x, logits), "image": x},
    "0.out": lambda logits, x: ({"out": logits, "aux": x},),
}


@pytest.mark.parametrize("path", STRUCTURES)
def test_one_of_several_outputs(path):
    model = Answers(STRUCTURES[path])
    for found, wanted in zip(unroll(model, IMAGE, logits=path)(IMAGE), unroll(network(), IMAGE)(IMAGE), strict=True):
        torch.testing.assert_close(found, wanted)
    with pytest.raises(LrpEdgeError, match=rf"the model returns [23] tensors, .*{path} \[N, 3\].*--logits {path}"):
        unroll(model, IMAGE)
    with pytest.raises(LrpEdgeError, match="the model returns no 'class'"):
        unroll(model, IMAGE, logits="class")


def test_an_output_that_is_no_logits_is_refused():
    with pytest.raises(LrpEdgeError, match=r"expected logits \[N, K\]"):
        unroll(Answers(STRUCTURES["0"]), IMAGE, logits="1")


@pytest.mark.parametrize("explained", ["predicted", "contrast", 1])
@pytest.mark.parametrize("composite", ["Segmentation", "EpsilonPlusFlat"])
def test_one_logit_is_that_of_the_second_of_two_classes(explained, composite):
    single, twice = network(1), network(2)
    for name in ("weight", "bias"):
        value = getattr(single[5], name).data
        getattr(twice[5], name).data = torch.cat([torch.zeros_like(value), value])
    image = IMAGE.double()
    found, wanted = (unroll(model, image, composite, explained, defects=[1])(image) for model in (single, twice))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[0].softmax(1)[:, 1], F.sigmoid(single.double()(image))[:, 0])


class Remembers(nn.Module):
    """Keeps what it computed of its weights in a forward pass."""

    def __init__(self):
        super().__init__()
        self.bias, self.kept = nn.Parameter(torch.ones(1, 3, 1, 1)), {}

    def forward(self, x):
        self.kept.setdefault("bias", self.bias * 2)
        return x + self.kept["bias"]


def test_what_a_forward_pass_left_behind_is_no_obstacle():
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    model = nn.Sequential(Remembers(), *head).eval()
    image = torch.randn(2, 3, 8, 8)
    expected = model(image)
    torch.testing.assert_close(unroll(model, image, any_size=False)(image)[0], expected)
    assert model[0].kept["bias"].grad_fn is not None
