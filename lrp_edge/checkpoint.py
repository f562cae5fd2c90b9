"""Checkpoints: weights in safetensors, with the model card in the header. No pickle is ever read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lrp_edge.card import METADATA_KEY, ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.files import whole

with needs_extra("export"):
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save
    from torch import Tensor, nn

    from lrp_edge.classifiers import build

#: How a file that holds a pickle begins: torch.save's zip archive, and protocols 2 to 5 of a bare pickle.
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save_checkpoint(path: str | os.PathLike[str], model: nn.Module, card: ModelCard) -> Path:
    """Write weights and card to a safetensors file, which appears under its name only when it is whole.

    Parameters
    ----------
    path : path
        The file, replaced if it exists.
    model : nn.Module
        A classifier that ``classifiers.build(card.architecture)`` builds.
    card : ModelCard
        Its card.

    Raises
    ------
    LrpEdgeError
        If a weight is NaN or infinite (it is named), or the file cannot be written.
    """
    path = Path(path)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    _refuse_not_finite(weights, str(path))
    with whole(path) as partial:
        partial.write_bytes(save(weights, metadata={METADATA_KEY: card.to_json()}))
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[nn.Module, ModelCard]:
    """Read a checkpoint and rebuild its classifier.

    Parameters
    ----------
    path : path
        A safetensors file that `save_checkpoint` wrote.

    Returns
    -------
    model : nn.Module
        The classifier in evaluation mode, on the CPU.
    card : ModelCard
        Its card.

    Raises
    ------
    LrpEdgeError
        If the file is missing, a pickle, cut short or without card, if its weights do not fit the
        architecture that the card names, or one of them is NaN or infinite.
    """
    path = Path(path)
    _refuse_pickle(path)
    weights, text = _read(path)
    if text is None:
        raise LrpEdgeError(f"{path}: no model card in the header; expected a checkpoint that lrp-edge train wrote")
    card = ModelCard.from_json(text, str(path))
    _refuse_not_finite(weights, str(path))
    with torch.device("meta"):
        model = build(card.architecture)
    _refuse_misfit(weights, model.state_dict(), path)
    model.load_state_dict(weights, assign=True)
    return model.eval(), card


def read_card(path: str | os.PathLike[str]) -> ModelCard | None:
    """Read the card in the header of a safetensors file; None if there is none, or it is another kind of file.

    Raises
    ------
    LrpEdgeError
        If there is a card and it cannot be understood.
    """
    if Path(path).suffix != ".safetensors":
        return None
    _, text = _read(Path(path))
    return ModelCard.from_json(text, str(path)) if text else None


def _refuse_pickle(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise LrpEdgeError(
            f"{path}: the checkpoint cannot be read ({error.strerror}); expected a safetensors file"
        ) from error
    if start.startswith(PICKLES):
        raise LrpEdgeError(
            f"{path}: this is a pickle, which can run code when it is read; expected a safetensors "
            "checkpoint: save the weights with safetensors, or export a factory (module:function) that "
            "builds the model"
        )


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, metadata.get(METADATA_KEY)
    except (OSError, SafetensorError) as error:
        raise LrpEdgeError(
            f"{path}: not a readable safetensors file ({error}); it is cut short or of another format: "
            "copy or train it again"
        ) from error


def _refuse_not_finite(weights: Mapping[str, Tensor], source: str) -> None:
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise LrpEdgeError(
                f"{source}: weight {name} has {bad} NaN or infinite of {tensor.numel()} values; expected "
                "finite numbers: train again, with a lower learning rate if it diverged"
            )


def _refuse_misfit(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    for name in sorted(weights.keys() | expected.keys()):
        found = _shape(weights.get(name))
        if found != _shape(expected.get(name)):
            raise LrpEdgeError(
                f"{path}: weight {name} is {found}, but the architecture in the model card has "
                f"{_shape(expected.get(name))}; card and weights do not belong together"
            )


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
