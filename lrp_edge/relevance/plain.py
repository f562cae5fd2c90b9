"""A user's network made plain before it is captured: a copy of it, out of its wrappers, in the image's dtype."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lrp_edge.errors import LrpEdgeError


def plain(model: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of a network in evaluation mode, for images like the example.

    `DataParallel`, `DistributedDataParallel` and `torch.compile` around it are taken off, since they change how it is
    run and not what it computes. Its floating point weights get dtype and device of the example: half and bfloat16 are
    exact in float32.

    Parameters
    ----------
    model : nn.Module
        It is not modified.
    example : Tensor, float [N, C, H, W]
        An image.

    Raises
    ------
    LrpEdgeError
        If it is TorchScript, of which relevance cannot be captured, or a weight is NaN or infinite.
    """
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise LrpEdgeError(
            "the model is TorchScript, which cannot be captured; give the torch.nn.Module it was made from"
        )
    model = copy.deepcopy(model, _detached(model)).eval().to(example.device, example.dtype)
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise LrpEdgeError(f"weight {name!r} has NaN or infinite values; train or load the model again")
    return model


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside `DataParallel`, `DistributedDataParallel` and `torch.compile`, in whatever order."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def _detached(model: nn.Module) -> dict[int, Any]:
    """Return copies, by identity, of tensors that hang in autograd's graph, which `copy.deepcopy` refuses.

    Those of the former `weight_norm` do, and what a module keeps of a forward pass, e.g. LeViT's attention biases in a
    dictionary.
    """
    kept = [value for module in model.modules() for value in vars(module).values()]
    values = [*kept, *(value for cache in kept if isinstance(cache, dict) for value in cache.values())]
    return {id(value): value.detach().clone() for value in values if isinstance(value, Tensor) and not value.is_leaf}
