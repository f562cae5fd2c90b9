"""Random weights that are like trained ones where an initialisation would hide faults, and networks without biases."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

#: Below this a parameter is one that training starts from nothing, e.g. a layer scale of 1e-6.
NOTHING = 1e-3
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
#: In the names of parameters that are added to the signal, as a bias is.
_ADDED = ("token", "pos_embed", "pos_embedding", "bias_table", "beta")
_SCALES = ("gamma", "scale", "alpha")


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw what an initialisation leaves at one or zero: statistics and weights of norms, layer scales, tokens, biases.

    With BatchNorm as it is initialised every fold is right, and behind a layer scale of 1e-6 every block is.

    Parameters
    ----------
    model : nn.Module
        It is modified, and put into evaluation mode.
    seed : int
        The same seed draws the same values.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor | None, low: float, high: float) -> None:
        if tensor is not None:
            tensor.data.uniform_(low, high, generator=generator)

    for module in model.modules():
        if isinstance(module, _NORMS):
            draw(module.weight, 0.5, 1.5)
            draw(getattr(module, "bias", None), -0.2, 0.2)
            draw(getattr(module, "running_mean", None), -0.2, 0.2)
            draw(getattr(module, "running_var", None), 0.5, 1.5)
    for name, parameter in model.named_parameters():
        if not parameter.numel() or float(parameter.detach().abs().max()) > NOTHING:
            continue
        if name.endswith("bias") or _has(name, _ADDED):
            draw(parameter, -0.1, 0.1)
        elif parameter.ndim < 2 or _has(name, _SCALES):
            draw(parameter, 0.1, 0.6)
        else:
            parameter.data.normal_(0, 0.05, generator=generator)
    return model.eval()


def without_biases(model: nn.Module) -> nn.Module:
    """Return a copy without what takes relevance away from the signal: biases, running means, tokens, positions."""
    model = copy.deepcopy(model)
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2].endswith("bias") or _has(name, _ADDED):
            parameter.data.zero_()
    for module in model.modules():
        mean = getattr(module, "running_mean", None)
        if isinstance(mean, Tensor):
            mean.zero_()
    return model


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name for word in words)
