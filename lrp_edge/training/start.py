"""The network that a training starts with: built as the card says, with the weights that the options say."""

from __future__ import annotations

import sys
from typing import Any

from lrp_edge.backbones.weights import imagenet_lite0, start_cut, start_lite0
from lrp_edge.card import ModelCard
from lrp_edge.classifiers import Classifier, build, of_factory
from lrp_edge.errors import needs_extra
from lrp_edge.factory import fitting_weights, load_factory, read_weights
from lrp_edge.training.options import IMAGENET, LITE, NONE, Options

with needs_extra("train"):
    from torch import nn


def network_of(card: ModelCard, options: Options) -> tuple[nn.Module, ModelCard]:
    """Return the network, and the card with its architecture in full.

    Raises
    ------
    LrpEdgeError
        If the network is not known or cannot be cut as wanted, its weights cannot be had, or do not fit.
    """
    model = _built(dict(card.architecture), options)
    if options.is_cut and options.model != LITE:
        part: Any = model.features
        card = card.replace(architecture={**card.architecture, "cut": part.meta["cut"]})
    if options.weights == IMAGENET and options.model == LITE:
        start_lite0(_features(model), imagenet_lite0(), IMAGENET)
    elif options.weights not in (IMAGENET, NONE):
        _load(model, options)
    return model, card


def _built(architecture: dict[str, Any], options: Options) -> nn.Module:
    if options.is_factory:
        arguments = {name: architecture[name] for name in ("channels", "classes")}
        return of_factory(load_factory(architecture["factory"], **arguments), architecture)
    if options.library and options.weights == IMAGENET:
        architecture["imagenet"] = True
    return build(architecture)


def _load(model: nn.Module, options: Options) -> None:
    """Load a file: a checkpoint of a like network by name and shape; else one of what its features are a part of."""
    state = read_weights(options.weights)
    own = any(name.startswith("features.") and name in model.state_dict() for name in state)
    if options.is_cut and not own:
        (start_lite0 if options.model == LITE else start_cut)(_features(model), state, options.weights)
        return
    fitting, new = fitting_weights(model, state, options.weights)
    model.load_state_dict(fitting, strict=False)
    if new:
        print(f"lrp-edge: {options.weights} has no fitting {', '.join(new)}: random start", file=sys.stderr)


def _features(model: nn.Module) -> nn.Module:
    assert isinstance(model, Classifier)
    return model.features
