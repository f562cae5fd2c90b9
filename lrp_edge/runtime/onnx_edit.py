"""Two edits of an ONNX file without the `onnx` package, which a device does not have: a constant, and the metadata.

An ONNX file is one message of protobuf. A constant that keeps its type and shape keeps its length in bytes, so that it
is overwritten where it is, and no length around it changes. The metadata are a field of the outermost message, whose
own length is written nowhere. Every other byte stays as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.protobuf import Field, delimited, fields, varint

# Field numbers of onnx.proto3: ModelProto, GraphProto, TensorProto, StringStringEntryProto.
_GRAPH, _METADATA = 7, 14
_INITIALIZER = 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_KEY, _VALUE = 1, 2
_FLOAT = 1


def set_scalar(data: bytes, name: str, value: float) -> bytes:
    """Return an ONNX file whose scalar initializer, float32 [], has another value.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        Of the initializer.
    value : float
        Is rounded to float32.

    Raises
    ------
    LrpEdgeError
        If the file is not ONNX, or has not one such initializer.
    """
    places = [place for tensor in _initializers(data) if (place := _scalar_place(data, tensor, name)) is not None]
    if len(places) != 1:
        raise LrpEdgeError(
            f"the file has {len(places)} initializers {name!r} of one float32; expected 1: export the model again"
        )
    return data[: places[0]] + struct.pack("<f", value) + data[places[0] + 4 :]


def set_metadata(data: bytes, key: str, text: str) -> bytes:
    """Return an ONNX file with one value in its metadata replaced, or added."""
    kept, at = [], 0
    for field in fields(data, 0, len(data)):
        if field.number == _METADATA and _text(data, field, _KEY) == key.encode():
            kept.append(data[at : field.start])
            at = field.end
    entry = delimited(_KEY, key.encode()) + delimited(_VALUE, text.encode())
    return b"".join([*kept, data[at:], delimited(_METADATA, entry)])


def _initializers(data: bytes) -> Iterator[Field]:
    for graph in fields(data, 0, len(data)):
        if graph.number == _GRAPH:
            yield from (field for field in fields(data, graph.value, graph.end) if field.number == _INITIALIZER)


def _scalar_place(data: bytes, tensor: Field, name: str) -> int | None:
    """Return where the four bytes of a scalar stand; None if the tensor is another one."""
    if _text(data, tensor, _NAME) != name.encode():
        return None
    own = {field.number: field for field in fields(data, tensor.value, tensor.end)}
    raw, kind = own.get(_RAW_DATA), own.get(_DATA_TYPE)
    scalar = raw is not None and raw.end - raw.value == 4 and _DIMS not in own
    if raw is None or kind is None or not scalar or varint(data, kind.value, kind.end)[0] != _FLOAT:
        return None
    return raw.value


def _text(data: bytes, message: Field, number: int) -> bytes | None:
    found = [field for field in fields(data, message.value, message.end) if field.number == number]
    return data[found[-1].value : found[-1].end] if found else None
