"""Messages of protobuf, without its package, which a device does not have.

A message (https://protobuf.dev/programming-guides/encoding) is a sequence of fields, each a key (number and wire type),
then a value; a value of wire type 2 is preceded by its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

from lrp_edge.errors import LrpEdgeError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message: its number, where it starts, and where its value starts and ends."""

    number: int
    start: int
    value: int
    end: int


def fields(data: bytes | mmap, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message between two places.

    Raises
    ------
    LrpEdgeError
        If there is none.
    """
    at = start
    while at < end:
        key, value = varint(data, at, end)
        wire = key & 7
        if wire == _VARINT:
            after = varint(data, value, end)[1]
        elif wire == _BYTES:
            length, value = varint(data, value, end)
            after = value + length
        elif wire in (_FIXED32, _FIXED64):
            after = value + (4 if wire == _FIXED32 else 8)
        else:
            raise _broken(at)
        if after > end:
            raise _broken(at)
        yield Field(key >> 3, at, value, after)
        at = after


def varint(data: bytes | mmap, at: int, end: int) -> tuple[int, int]:
    """Return a number, in groups of seven bits from the lowest, and where it ends."""
    number = shift = 0
    for place in range(at, min(end, at + 10)):
        number |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:
            return number, place + 1
    raise _broken(at)


def delimited(number: int, value: bytes) -> bytes:
    """Return a field whose value is bytes."""
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(value)) + value


def _as_varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def _broken(at: int) -> LrpEdgeError:
    return LrpEdgeError(f"this is not an ONNX file (byte {at}); expected one that lrp-edge export wrote")
