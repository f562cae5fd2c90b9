"""What of an ONNX file must be known before anything else reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.protobuf import Field, fields

#: ONNX Runtime before 1.32 follows functions that call one another until the stack is exhausted: the process ends.
MOST_FUNCTIONS = 100
# Field numbers of onnx.proto3: of each message that may hold tensors, which messages its fields are.
_INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_FUNCTIONS, _EXTERNAL_DATA, _DATA_LOCATION = 25, 13, 14


def check_file(path: Path) -> None:
    """Refuse a file that would harm before it is refused; whether it is ONNX, that says what reads it.

    ONNX Runtime before 1.24 takes weights from any file or address that a model names.

    Raises
    ------
    LrpEdgeError
        If there is no such file, it cannot be read, has many functions of its own, where an exported one has none, or
        has weights that are not in it.
    """
    # A path that is too long for the system is an error to pathlib.
    if not os.path.isfile(path):
        raise LrpEdgeError(f"no model at {path}")
    if path.stat().st_size == 0:
        return
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            functions, external = _count_functions(data), _has_external_data(data)
    except OSError as error:
        raise LrpEdgeError(f"{path} cannot be read: {error.strerror}") from error
    if functions > MOST_FUNCTIONS:
        raise LrpEdgeError(
            f"{path} has {functions} functions of its own; expected at most {MOST_FUNCTIONS}: export the model again"
        )
    if external:
        raise LrpEdgeError(f"{path} has weights in another file; expected all in one: export the model again")


def _count_functions(data: mmap) -> int:
    return sum(field.number == _FUNCTIONS for field in _whole_fields(data, 0, len(data)))


def _has_external_data(data: mmap) -> bool:
    """Say whether a tensor says that it is elsewhere."""
    # What names the place has this key; a search takes a hundredth of the walk.
    if data.find(b"location") < 0:
        return False
    waiting = [("model", 0, len(data))]
    while waiting:
        kind, start, end = waiting.pop()
        for field in _whole_fields(data, start, end):
            if kind == "tensor" and field.number in (_EXTERNAL_DATA, _DATA_LOCATION):
                return True
            if inner := _INNER.get(kind, {}).get(field.number):
                waiting.append((inner, field.value, field.end))
    return False


def _whole_fields(data: mmap, start: int, end: int) -> Iterator[Field]:
    """Yield fields up to where a message is broken, which nothing else reads beyond either."""
    with suppress(LrpEdgeError):
        yield from fields(data, start, end)
