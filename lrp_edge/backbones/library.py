"""Networks of timm and torchvision by their names, with their own pretrained weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lrp_edge.errors import LrpEdgeError, did_you_mean, first_line, needs_extra

with needs_extra("export"):
    import torch
    from torch import nn

LIBRARIES = ("timm", "torchvision")
_Create = Callable[[str, bool, Mapping[str, int]], nn.Module]


def library_network(library: str, name: str, imagenet: bool = False, classes: int | None = None) -> nn.Module:
    """Return a classifier of a library, on the CPU.

    Parameters
    ----------
    library : {"timm", "torchvision"}
        Which must be installed.
    name : str
        Its name for the network, e.g. ``"resnet18"``.
    imagenet : bool
        Download the library's own weights; otherwise they are random.
    classes : int, optional
        Its outputs; by default those of the library.

    Raises
    ------
    LrpEdgeError
        If the library is not installed, knows no such network, or the weights cannot be downloaded.
    """
    create, known = _timm() if library == "timm" else _torchvision()
    if name not in known:
        hint = did_you_mean(name, known, f"expected one of {len(known)} networks")
        raise LrpEdgeError(f"{library} has no network {name!r}; {hint}")
    # Some networks compute with numbers of their tensors while they are built: they cannot be built without values.
    with torch.device("cpu"):
        try:
            return create(name, imagenet, {} if classes is None else {"num_classes": classes})
        except Exception as error:
            if not imagenet:
                raise LrpEdgeError(f"{library}:{name} cannot be built ({first_line(error)}); choose another") from error
            raise LrpEdgeError(
                f"the ImageNet weights of {library}:{name} cannot be downloaded ({first_line(error)}): without a "
                "network, give a local file as --weights FILE, or start at random with --weights none"
            ) from error


def _timm() -> tuple[_Create, Sequence[str]]:
    timm = _import("timm")

    def create(name: str, imagenet: bool, changes: Mapping[str, int]) -> nn.Module:
        made: nn.Module = timm.create_model(name, pretrained=imagenet, **changes)
        return made

    return create, timm.list_models()


def _torchvision() -> tuple[_Create, Sequence[str]]:
    models = _import("torchvision").models

    def create(name: str, imagenet: bool, changes: Mapping[str, int]) -> nn.Module:
        made: nn.Module = models.get_model(name, weights="DEFAULT" if imagenet else None, **changes)
        return made

    return create, models.list_models(module=models)


def _import(library: str) -> Any:
    from importlib import import_module

    from lrp_edge import _torchvision  # noqa: F401

    try:
        return import_module(library)
    except ImportError as error:
        raise LrpEdgeError(f"networks of {library} need it, which cannot be imported: pip install {library}") from error
