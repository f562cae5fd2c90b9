"""Two edits of an ONNX file without the `onnx` package, which a device does not have: a constant, and the metadata.

An ONNX file is one protobuf message (https://protobuf.dev/programming-guides/encoding): a sequence of fields, each a
key (number and wire type), then a value; a value of wire type 2 is preceded by its length. A constant that keeps its
type and shape keeps its length in bytes, so that it is overwritten where it is, and no length around it changes. The
metadata are a field of the outermost message, whose own length is written nowhere. Every other byte stays as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from lrp_edge.errors import LrpEdgeError

# Field numbers of onnx.proto3: ModelProto, GraphProto, TensorProto, StringStringEntryProto.
_GRAPH, _METADATA = 7, 14
_INITIALIZER = 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_KEY, _VALUE = 1, 2
_FLOAT = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Field(NamedTuple):
    """A field of a message: its number, where it starts, and where its value starts and ends."""

    number: int
    start: int
    value: int
    end: int


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
    for field in _fields(data, 0, len(data)):
        if field.number == _METADATA and _text(data, field, _KEY) == key.encode():
            kept.append(data[at : field.start])
            at = field.end
    entry = _delimited(_KEY, key.encode()) + _delimited(_VALUE, text.encode())
    return b"".join([*kept, data[at:], _delimited(_METADATA, entry)])


def _initializers(data: bytes) -> Iterator[_Field]:
    for graph in _fields(data, 0, len(data)):
        if graph.number == _GRAPH:
            yield from (field for field in _fields(data, graph.value, graph.end) if field.number == _INITIALIZER)


def _scalar_place(data: bytes, tensor: _Field, name: str) -> int | None:
    """Return where the four bytes of a scalar stand; None if the tensor is another one."""
    if _text(data, tensor, _NAME) != name.encode():
        return None
    fields = {field.number: field for field in _fields(data, tensor.value, tensor.end)}
    raw, kind = fields.get(_RAW_DATA), fields.get(_DATA_TYPE)
    scalar = raw is not None and raw.end - raw.value == 4 and _DIMS not in fields
    if raw is None or kind is None or not scalar or _varint(data, kind.value, kind.end)[0] != _FLOAT:
        return None
    return raw.value


def _text(data: bytes, message: _Field, number: int) -> bytes | None:
    found = [field for field in _fields(data, message.value, message.end) if field.number == number]
    return data[found[-1].value : found[-1].end] if found else None


def _fields(data: bytes, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message between two places."""
    at = start
    while at < end:
        key, value = _varint(data, at, end)
        wire = key & 7
        if wire == _VARINT:
            after = _varint(data, value, end)[1]
        elif wire == _BYTES:
            length, value = _varint(data, value, end)
            after = value + length
        elif wire in (_FIXED32, _FIXED64):
            after = value + (4 if wire == _FIXED32 else 8)
        else:
            raise _broken(at)
        if after > end:
            raise _broken(at)
        yield _Field(key >> 3, at, value, after)
        at = after


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number, in groups of seven bits from the lowest, and where it ends."""
    number = shift = 0
    for place in range(at, min(end, at + 10)):
        number |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:
            return number, place + 1
    raise _broken(at)


def _delimited(number: int, value: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(value)) + value


def _as_varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _broken(at: int) -> LrpEdgeError:
    return LrpEdgeError(f"this is not an ONNX file (byte {at}); expected one that lrp-edge export wrote")
