"""Where a model to export comes from: a checkpoint, a factory of the user's, or a module in memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.checkpoint import load_checkpoint, read_card
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.factory import load_factory, load_weights

with needs_extra("export"):
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
        Weights for a factory's or a caller's module: safetensors, or what `torch.save` made of a state dict. If they
        are of a training, the factory is called as there, with ``channels`` and ``classes``.

    Returns
    -------
    model : nn.Module
    card : ModelCard or None
        The checkpoint's card, or that in the header of the weights.
    provenance : dict
        What is known of the origin: ``model``, the factory or class, or ``checkpoint``, ``sha256`` and ``path`` of the
        file of weights.

    Raises
    ------
    LrpEdgeError
        If the source is not one of these, cannot be loaded, or the weights do not fit.
    """
    if isinstance(source, nn.Module):
        model, origin = source, {"model": f"{type(source).__module__}:{type(source).__qualname__}"}
    elif ":" in str(source) and not Path(source).exists():
        model, origin = load_factory(str(source), **_trained_with(weights)), {"model": str(source)}
    else:
        if weights is not None:
            raise LrpEdgeError(f"{source} is a checkpoint and has its own weights; --weights is for a module:factory")
        model, own = load_checkpoint(Path(source))
        return model, own, _file(source)
    if weights is not None:
        load_weights(model, weights)
        origin |= _file(weights)
    card = read_card(weights) if weights is not None else None
    return model, card, origin


def _file(path: str | Path) -> dict[str, Any]:
    return {"checkpoint": Path(path).name, "sha256": sha256(path), "path": str(path)}


def relative_to(origin: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return an origin whose ``path`` leads from a folder to the file; left out where none leads there."""
    known = dict(origin)
    if path := known.pop("path", None):
        with contextlib.suppress(ValueError):  # on another drive
            known["path"] = Path(os.path.relpath(path, folder)).as_posix()
    return known


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _trained_with(weights: str | Path | None) -> dict[str, Any]:
    card = read_card(weights) if weights is not None and Path(weights).is_file() else None
    if card is None or card.architecture.get("family") != "factory":
        return {}
    return {name: card.architecture[name] for name in ("channels", "classes")}
