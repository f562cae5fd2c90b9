"""Weights stored once: what relevance makes of the classifier's weights is computed from them when a file is opened.

Relevance reads the positive and the negative part of a layer's weights, and both turned round for the way back: with
all of them as constants, a file is three to five times as large as its network. Sign and layout are exact in any
arithmetic, so that they are written as operators on constants instead. ONNX Runtime and OpenVINO compute those once, as
a file is opened; a frame costs what it did. Whoever edits a graph, or builds an engine of it, gets it with all weights
as constants again: kernels that are none would keep TensorRT from the forms that are fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from lrp_edge.errors import needs_extra
from lrp_edge.export.graph import Editor

with needs_extra("export"):
    import numpy as np
    import onnx
    from numpy.typing import NDArray

Array = NDArray[Any]
#: Constants of fewer elements are stored: a node takes as many bytes.
LEAST = 256
#: What the names of the tensors start with that are made on the way, or for it.
PREFIX = "weights/"
_OPERATORS = frozenset({"Relu", "Min", "Transpose", "Slice"})
#: Parts of weights by their sign, and layouts: those of the adjoints of linear layers and of convolutions, of a stride,
#: of one channel a group, and others.
_SIGNS: tuple[tuple[str, ...], ...] = ((), ("Relu",), ("Min",))
_LAYOUTS: tuple[tuple[str, ...], ...] = ((), ("Transpose",), ("Slice",), ("Transpose", "Slice"))


def share_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Compute weights in float32 that are another's positive or negative part, transposed or flipped, from that one.

    Weights that are equal to others stay: :func:`~lrp_edge.export.passes.constants.separate_orientations` made them.

    Parameters
    ----------
    proto : onnx.ModelProto
        A graph; it is not modified.
    """
    editor = Editor(proto)
    weights = {name: editor.constant(name) for name, tensor in editor.constants.items() if _is_weight(tensor)}
    digests = {name: _digest(value) for name, value in weights.items()}
    # The first of several that are equal.
    by_value = {digest: name for name, digest in reversed(digests.items())}
    derived: set[str] = set()
    sources: set[str] = set()
    # Those of both signs first, since those of one are parts of them.
    for name in sorted(weights, key=lambda name: not weights[name].min() < 0 < weights[name].max()):
        if name in derived:
            continue
        made: dict[tuple[str, ...], str] = {(): name}
        for chain, value in _variants(weights[name]):
            digest = _digest(value)
            other = by_value.get(digest)
            if other is not None and digest != digests[name] and other not in derived | sources:
                _derive(editor, made, chain, other, value.ndim)
                derived.add(other)
                sources.add(name)
    for name in derived:
        del editor.constants[name]
    for node in proto.graph.node:
        editor.add(node)
    return editor.finish()


def restore_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose weights are constants again, each with the name that it has; without any such, the same."""
    editor, rest = Editor(proto), []
    for node in proto.graph.node:
        if node.name.startswith(PREFIX) and node.op_type in _OPERATORS and node.input[0] in editor.constants:
            editor.new_constant(node.output[0], _apply(node.op_type, editor.constant(node.input[0])))
        else:
            rest.append(node)
    if len(rest) == len(proto.graph.node):
        return proto
    for node in rest:
        editor.add(node)
    return editor.finish()


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1 and np.prod(tensor.dims) >= LEAST


def _digest(value: Array) -> tuple[tuple[int, ...], bytes]:
    # A zero may have either sign, which the sum takes from it.
    return value.shape, blake2b((value + 0.0).tobytes()).digest()


def _variants(value: Array) -> Iterator[tuple[tuple[str, ...], Array]]:
    """Yield chains of operators and what they make of weights; the shorter chains first."""
    for layout in _LAYOUTS if value.ndim > 2 else _LAYOUTS[:2]:
        for sign in _SIGNS:
            chain = (*layout, *sign)
            # OpenVINO merges a Transpose into the product that reads it, and takes a square matrix for what it was
            # before: separate_orientations says why. A sign that comes after the layout is computed first.
            if not chain or (chain == ("Transpose",) and value.ndim == 2 and len(value) == value.shape[1]):
                continue
            made = value
            for operator in chain:
                made = _apply(operator, made)
            yield chain, made


def _apply(operator: str, value: Array) -> Array:
    match operator:
        case "Relu":
            return np.maximum(value, 0)
        case "Min":
            return np.minimum(value, 0)
        case "Transpose":
            return value.swapaxes(0, 1)
        case _:
            return np.flip(value, tuple(range(2, value.ndim)))


def _derive(editor: Editor, made: dict[tuple[str, ...], str], chain: tuple[str, ...], output: str, rank: int) -> None:
    """Add the nodes of a chain but for those that are `made`, which says by their chains what their results are."""
    for count in range(1, len(chain) + 1):
        before, now = chain[: count - 1], chain[:count]
        if now in made:
            continue
        made[now] = output if now == chain else f"{PREFIX}{made[()]}/{'/'.join(now)}"
        inputs, attributes = _arguments(editor, now[-1], rank)
        inputs = [made[before], *inputs]
        editor.add(onnx.helper.make_node(now[-1], inputs, [made[now]], name=f"{PREFIX}{made[now]}", **attributes))


def _arguments(editor: Editor, operator: str, rank: int) -> tuple[list[str], dict[str, Any]]:
    """Return what an operator reads besides the weights, and its attributes."""
    axes = np.arange(2, rank)
    if operator == "Min":
        return [editor.new_constant(f"{PREFIX}zero", np.zeros((), np.float32))], {}
    if operator == "Transpose":
        return [], {"perm": [1, 0, *axes]}
    if operator == "Relu":
        return [], {}
    back, first = -np.ones_like(axes), np.full_like(axes, np.iinfo(np.int64).min)
    limits = {"back": back, "first": first, "axes": axes}
    names = {key: editor.new_constant(f"{PREFIX}{key}{rank}", value) for key, value in limits.items()}
    return [names["back"], names["first"], names["axes"], names["back"]], {}
