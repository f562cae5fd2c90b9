"""Exported ONNX files read back: the graph, and the card inside."""

from __future__ import annotations

from pathlib import Path

from lrp_edge.card import METADATA_KEY, ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.passes.gate import gate, ungate
from lrp_edge.export.passes.weights import restore_weights

with needs_extra("export"):
    import onnx
    from google.protobuf.message import DecodeError


def card_of(model: Path) -> ModelCard:
    """Return the model card inside an ONNX file; raises as :func:`load_proto`."""
    return _read(model)[1]


def load_proto(model: Path) -> tuple[onnx.ModelProto, ModelCard]:
    """Return an exported ONNX file's graph, with all weights as constants, and card.

    Raises
    ------
    LrpEdgeError
        If there is no such file, it is not ONNX, or it has no card.
    """
    proto, card = _read(model)
    flat = ungate(proto)
    restored = restore_weights(flat)
    if restored is flat:
        return proto, card
    return gate(restored, card) if card.gate else restored, card


def _read(model: Path) -> tuple[onnx.ModelProto, ModelCard]:
    if not model.is_file():
        raise LrpEdgeError(f"no model at {model}")
    try:
        proto = onnx.load(model)
    except DecodeError as error:
        raise LrpEdgeError(f"{model} is not an ONNX file; expected one that lrp-edge export wrote") from error
    except OSError as error:
        raise LrpEdgeError(f"{model} cannot be read: {error.strerror}") from error
    cards = {entry.key: entry.value for entry in proto.metadata_props}
    if METADATA_KEY not in cards:
        raise LrpEdgeError(f"{model} has no model card; expected a file that lrp-edge export wrote")
    return proto, ModelCard.from_json(cards[METADATA_KEY], str(model))
