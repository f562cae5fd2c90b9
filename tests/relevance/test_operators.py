"""Each operator in a small network: its logits, and its relevance against gradient × input.

A network that is piecewise linear, with no ε, has gradient × input as its LRP-0 (Ancona et al. 2018). Gates, divisors
and attention take nothing: they are constants of the gradient. Without biases relevance adds up to the logit.
"""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrp_edge.errors import LrpEdgeError
from lrp_edge.relevance import branches, layers, operators, unroll

unrolling = importlib.import_module("lrp_edge.relevance.unroll")

X = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CHANNELS = 8


class Of(nn.Module):
    """A function of the signal and of modules, as a module."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def network(block, after=CHANNELS, before=True, biases=True):
    """Return a classifier with a block in it, in float64; `after` channels are what the block returns."""
    torch.manual_seed(1)
    stem = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU()] if before else []
    head = [nn.LazyConv2d(CHANNELS, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3)]
    model = nn.Sequential(*stem, block() if callable(block) and not isinstance(block, nn.Module) else block, *head)
    model = model.double().eval()
    model(X)
    if not biases:
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
    return model


def gradient_times_input(model, image):
    image = image.clone().requires_grad_()
    logits = model(image)
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), image)
    return logits.detach(), gradient * image.detach()


def lrp_0(model, image, **options):
    unrolled = unroll(model, image, "Epsilon", epsilon=1e-13, stabilizer=1e-13, **{"any_size": False, **options})
    with torch.no_grad():
        return unrolled(image)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> bool:
    return float((found - expected).abs().max() / expected.abs().max()) <= tolerance


def attention(block, x, weigh):
    tokens = x.flatten(2).transpose(1, 2)
    query, key, value = block.qkv(tokens).chunk(3, -1)
    weights = (query @ key.transpose(-2, -1) / math.sqrt(CHANNELS)).softmax(-1)
    return x + (weigh(weights) @ value).transpose(1, 2).reshape(x.shape)


def squeeze_and_excite(block, x, gate, weigh):
    return x * weigh(gate(block.excite(F.relu(block.squeeze(x.mean((2, 3), keepdim=True))))))


def excitation():
    return {"squeeze": nn.Conv2d(CHANNELS, 2, 1), "excite": nn.Conv2d(2, CHANNELS, 1)}


def mil(block, x, weigh):
    tokens = x.flatten(2).transpose(1, 2)
    weights = block.score(block.v(tokens).tanh() * block.u(tokens).sigmoid()).softmax(1)
    return (weigh(weights) * tokens).sum(1)[:, :, None, None]


def mixed_with_places(weights, share):
    """Attention by what is there mixed with attention by where it is (ConViT), over its own sum."""
    near = -(torch.arange(256)[:, None] - torch.arange(256)).abs().to(weights)
    mixed = (1 - share.sigmoid()) * weights + share.sigmoid() * near.softmax(-1).expand(weights.shape)
    return mixed / mixed.sum(-1, keepdim=True)


def blur(x, mode):
    kernel = torch.tensor([1.0, 2, 1], dtype=x.dtype)
    kernel = (kernel[:, None] * kernel / 16)[None, None].repeat(CHANNELS, 1, 1, 1)
    return F.conv2d(F.pad(x, (2, 1, 1, 2), mode=mode), kernel, stride=2, groups=CHANNELS)


#: What is linear, or chooses among values, in the signal.
PIECEWISE_LINEAR = {
    "chunk": lambda: Of(lambda s, x: sum(x.chunk(2, 1))),
    "split": lambda: Of(lambda s, x: torch.cat(x.split([2, 6], 1)[::-1], 1)),
    "tensor_split": lambda: Of(lambda s, x: torch.maximum(*x.tensor_split(2, 1))),
    "minimum": lambda: Of(lambda s, x: torch.minimum(x, x.flip(3))),
    "unbind, stack": lambda: Of(lambda s, x: torch.stack(x.unbind(1)[::-1], 1)),
    "slice": lambda: Of(lambda s, x: torch.cat([x[..., ::2, 1::2], x[..., 1::2, -16::2]], 1)),
    "select": lambda: Of(lambda s, x: x + x[:, -1].unsqueeze(1)),
    "roll": lambda: Of(lambda s, x: x + x.roll((3, -2), (2, 3))),
    "index": lambda: Of(lambda s, x: x[:, [3, 1, 1, 7]]),
    "index_select": lambda: Of(lambda s, x: x.index_select(3, torch.tensor([5, 0, 9]))),
    "expand": lambda: Of(lambda s, x: x.mean(1, keepdim=True).expand(-1, 3, -1, -1)),
    "repeat": lambda: Of(lambda s, x: x.repeat(1, 2, 1, 2)),
    "shuffles": lambda: Of(lambda s, x: F.channel_shuffle(F.pixel_unshuffle(F.pixel_shuffle(x, 2), 4), 4)),
    "reflect": lambda: Of(lambda s, x: blur(x, "reflect")),
    "circular": lambda: Of(lambda s, x: blur(x, "circular")),
    "replicate": lambda: Of(lambda s, x: blur(x, "replicate")),
    "crop": lambda: Of(lambda s, x: F.pad(x, (-2, 1, -1, -3))),
    "crop and reflect": lambda: Of(lambda s, x: F.pad(x, (-2, 1, 2, -3), mode="reflect")),
    "nearest": lambda: Of(lambda s, x: F.interpolate(x, scale_factor=1.7)),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "aligned": lambda: Of(lambda s, x: F.interpolate(x, (11, 23), mode="bilinear", align_corners=True)),
    "bicubic": lambda: Of(lambda s, x: F.interpolate(x, (24, 20), mode="bicubic")),
    "same, even kernel": lambda: nn.Conv2d(CHANNELS, 4, (4, 3), padding="same", dilation=(1, 2)),
    "transposed convolution": lambda: nn.ConvTranspose2d(CHANNELS, 4, 4, (2, 3), 1, output_padding=(1, 0), groups=2),
    "windows": lambda: Of(
        lambda s, x: x.unfold(2, 4, 2).unfold(-2, 3, 1).flatten(-2) @ torch.linspace(-1, 2, 12).to(x)
    ),
    "columns": lambda: Of(lambda s, x: F.unfold(x, (3, 2), (2, 1), (1, 2), (2, 3)).unflatten(2, (7, 7))),
    "columns laid out": lambda: Of(
        lambda s, x: F.fold(F.unfold(x, 3, stride=2) * s.f, (15, 16), 3, stride=2), f=nn.Parameter(torch.rand(72, 49))
    ),
    "columns on columns": lambda: Of(
        lambda s, x: F.fold(x.flatten(2)[:, :, :60], (13, 9), (2, 4), (3, 1), (1, 2), (2, 1))
    ),
    "conv1d": lambda: Of(lambda s, x: s.c(x.flatten(2)).unflatten(2, (16, 16)), c=nn.Conv1d(CHANNELS, 4, 3, padding=1)),
    "product with a vector": lambda: Of(lambda s, x: (x @ s.v)[..., None], v=nn.Parameter(torch.randn(16))),
    "vector times": lambda: Of(lambda s, x: (s.v @ x)[..., None], v=nn.Parameter(torch.randn(16))),
    "mv": lambda: Of(
        lambda s, x: torch.mv(x.flatten(0, 2), s.v).unflatten(0, (2, 8, 16, 1)), v=nn.Parameter(torch.randn(16))
    ),
    "einsum": lambda: Of(lambda s, x: torch.einsum("nchw,kc->nkhw", x, s.c.weight), c=nn.Linear(CHANNELS, 5)),
    "amax": lambda: Of(lambda s, x: x * 0.1 + x.amax((2, 3), keepdim=True)),
    "max along": lambda: Of(lambda s, x: x + x.max(2, keepdim=True)[0]),
    "adaptive maximum": lambda: Of(lambda s, x: F.adaptive_max_pool2d(x, (4, 2))),
    "top k": lambda: Of(lambda s, x: x.flatten(2).topk(9, 2)[0].unflatten(2, (3, 3))),
    "sum": lambda: Of(lambda s, x: x + x.sum((2, 3), keepdim=True) / 100),
    "difference": lambda: Of(lambda s, x: x - 0.3 * F.avg_pool2d(x, 3, 1, 1)),
    "where": lambda: Of(lambda s, x: torch.where(x > 0.5, x, 0.1 * x)),
    "one minus": lambda: Of(lambda s, x: 1 - x),
    "constant map": lambda: Of(lambda s, x: x + torch.linspace(-1, 1, 16, dtype=x.dtype)),
    "one channel by three factors": lambda: Of(
        lambda s, x: x.mean(1, keepdim=True) * s.f, f=nn.Parameter(torch.rand(3, 1, 1))
    ),
    "constant beside": lambda: Of(lambda s, x: torch.cat([x, x.new_ones(x.shape[0], 1, *x.shape[2:])], 1)),
    "batch norm before": lambda: nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.ReLU()),
    "linear on positions": lambda: Of(
        lambda s, x: s.l(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), l=nn.Linear(CHANNELS, 5)
    ),
    "tokens mixed": lambda: Of(lambda s, x: s.l(x.flatten(2)).unflatten(2, (4, 4)), l=nn.Linear(256, 16)),
}


def linear_attention(block, x):
    """That of EfficientViT: without a softmax, and in float32 whatever the network is in."""
    query, key, value = (part.flatten(2).transpose(1, 2).float() for part in block.qkv(x).chunk(3, 1))
    mixed = query.relu() @ (key.relu().transpose(1, 2) @ F.pad(value, (0, 1), value=1.0))
    return (mixed[..., :-1] / (mixed[..., -1:] + 1e-3)).transpose(1, 2).unflatten(2, (16, 16)).to(x.dtype)


#: Linear in the signal, in types that change on the way.
CAST = {
    "there and back": lambda: Of(lambda s, x: (2 * x.float()).to(x.dtype)),
    "by another's": lambda: Of(lambda s, x: (x.float() - x.float().mean(1, keepdim=True)).type_as(x)),
    "half": lambda: Of(lambda s, x: F.avg_pool2d(x.half(), 2).double()),
    "promoted": lambda: Of(lambda s, x: 0.5 * x.float() + x),
    "a layer": lambda: Of(lambda s, x: F.conv2d(x.float(), s.c.weight.float()).double(), c=nn.Conv2d(CHANNELS, 4, 3)),
    "beside": lambda: Of(lambda s, x: torch.cat([x.float().roll(1, 2), x], 1)),
}


@pytest.mark.parametrize("name", CAST)
def test_what_is_computed_in_another_type(name):
    model = network(CAST[name])
    expected_logits, expected = gradient_times_input(model, X)
    logits, relevance = lrp_0(model, X)
    assert torch.allclose(logits, expected_logits, rtol=1e-3 if name == "half" else 1e-6)
    assert relevance.dtype == X.dtype
    assert close(relevance, expected, 1e-2 if name == "half" else 1e-5)


def test_attention_in_another_type_conserves_relevance():
    model = network(Of(linear_attention, qkv=nn.Conv2d(CHANNELS, 3 * CHANNELS, 1)), biases=False)
    logits, relevance = lrp_0(model, X)
    assert close(relevance.sum((1, 2, 3)), logits.amax(1), 1e-3)


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_lrp_0_is_gradient_times_input(name):
    model = network(PIECEWISE_LINEAR[name])
    expected_logits, expected = gradient_times_input(model, X)
    logits, relevance = lrp_0(model, X)
    assert torch.allclose(logits, expected_logits, rtol=1e-12)
    assert close(relevance, expected)


def identity(x):
    return x


#: Of a gate, a divisor and attention's weights: the block as it is, and with them detached.
GATED = {
    "squeeze and excitation": lambda weigh: Of(
        lambda s, x: squeeze_and_excite(s, x, torch.sigmoid, weigh), **excitation()
    ),
    "hard sigmoid": lambda weigh: Of(lambda s, x: squeeze_and_excite(s, x, F.hardsigmoid, weigh), **excitation()),
    "hard sigmoid in parts": lambda weigh: Of(
        lambda s, x: squeeze_and_excite(s, x, lambda g: F.relu6(g + 3) / 6, weigh), **excitation()
    ),
    "gate of the same size": lambda weigh: Of(
        lambda s, x: s.a(x) * weigh(torch.sigmoid(s.b(x))),
        a=nn.Conv2d(CHANNELS, 4, 1),
        b=nn.Conv2d(CHANNELS, 4, 3, padding=1),
    ),
    "glu": lambda weigh: nn.GLU(1) if weigh is identity else Of(lambda s, x: x[:, :4] * x[:, 4:].sigmoid().detach()),
    "silu": lambda weigh: nn.SiLU() if weigh is identity else Of(lambda s, x: x * x.sigmoid().detach()),
    "mask": lambda weigh: Of(lambda s, x: x * (x.mean(1, keepdim=True) > 0.2).to(x)),
    "attention map": lambda weigh: Of(
        lambda s, x: x * weigh(s.c(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()),
        c=nn.Conv2d(2, 1, 7, padding=3),
    ),
    "multiple instances": lambda weigh: Of(
        lambda s, x: mil(s, x, weigh), v=nn.Linear(CHANNELS, 4), u=nn.Linear(CHANNELS, 4), score=nn.Linear(4, 1)
    ),
    "attention": lambda weigh: Of(lambda s, x: attention(s, x, weigh), qkv=nn.Linear(CHANNELS, 3 * CHANNELS)),
    "highway": lambda weigh: Of(
        lambda s, x: weigh(1 - s.g(x).sigmoid()) * x + weigh(s.g(x).sigmoid()) * s.a(x),
        g=nn.Conv2d(CHANNELS, CHANNELS, 1),
        a=nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    ),
    "one more than a mask": lambda weigh: Of(
        lambda s, x: s.a(x) * weigh(1 + s.g(x).sigmoid()),
        g=nn.Conv2d(CHANNELS, CHANNELS, 1),
        a=nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    ),
    "attention of two kinds": lambda weigh: Of(
        lambda s, x: attention(s, x, lambda a: weigh(mixed_with_places(a, s.share))),
        qkv=nn.Linear(CHANNELS, 3 * CHANNELS),
        share=nn.Parameter(torch.tensor(0.3)),
    ),
    "norm": lambda weigh: Of(lambda s, x: x / weigh(x.norm(dim=1, keepdim=True) + 1)),
    "rms norm": lambda weigh: Of(lambda s, x: x / weigh(x.square().mean((1, 2, 3), keepdim=True).sqrt() + 0.1)),
}


@pytest.mark.parametrize("name", GATED)
def test_gates_divisors_and_attention_take_nothing(name):
    model = network(lambda: GATED[name](identity))
    constant = network(lambda: GATED[name](Tensor.detach))
    constant.load_state_dict(model.state_dict())
    expected_logits, expected = gradient_times_input(constant, X)
    logits, relevance = lrp_0(model, X)
    assert torch.allclose(logits, expected_logits, rtol=1e-12)
    assert close(relevance, expected)


def test_a_branch_that_takes_nothing_may_be_anything():
    """No rule is looked up for what only a gate is computed from."""
    model = network(Of(lambda s, x: x * x.cumsum(2).sort(3)[0].sigmoid()))
    logits, relevance = lrp_0(model, X)
    assert torch.allclose(logits, model(X))
    assert bool(relevance.isfinite().all())


ACTIVATIONS = (nn.Mish, nn.SELU, nn.CELU, nn.ELU, nn.GELU, nn.Hardswish, nn.RReLU, nn.Softshrink, nn.Softsign, nn.Tanh)
NONLINEAR = {
    "x·sigmoid(x)": lambda: Of(lambda s, x: x * x.sigmoid()),
    "x·relu6(x + 3)/6": lambda: Of(lambda s, x: x * F.relu6(x + 3) / 6),
    "two equals": lambda: Of(lambda s, x: s.a(x) * s.b(x), a=nn.Conv2d(CHANNELS, 4, 1), b=nn.Conv2d(CHANNELS, 4, 1)),
    "square": lambda: Of(lambda s, x: x * x),
    "products of channels": lambda: Of(lambda s, x: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).unsqueeze(1)),
    "layer norm": lambda: Of(lambda s, x: s.n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), n=nn.LayerNorm(CHANNELS)),
    "group norm": lambda: nn.GroupNorm(2, CHANNELS),
    "instance norm": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "local response norm": lambda: nn.LocalResponseNorm(3),
    "power pooling": lambda: nn.LPPool2d(2, 2),
    "generalised mean": lambda: Of(
        lambda s, x: x.clamp(min=1e-6).pow(s.p).mean((2, 3), keepdim=True).pow(1 / s.p),
        p=nn.Parameter(torch.tensor([3.0])),
    ),
    "cosine": lambda: Of(lambda s, x: F.conv2d(F.normalize(x), F.normalize(s.c.weight)), c=nn.Conv2d(CHANNELS, 4, 1)),
    "encoder layer": lambda: Of(
        lambda s, x: s.t(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (16, 16)),
        t=nn.TransformerEncoderLayer(CHANNELS, 2, 16, batch_first=True),
    ),
    **{
        activation.__name__: activation
        for activation in (
            nn.Mish,
            nn.SELU,
            nn.CELU,
            nn.Softsign,
            nn.Hardswish,
            nn.RReLU,
            nn.Softshrink,
            nn.GELU,
            nn.Tanh,
            nn.ELU,
        )
    },
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_without_biases_relevance_is_conserved(name):
    model = network(NONLINEAR[name], biases=False)
    logits, relevance = lrp_0(model, X)
    with torch.no_grad():
        assert torch.allclose(logits, model(X), rtol=1e-12)
    assert close(relevance.sum((1, 2, 3)), logits.amax(1), 1e-3)


def same(block, x):
    """Pad as TensorFlow does: by amounts that follow the frame's size."""
    total = max((-(-x.shape[2] // 2) - 1) * 2 + 3 - x.shape[2], 0)
    return block.c(F.pad(x, (1, 1, total // 2, total - total // 2)))


SIZED = {"same, by size": lambda: Of(same, c=nn.Conv2d(CHANNELS, 4, 3, 2))}


@pytest.mark.parametrize(
    "name",
    ["same, by size", "squeeze and excitation", "attention", "bilinear", "reflect", "top k", "layer norm", "windows"],
)
def test_other_sizes_after_one_capture(name):
    make = SIZED.get(name) or PIECEWISE_LINEAR.get(name) or NONLINEAR.get(name) or (lambda: GATED[name](identity))
    model = network(make)
    unrolled = unroll(model, X, "Segmentation")
    image = torch.randn(1, 3, 21, 18, dtype=torch.float64)
    with torch.no_grad():
        logits, relevance = unrolled(image)
        assert torch.allclose(logits, model(image))
    assert relevance.shape == image.shape


def test_a_gray_image_that_broadcasts_keeps_its_shape():
    mean, deviation = torch.rand(3, 1, 1, dtype=torch.float64), torch.rand(3, 1, 1, dtype=torch.float64) + 0.5
    model = network(Of(lambda s, x: (x[:, :1] - mean) / deviation), before=False)
    expected_logits, expected = gradient_times_input(model, X)
    logits, relevance = lrp_0(model, X)
    assert torch.allclose(logits, expected_logits)
    assert relevance.shape == X.shape
    assert close(relevance, expected)


def test_numbers_made_in_the_graph_follow_the_image_s_dtype():
    def encoded(block, x):
        places = torch.arange(x.shape[3], dtype=torch.float32).cos().expand(1, CHANNELS, x.shape[2], x.shape[3])
        return x + block.c(places)

    torch.manual_seed(0)
    stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 3))
    model = nn.Sequential(stem, Of(encoded, c=nn.Conv2d(CHANNELS, CHANNELS, 1)), *head).eval()
    unrolled = unroll(model, X.float()).double()
    with torch.no_grad():
        logits, _ = unrolled(X)
        assert logits.dtype == torch.float64
        assert torch.allclose(logits.float(), model(X.float()), atol=1e-5)


def test_what_is_defined_for_one_size_says_so():
    model = network(Of(lambda s, x: F.fold(F.unfold(x, 3, padding=1), x.shape[-2:], 3, padding=1)))
    with pytest.raises(LrpEdgeError, match=r"aten\.col2im\.default of sizes that follow the frame .* give --size"):
        unroll(model, X)
    assert close(lrp_0(model, X)[1], gradient_times_input(model, X)[1])


def test_weights_that_are_computed_from_the_image_are_refused_by_name():
    model = network(Of(lambda s, x: F.conv2d(x, x.mean((0, 2, 3))[None, :, None, None].expand(4, -1, 1, 1))))
    with pytest.raises(LrpEdgeError, match=r"conv2d\.default at 2 has a 'weight' that is computed from the image"):
        unroll(model, X, any_size=False)


def test_the_page_on_a_further_operator_holds_as_written(monkeypatch):
    """The entry and the case that docs/relevance.md shows, for an operator that has no rule."""
    page = (Path(__file__).parents[2] / "docs" / "relevance.md").read_text()
    section = page[page.index("## Adding an operator") : page.index("## Adding a composite")]
    _, entry, case = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = {**vars(layers), **vars(importlib.import_module("lrp_edge.relevance.operators.moves"))}
    monkeypatch.setattr(layers, "OPERATORS", dict(layers.OPERATORS))
    known = {module: module.OPERATORS for module in (branches, operators, unrolling)}
    for module in known:
        monkeypatch.setattr(module, "OPERATORS", layers.OPERATORS)
    monkeypatch.setitem(names, "register", layers.register)
    exec(entry, names)
    cases = eval(f"{{{case}}}", {"Of": Of})
    model = network(cases["rot90"])
    layer = next(layer for layer in unroll(model, X, any_size=False).layers if "rot90" in str(layer.node.target))
    assert layer.kind is layers.Kind.SHAPE
    assert close(lrp_0(model, X)[1], gradient_times_input(model, X)[1])
