"""What a training starts with: the network as the card says, its weights, and what it is to learn from."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.backbones.library import library_network
from lrp_edge.backbones.unet import EncodedUNet
from lrp_edge.backbones.weights import imagenet_lite0, start_cut, start_lite0
from lrp_edge.card import ModelCard
from lrp_edge.classifiers import Classifier, build, of_colour_network, of_factory
from lrp_edge.datasets import Dataset, Split, read_clicks
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.factory import fitting_weights, load_factory, named_as, read_weights
from lrp_edge.training.modules import LabelModule, TrainingModule
from lrp_edge.training.options import IMAGENET, LITE, NONE, UNET_LITE, Options
from lrp_edge.training.surroundings import Surroundings
from lrp_edge.training.synthetic_defects import Curriculum, SurfaceWindows, SyntheticDefectWindows
from lrp_edge.training.window_module import WindowModule
from lrp_edge.training.windows import Draw, Frames, WholeImages, Windows

with needs_extra("train"):
    from torch import nn
    from torch.utils.data import DataLoader


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
    if options.weights == IMAGENET and options.model in (LITE, UNET_LITE):
        start_lite0(_features(model), imagenet_lite0(), IMAGENET)
    elif options.weights not in (IMAGENET, NONE):
        _load(model, options)
    return model, card


def _built(architecture: dict[str, Any], options: Options) -> nn.Module:
    if options.is_factory:
        arguments = {name: architecture[name] for name in ("channels", "classes")}
        return of_factory(load_factory(architecture["factory"], **arguments), architecture)
    if not options.library or options.weights != IMAGENET:
        return build(architecture)
    library, name = architecture.pop("family"), architecture.pop("name")
    return of_colour_network(library_network(library, name, imagenet=True), **architecture)


def _load(model: nn.Module, options: Options) -> None:
    """Load a file: a checkpoint of a like network by name and shape; else one of what its features are a part of."""
    stored = state = read_weights(options.weights)
    if options.is_cut or options.model == UNET_LITE:
        prefix, features = "features.", _features(model)
        state = named_as({*model.state_dict(), *features.state_dict()}, stored)
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if features.state_dict().keys() <= own.keys():
            start_cut(features, own, options.weights)
            state |= {prefix + name: value for name, value in features.state_dict().items()}
        else:
            if options.model in (LITE, UNET_LITE):
                start_lite0(features, stored, options.weights)
            else:
                start_cut(features, state, options.weights)
            return
    fitting, new = fitting_weights(model, state, options.weights)
    model.load_state_dict(fitting, strict=False)
    if new:
        print(f"lrp-edge: {options.weights} has no fitting {', '.join(new)}: random start", file=sys.stderr)


def _features(model: nn.Module) -> nn.Module:
    assert isinstance(model, Classifier | EncodedUNet)
    return model.features


def module_of(
    model: nn.Module, parts: Split, card: ModelCard, options: Options
) -> tuple[TrainingModule, DataLoader[Any] | None]:
    """Return how a network is trained, with what it learns from; and what it is validated with, if there is any."""
    gray = card.input.network_order == "GRAY"
    frames, seed = Frames(parts.train, gray), options.seed
    whole_images: Any = Frames(parts.val, gray)
    draw = Draw(frames.labels, options.balance, card.ok_indices, options.ok_share)
    if options.is_unet:
        from lrp_edge.training.unet import PixelModule, TruthFrames, TruthWindows

        windows = TruthWindows(frames, options.patch, draw, options.guided, seed)
        module: TrainingModule = PixelModule(model, card, options, windows)
        whole_images = TruthFrames(whole_images)
    elif options.patch:
        clicks = _clicks(parts.train, card, options) if options.clicks else None
        labelled = Windows(frames, options.patch, draw, options.guided, seed, clicks)
        synthetic = _synthetic(parts.train, card, options, gray, model)
        curriculum = Curriculum(labelled, synthetic, options.mark_epochs, options.mark_share)
        module = WindowModule(model, card, options, curriculum)
    else:
        images: Any = WholeImages(frames, draw, seed)
        changes = {name: getattr(options, name) for name in ("soil", "mark_epochs", "mark_share")}
        if any(changes.values()):
            images = Surroundings(images, card.ok_indices, **changes)
        module = LabelModule(model, card, options, images)
    validation = DataLoader(whole_images, 1, num_workers=options.workers) if parts.val.samples else None
    return module, validation


def _synthetic(
    part: Dataset, card: ModelCard, options: Options, gray: bool, model: nn.Module
) -> SyntheticDefectWindows | None:
    if not options.mark_epochs and not options.mark_share:
        return None
    stride = model.stride if isinstance(model, Classifier) else options.patch
    if options.is_cut and options.patch % stride:
        raise LrpEdgeError(
            f"patch is {options.patch}; with marks, expected a multiple of the network's stride, {stride}"
        )
    if options.mark_surface == "synthetic":
        surfaces: Any = SurfaceWindows(len(part.samples), options.patch, 1 if gray else 3, options.seed)
    else:
        ok = Frames(part.subset(np.flatnonzero(np.isin(part.labels, card.ok_indices))), gray)
        surfaces = Windows(ok, options.patch, Draw(ok.labels, 0), 0, options.seed)
    return SyntheticDefectWindows(surfaces, stride)


def _clicks(part: Dataset, card: ModelCard, options: Options) -> dict[int, NDArray[np.float64]]:
    """Clicks on images of the training part; a defect image without one uses its label alone, with a warning."""
    clicks = read_clicks(options.clicks, part)
    found = {i: clicks[name] for i, name in enumerate(part.names) if name in clicks}
    bare = [part.names[i] for i in range(len(part.samples)) if part.labels[i] in card.defect_indices and i not in found]
    if bare:
        print(
            f"lrp-edge: warning: {len(bare)} defect images of the training part have no click in {options.clicks}, "
            f"first {bare[0]}; windows of them follow the model's evidence",
            file=sys.stderr,
        )
    return found
