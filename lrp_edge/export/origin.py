"""Where a model to export comes from: a checkpoint, a library, a user's factory; and what is recorded of it."""

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

    from lrp_edge.backbones.library import LIBRARIES, library_network
    from lrp_edge.classifiers import of_factory

#: In place of a file of weights: those that a library downloads.
IMAGENET = "imagenet"


def load_model(
    source: str | Path | nn.Module, weights: str | Path | None = None, classes: int | None = None
) -> tuple[nn.Module, ModelCard | None, dict[str, Any]]:
    """Load a model to export.

    Parameters
    ----------
    source : path, str or nn.Module
        A checkpoint of this toolkit, ``"timm:NAME"``, ``"torchvision:NAME"``, ``"module:factory"``, or a module.
    weights : path, optional
        Weights for what is no checkpoint: safetensors, or what `torch.save` made of a state dict or a training. If
        they are of a training with this toolkit, the factory is called as there, with ``channels`` and ``classes``.
        A library's network needs them, or ``"imagenet"``, which the library downloads.
    classes : int, optional
        Outputs of a library's network; where two do not fit the weights, one logit is tried.

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
    elif str(source).partition(":")[0] in LIBRARIES and ":" in str(source):
        return _of_library(str(source), weights, classes)
    elif ":" in str(source) and not Path(source).exists():
        known = _trained_with(weights)
        arguments = {name: known[name] for name in ("channels", "classes") if name in known}
        model, origin = of_factory(load_factory(str(source), **arguments), known), {"model": str(source)}
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


def _of_library(
    source: str, weights: str | Path | None, classes: int | None
) -> tuple[nn.Module, ModelCard | None, dict[str, Any]]:
    library, _, name = source.partition(":")
    if weights is None:
        raise LrpEdgeError(f"{source} has no weights yet; give a state dict of it with --weights FILE, or imagenet")
    if str(weights) == IMAGENET:
        return library_network(library, name, imagenet=True), None, {"model": source}
    first: LrpEdgeError | None = None
    for count in (classes, *([1] if classes == 2 else [])):
        model = library_network(library, name, classes=count)
        try:
            load_weights(model, weights)
        except LrpEdgeError as error:
            first = first or error
        else:
            return model, read_card(weights), {"model": source, **_file(weights)}
    assert first is not None
    raise first


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
    return card.architecture if card and card.architecture.get("family") == "factory" else {}
