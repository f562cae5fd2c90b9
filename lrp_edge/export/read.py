"""Exported ONNX files read back: the graph, and the card inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lrp_edge.card import METADATA_KEY, ModelCard
from lrp_edge.errors import LrpEdgeError, first_line, needs_extra
from lrp_edge.export.passes.gate import gate, ungate
from lrp_edge.export.passes.weights import restore_weights
from lrp_edge.runtime.onnx_check import check_file

with needs_extra("export"):
    import onnx
    from google.protobuf.message import DecodeError, Message


def card_of(model: Path) -> ModelCard:
    """Return the model card inside an ONNX file; raises as :func:`load_proto`."""
    return read_proto(model)[1]


def load_proto(model: Path) -> tuple[onnx.ModelProto, ModelCard]:
    """Return an exported ONNX file's graph, with all weights as constants, and card.

    Raises
    ------
    LrpEdgeError
        If there is no such file, it is not ONNX, is damaged, or has no card.
    """
    proto, card = read_proto(model)
    with whole(model):
        flat = ungate(proto)
        restored = restore_weights(flat)
        if restored is flat:
            return proto, card
        return gate(restored, card) if card.gate else restored, card


@contextmanager
def whole(model: Path) -> Iterator[None]:
    """Say of whatever fails inside that the file is damaged: a graph may lack anything that passes take for granted.

    Raises
    ------
    LrpEdgeError
        If anything fails.
    """
    try:
        yield
    except LrpEdgeError:
        raise
    except Exception as error:
        raise LrpEdgeError(f"{model} is damaged: {first_line(error)}; copy or export it again") from error


def read_proto(model: Path) -> tuple[onnx.ModelProto, ModelCard]:
    """Return an exported ONNX file's graph as it is, and card; raises as :func:`load_proto`."""
    check_file(model)
    with whole(model):
        try:
            proto = onnx.load(model)
        except DecodeError as error:
            raise LrpEdgeError(f"{model} is not an ONNX file; expected one that lrp-edge export wrote") from error
        except OSError as error:
            raise LrpEdgeError(f"{model} cannot be read: {error.strerror}") from error
        _check_texts(proto)
        onnx.checker.check_model(proto)
    cards = {entry.key: entry.value for entry in proto.metadata_props}
    if METADATA_KEY not in cards:
        raise LrpEdgeError(f"{model} has no model card; expected a file that lrp-edge export wrote")
    return proto, ModelCard.from_json(cards[METADATA_KEY], str(model))


def _check_texts(message: Message) -> None:
    """Refuse text that is not UTF-8; protobuf gives it as bytes, or fails when it is asked for."""
    if isinstance(message, onnx.TensorProto):
        # The bytes of weights are no text, and would be copied.
        texts = [message.name, message.doc_string]
    else:
        fields = message.ListFields()
        texts = [text for field, value in fields if field.type == field.TYPE_STRING for text in _each(value)]
        for inner in (each for field, value in fields if field.message_type is not None for each in _each(value)):
            _check_texts(inner)
    if any(isinstance(text, bytes) for text in texts):
        raise ValueError("it has text that is not UTF-8")


def _each(value: Any) -> Iterable[Any]:
    return [value] if isinstance(value, str | bytes | Message) else value
