"""Where a model to export comes from: a checkpoint, a factory of the user's, or a module in memory."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.checkpoint import load_checkpoint
from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("export"):
    import torch
    from torch import nn


def load_model(
    source: str | Path | nn.Module, weights: str | Path | None = None
) -> tuple[nn.Module, ModelCard | None, dict[str, Any]]:
    """Load a model to export.

    Parameters
    ----------
    source : path, str or nn.Module
        A checkpoint of this toolkit, ``"module:factory"``, or a module.
    weights : path, optional
        Weights for a factory's or a caller's module: safetensors, or what `torch.save` made of a state dict.

    Returns
    -------
    model : nn.Module
    card : ModelCard or None
        The checkpoint's card.
    provenance : dict
        What is known of the origin: name and sha256.

    Raises
    ------
    LrpEdgeError
        If the source is none of these, cannot be loaded, or the weights do not fit.
    """
    if isinstance(source, nn.Module):
        model, origin = source, {"model": f"{type(source).__module__}:{type(source).__qualname__}"}
    elif ":" in str(source) and not Path(source).exists():
        model, origin = _from_factory(str(source)), {"model": str(source)}
    else:
        if weights is not None:
            raise LrpEdgeError(f"{source} is a checkpoint and has its own weights; --weights is for a module:factory")
        model, card = load_checkpoint(Path(source))
        return model, card, {"checkpoint": Path(source).name, "sha256": sha256(source)}
    if weights is not None:
        _load_weights(model, Path(weights))
        origin |= {"checkpoint": Path(weights).name, "sha256": sha256(weights)}
    return model, None, origin


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _from_factory(name: str) -> nn.Module:
    module_name, _, factory_name = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise LrpEdgeError(f"cannot find {name!r} ({error}); expected module:factory, importable from here") from error
    finally:
        sys.path.pop(0)
    model = factory if isinstance(factory, nn.Module) else factory()
    if not isinstance(model, nn.Module):
        raise LrpEdgeError(f"{name} returned {type(model).__name__}; expected a torch.nn.Module")
    return model


def _load_weights(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise LrpEdgeError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise LrpEdgeError(
            f"{path}: these weights cannot be loaded ({reason}); expected a state dict of {type(model).__name__}"
        ) from error
