"""A network's relevance against other answers, in PyTorch and float64: its gradient, its logits, zennit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrp_edge.relevance import Composite, Unrolled, composite_from, unroll
from lrp_edge.relevance.layers import others
from tools.families.catalogue import Subject
from tools.families.drawn import without_biases

#: Of LRP-0, in float64.
TINY = 1e-12
#: How far logits of the unrolled network may be from the network's own, over the greatest.
SAME = 1e-8
#: Layers through which LRP-0 is the gradient times the input: linear in the signal, or ReLU and maxima, which have no
#: constant part. Through any other, a saturated ReLU6 among them, it is not.
LIKE_GRADIENT = frozenset((
    "conv1d", "conv2d", "convolution", "conv_transpose2d", "linear", "batch_norm", "addmm", "einsum", "relu", "relu_",
    "leaky_relu", "prelu", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "sum",
    "amax", "max", "cat", "stack", "pad", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "neg",
    "clone", "contiguous", "add", "sub", "rsub",
))  # fmt: skip
#: Of one signal and a constant these are linear; by a gate they are not.
_BY_CONSTANT = frozenset(("mul", "div"))
_PROBABILITIES = (Tensor.sigmoid, lambda logits: logits.softmax(1), lambda logits: logits.log_softmax(1))


def images(subject: Subject) -> Tensor:
    """Return two images of noise, float64 [2, 3, H, W]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, subject.small, subject.small, dtype=torch.float64, generator=generator)


def strongest(logits: Tensor) -> Tensor:
    """Start with the logit [N, K] that is farthest from zero: of one logit, never with the zero of the other class."""
    return logits * F.one_hot(logits.abs().argmax(1), logits.shape[1])


def unrolled(subject: Subject, model: nn.Module, composite: str | Composite) -> Unrolled:
    """Unroll for images of one size, the strongest logit explained."""
    return unroll(model, images(subject), composite, strongest, any_size=False, logits=subject.logits or None)


def lrp_0() -> Composite:
    """Return LRP-0: a stabilizer that is as good as none, wherever weights are."""
    return composite_from("Epsilon", {"epsilon": TINY, "stabilizer": TINY})


def relevance(subject: Subject, model: nn.Module) -> dict[str, Any]:
    """Unroll a network in float64 with LRP-0, compare with gradient × input, and its sum with the logit.

    The sum is that of the network without biases, which would take their share.

    Raises
    ------
    LrpEdgeError
        If it cannot be unrolled.
    ValueError
        If the unrolled network has other logits than the network, or relevance of another shape than the image.
    """
    x = images(subject)
    free = without_biases(model)  # before the model keeps what cannot be copied
    network = unrolled(subject, model, lrp_0())
    logits, found = _explained(network, x)
    output = model(x)
    expected = gradient_times_input(model, network, x)
    figures = {
        "side": subject.small,
        "layers": len(network.layers),
        "logits": _same_logits(logits, output),
        "unlike_gradient": unlike_gradient(network),
        "lrp_0": difference(found, expected),
    }
    del network, found, expected
    logits, found = _explained(unrolled(subject, free, lrp_0()), x)
    shares = found.sum((1, 2, 3)) / strongest(logits).sum(1)
    return {**figures, "conservation": shares.tolist()}


def _explained(network: Unrolled, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logits, found = network(x)
    if found.shape != x.shape:
        raise ValueError(f"relevance is {list(found.shape)} for images {list(x.shape)}")
    if not bool(torch.isfinite(found).all()):
        raise ValueError("relevance is not finite")
    return logits, found


def _same_logits(logits: Tensor, output: Any) -> float | None:
    """Return how far logits are from a network's output, or from what makes it probabilities; None of other outputs."""
    if not isinstance(output, Tensor) or output.shape != logits.shape:
        return None
    own = output.detach()
    off = min(difference(form(logits), own) for form in (Tensor.clone, *_PROBABILITIES))
    if off > SAME:
        raise ValueError(f"logits of the unrolled network are off by {off:.1e} of the greatest")
    return off


def gradient_times_input(model: nn.Module, network: Unrolled, x: Tensor) -> Tensor:
    """Return gradient × input of the strongest logit: the model's own, or, of other outputs, that of the graph."""
    x = x.clone().requires_grad_(True)
    output = model(x)
    with torch.no_grad():
        logits = network(x)[0]
    alike = isinstance(output, Tensor) and output.shape == logits.shape and difference(logits, output.detach()) <= SAME
    differentiated: Tensor = output if alike else network(x)[0]
    chosen = logits.abs().argmax(1, keepdim=True)
    (gradient,) = torch.autograd.grad(differentiated.gather(1, chosen).sum(), x)
    return (gradient * x).detach()


def unlike_gradient(network: Unrolled) -> list[str]:
    """Return the operators of a network through which LRP-0 is not the gradient times the input, the most first."""
    found: Counter[str] = Counter()
    for layer in network.layers:
        name = str(layer.node.target).removeprefix("aten.").partition(".")[0]
        computed = [source for source in others(layer.node, layer.inputs) if source not in layer.captured.constants]
        is_scaled = name in _BY_CONSTANT and len(layer.inputs) == 1 and not computed
        if computed and name in (*_BY_CONSTANT, "matmul", "bmm"):
            found[f"{name} by a gate"] += 1
        elif layer.kind.value != "shape" and name not in LIKE_GRADIENT and not is_scaled:
            found[name] += 1
    return [name for name, _ in found.most_common()]


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the greatest absolute difference over the greatest absolute value of what is expected."""
    return float((found - expected).abs().max() / expected.abs().max())
