"""What of an ONNX file must be known before anything else reads it."""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from pathlib import Path

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.protobuf import fields

#: ONNX Runtime before 1.32 follows functions that call one another until the stack is exhausted: the process ends.
MOST_FUNCTIONS = 100
# Field number of ModelProto in onnx.proto3.
_FUNCTIONS = 25


def check_file(path: Path) -> None:
    """Refuse a file that would end the process of what reads it; whether it is ONNX, that says.

    Raises
    ------
    LrpEdgeError
        If there is no such file, it cannot be read, or has many functions of its own, where an exported one has none.
    """
    if not path.is_file():
        raise LrpEdgeError(f"no model at {path}")
    try:
        found = _functions(path)
    except OSError as error:
        raise LrpEdgeError(f"{path} cannot be read: {error.strerror}") from error
    if found > MOST_FUNCTIONS:
        raise LrpEdgeError(
            f"{path} has {found} functions of its own; expected at most {MOST_FUNCTIONS}: export the model again"
        )


def _functions(path: Path) -> int:
    if path.stat().st_size == 0:
        return 0
    found = 0
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        try:
            for field in fields(data, 0, len(data)):
                found += field.number == _FUNCTIONS
        except LrpEdgeError:
            # What comes behind is not read by anybody else either.
            return found
    return found
