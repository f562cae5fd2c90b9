"""Classifiers that the trainer knows, each rebuilt from a JSON-able description of its architecture.

They are fully convolutional: global pooling before one linear layer, so that a network trained on windows
takes frames of any size. They use only operations that relevance has rules for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrp_edge.classifiers.families import (
    CHANNELS,
    FAMILIES,
    efficientnet_lite0,
    of_colour_network,
    of_factory,
    of_library,
    on_cut,
    unet,
    vgg,
)
from lrp_edge.classifiers.heads import POOLINGS, Classifier, GlobalPool, LogSumExp, evidence, on_features, standardise
from lrp_edge.errors import LrpEdgeError, check_arguments, needs_extra

with needs_extra("export"):
    from torch import nn

__all__ = [
    "CHANNELS",
    "FAMILIES",
    "POOLINGS",
    "SMALLEST_SIDE",
    "Classifier",
    "GlobalPool",
    "LogSumExp",
    "build",
    "efficientnet_lite0",
    "evidence",
    "of_colour_network",
    "of_factory",
    "of_library",
    "on_cut",
    "on_features",
    "standardise",
    "unet",
    "vgg",
]

SMALLEST_SIDE = 32


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Build a network from its description in a model card.

    Parameters
    ----------
    architecture : mapping
        ``family`` names one of :data:`FAMILIES`; all other items are that function's arguments, e.g.
        ``{"family": "vgg", "variant": "A", "width": 0.25, "channels": 1, "classes": 6}``.

    Raises
    ------
    LrpEdgeError
        If the family is unknown or an argument missing, unknown or out of its range, or the network is that of a
        user's factory, which no file may name for us to run.
    """
    arguments = dict(architecture)
    family = arguments.pop("family", None)
    if family == "factory":
        name = arguments.get("factory")
        raise LrpEdgeError(
            f"these are weights for {name}: give {name} in place of the checkpoint, and this as --weights"
        )
    if family not in FAMILIES:
        raise LrpEdgeError(f"classifier family is {family!r}; expected one of {', '.join(FAMILIES)}")
    check_arguments(f"classifier {family}", FAMILIES[family], arguments)
    try:
        return FAMILIES[family](**arguments)
    except TypeError as error:
        given = ", ".join(f"{name} {value!r}" for name, value in arguments.items())
        raise LrpEdgeError(
            f"classifier {family} cannot be built with {given}; expected a number where one is needed, and text where "
            "text is: train again"
        ) from error
