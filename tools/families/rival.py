"""Relevance as zennit computes it, of networks that can be brought to modules which its hooks know."""

from __future__ import annotations

# zennit imports torchvision, which may not fit this torch: the names that it lacks are declared first.
from lrp_edge import _torchvision  # noqa: F401

# isort: split
import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlusFlat
from zennit.layer import Sum

from tools.families.catalogue import Subject
from tools.families.oracles import difference, images, strongest, unrolled

COMPOSITE = "EpsilonPlusFlat"
_MODULES = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.SiLU,
    nn.Hardswish,
    nn.GELU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Dropout,
    nn.Identity,
    nn.Flatten,
    Sum,
)
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
#: What relevance goes back through by the gradient: no arithmetic.
_SHAPES = (torch.cat, torch.flatten, torch.stack, torch.transpose, operator.getitem, operator.floordiv, getattr,
           F.max_pool2d, "view", "reshape", "flatten", "size", "contiguous", "transpose", "chunk")  # fmt: skip


class NotComparableError(Exception):
    """What zennit's hooks do not reach."""


class _Summed(nn.Module):
    """The sum of two signals, as zennit knows it."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        total: Tensor = self.sum(torch.stack((a, b), -1))
        return total


class _Mean(nn.Module):
    """The mean over positions as a pooling layer, which zennit knows."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.pool, self.keep = nn.AdaptiveAvgPool2d(1), keep

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(x)
        return pooled if self.keep else pooled.flatten(1)


def zennit(subject: Subject, model: nn.Module) -> dict[str, Any]:
    """Compare relevance of a network in float64 with zennit's; say why where it cannot be.

    Raises
    ------
    LrpEdgeError
        If the network cannot be unrolled.
    """
    x = images(subject)
    try:
        rival = as_modules(model)
        with Gradient(rival, EpsilonPlusFlat(), attr_output=strongest) as attributor:
            logits, expected = attributor(x)
    except Exception as error:  # whatever tracing raises for code that it cannot follow
        reason = str(error).strip().partition("\n")[0]
        return {"not_compared": reason if isinstance(error, NotComparableError) else f"cannot be traced: {reason}"}
    with torch.no_grad():
        ours, found = unrolled(subject, model, COMPOSITE)(x)
    off = {"difference": difference(found, expected.detach()), "logits": difference(ours, logits.detach())}
    return {"composite": COMPOSITE, **off}


def as_modules(model: nn.Module) -> nn.Module:
    """Return a network with BatchNorm folded, and with sums and averages as modules.

    Raises
    ------
    NotComparableError
        If it has what is not among the modules that zennit's presets are for.
    """
    model = copy.deepcopy(model).eval()
    for name, module in list(model.named_modules()):
        # timm's BatchNorm with its activation inside
        if isinstance(module, nn.BatchNorm2d) and isinstance(act := getattr(module, "act", None), nn.Module):
            model.set_submodule(name, nn.Sequential(_plain_norm(module), act))
        elif type(module).__name__ in ("StochasticDepth", "DropPath"):
            model.set_submodule(name, nn.Identity())
    traced = fuse(fx.symbolic_trace(model))
    assert isinstance(traced, fx.GraphModule)
    for node in list(traced.graph.nodes):
        _check_module(traced, node)
        replacement = _module_for(node)
        if replacement is not None:
            module, inputs = replacement
            name = f"rival_{node.name}"
            traced.add_submodule(name, module)
            with traced.graph.inserting_after(node):
                node.replace_all_uses_with(
                    traced.graph.call_module(name, inputs), lambda user, own=node: user is not own
                )
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _plain_norm(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    plain = nn.BatchNorm2d(norm.num_features, norm.eps, device=norm.weight.device, dtype=norm.weight.dtype)
    plain.load_state_dict({name: value for name, value in norm.state_dict().items() if name in plain.state_dict()})
    return plain.eval()


def _check_module(traced: fx.GraphModule, node: fx.Node) -> None:
    if node.op == "call_module" and not isinstance(module := traced.get_submodule(str(node.target)), _MODULES):
        raise NotComparableError(f"zennit has no rule for {type(module).__name__}")
    if node.op == "get_attr":
        raise NotComparableError(f"parameter {node.target} outside modules")


def _module_for(node: fx.Node) -> tuple[nn.Module, tuple[fx.Node, ...]] | None:
    """Return the module that a call is to become, with its inputs; None of a call that may stay.

    Raises
    ------
    NotComparableError
        If it may not, and there is none.
    """
    if node.op not in ("call_function", "call_method") or node.target in _SHAPES:
        return None
    signals = tuple(argument for argument in node.args if isinstance(argument, fx.Node))
    if node.target in _SUMS and len(signals) == 2:
        return _Summed(), signals
    options = dict(node.kwargs)
    if node.target in (F.relu, torch.relu, "relu", "relu_"):
        return nn.ReLU(), signals
    if node.target is F.dropout:
        return nn.Identity(), signals
    if node.target is F.adaptive_avg_pool2d:
        return nn.AdaptiveAvgPool2d(options.get("output_size") or node.args[1]), signals  # type: ignore[arg-type]
    if node.target is F.avg_pool2d:
        return nn.AvgPool2d(*node.args[1:], **options), signals  # type: ignore[arg-type]
    if node.target == "mean":
        axes = tuple(options.get("dim") or node.args[1])  # type: ignore[arg-type]
        if axes in ((2, 3), (-2, -1)):
            return _Mean(bool(options.get("keepdim", False) or (node.args[2:] and node.args[2]))), signals
    raise NotComparableError(f"zennit's hooks do not see {getattr(node.target, '__name__', node.target)}")
