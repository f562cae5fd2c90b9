"""Independent answers that the tests compare with: zennit's relevance, and the models that both explain."""

from __future__ import annotations

import contextlib
import copy
import functools
import random
from collections.abc import Callable

import torch
from torch import Tensor, nn

_declared = torch.library.Library("torchvision", "DEF")
for _schema in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    # torchvision's wheel registers fakes for operators that only its CUDA build defines.
    with contextlib.suppress(RuntimeError):
        _declared.define(_schema)

import torchvision  # noqa: E402
from zennit import composites  # noqa: E402
from zennit.attribution import Gradient  # noqa: E402
from zennit.canonizers import SequentialMergeBatchNorm  # noqa: E402
from zennit.torchvision import ResNetBasicBlockCanonizer, ResNetBottleneckCanonizer  # noqa: E402

PRESETS = {
    "EpsilonPlus": {},
    "EpsilonPlusFlat": {},
    "EpsilonAlpha2Beta1": {},
    "EpsilonAlpha2Beta1Flat": {},
    "EpsilonGammaBox": {"low": -3.0, "high": 3.0},
}


class _ExactMerge(SequentialMergeBatchNorm):
    """zennit 0.5.1 leaves the ε of a merged BatchNorm, and so scales the network by 1 / √(1 + ε)."""

    def register(self, linears: list[nn.Module], batch_norm: nn.Module) -> None:
        super().register(linears, batch_norm)
        batch_norm.eps = 0.0


def zennit_relevance(model: nn.Module, image: Tensor, preset: str) -> tuple[Tensor, Tensor]:
    """Return logits, and the relevance of the predicted class as zennit computes it."""
    model = copy.deepcopy(model).eval()
    bounds = {name: torch.tensor(value, dtype=image.dtype) for name, value in PRESETS[preset].items()}
    canonizers = [_ExactMerge(), ResNetBasicBlockCanonizer(), ResNetBottleneckCanonizer()]
    composite = getattr(composites, preset)(canonizers=canonizers, **bounds)

    def start(logits: Tensor) -> Tensor:
        return logits * nn.functional.one_hot(logits.argmax(1), logits.shape[1])

    with Gradient(model, composite, attr_output=start) as attributor:
        logits, relevance = attributor(image)
    return logits.detach(), relevance.detach()


def with_statistics(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give each BatchNorm running statistics and weights like a trained one's."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):
                tensor.uniform_(low, high, generator=generator)
    return model.eval()


def torchvision_model(name: str, classes: int = 5, **options: float) -> nn.Module:
    """Return a torchvision classifier with random weights, in float64."""
    torch.manual_seed(0)
    return with_statistics(torchvision.models.get_model(name, num_classes=classes, **options)).double()


def small_family(name: str, classes: int = 5) -> nn.Module:
    """Return a classifier with all the kinds of layers of a torchvision family, but few and narrow ones, in float64."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = _FAMILIES[name](num_classes=classes)
    for module in model.modules():
        _narrow(module)
    model = model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return with_statistics(model).double()


def _vgg(batch_norm: bool) -> Callable[..., nn.Module]:
    layers = [64, "M", 128, "M", 256, 256, "M", 512, "M"]
    return lambda **options: torchvision.models.VGG(
        torchvision.models.vgg.make_layers(layers, batch_norm=batch_norm), init_weights=False, **options
    )


def _resnet(block: type[nn.Module]) -> Callable[..., nn.Module]:
    return functools.partial(torchvision.models.ResNet, block, [2, 1, 1, 1])


_FAMILIES = {
    "vgg": _vgg(False),
    "vgg_bn": _vgg(True),
    "basic_resnet": _resnet(torchvision.models.resnet.BasicBlock),
    "bottleneck_resnet": _resnet(torchvision.models.resnet.Bottleneck),
}
SMALL_FAMILIES = tuple(_FAMILIES)


def _narrow(module: nn.Module, factor: int = 8) -> None:
    """Divide a layer's channels, but those of the image and of the classes."""
    sizes = {
        nn.Conv2d: {"in_channels": 1, "out_channels": 0},
        nn.BatchNorm2d: {"num_features": 0},
        nn.Linear: {"in_features": 1, "out_features": 0},
    }.get(type(module), {})
    for name, axis in sizes.items():
        size = getattr(module, name)
        if size < 2 * factor:
            continue
        setattr(module, name, size // factor)
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is not None and tensor.ndim > axis:
                    tensors[key] = _of_length(tensor, axis, size // factor)


def _of_length(tensor: Tensor, axis: int, length: int) -> Tensor:
    narrowed = tensor.narrow(axis, 0, length).detach()
    return nn.Parameter(narrowed) if isinstance(tensor, nn.Parameter) else narrowed


def random_cnn(seed: int) -> nn.Sequential:
    """Return a small sequential CNN for images [N, 3, 65, 70]: a random walk through what layers can be."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(draw.randint(2, 4)):
        groups = draw.choice([1, 1, channels])
        out = groups * draw.randint(2, 4) if groups > 1 else draw.choice([4, 6, 8])
        layers.append(
            nn.Conv2d(
                channels,
                out,
                kernel_size=draw.choice([(1, 1), (3, 3), (2, 3), (5, 3)]),
                stride=draw.choice([1, 1, 2, (1, 2)]),
                padding=draw.choice([0, 1, (2, 1)]),
                dilation=draw.choice([1, 1, 2]),
                groups=groups,
                bias=draw.random() < 0.6,
            )
        )
        channels = out
        if draw.random() < 0.5:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU())
        layers += draw.choice(_POOLS)()
        if draw.random() < 0.3:
            layers.append(nn.BatchNorm2d(channels))
    layers += draw.choice(_HEADS)(channels, draw)
    return with_statistics(nn.Sequential(*layers), seed).double()


_POOLS = (
    lambda: [],
    lambda: [nn.MaxPool2d(2)],
    lambda: [nn.MaxPool2d(2, ceil_mode=True)],
    lambda: [nn.MaxPool2d(3, 2, padding=1)],
    lambda: [nn.MaxPool2d((3, 2), (2, 1), padding=(1, 0), dilation=(1, 2), ceil_mode=True)],
    lambda: [nn.AvgPool2d(2)],
    lambda: [nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)],
    lambda: [nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)],
)

_HEADS = (
    lambda channels, draw: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)],
    lambda channels, draw: [
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Flatten(),
        nn.Linear(6 * channels, 4, bias=False),
    ],
    lambda channels, draw: [
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4 * channels, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 3),
    ],
)
