"""Where the nodes of an exported graph stand in the user's model, for errors and profiles."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from lrp_edge.errors import needs_extra

with needs_extra("export"):
    import onnx
    from onnx import helper

#: Keys of a node's metadata: the part of the graph that it belongs to, and the module of the user's.
PART, MODULE = "part", "module"
_SCOPES = "pkg.torch.onnx.name_scopes"
_PARTS = {"operations": "classifier", "steps": "relevance"}


def name_places(graph: onnx.GraphProto, places: Mapping[str, str]) -> None:
    """Give each node its part and, where it has one, its place in the user's model; all other metadata goes.

    Parameters
    ----------
    graph : onnx.GraphProto
        What PyTorch's exporter made of a :class:`~lrp_edge.export.deployable.Deployable`.
    places : mapping
        Place of each node of the captured classifier, as in :class:`~lrp_edge.relevance.unroll.Unrolled`.
    """
    for node in graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        part, module = _place(ast.literal_eval(scopes), places)
        node.ClearField("metadata_props")
        helper.set_model_props(node, {PART: part, **({MODULE: module} if module else {})})


def _place(scopes: list[str], places: Mapping[str, str]) -> tuple[str, str]:
    for scope in scopes:
        level = scope.split(".")
        if level[0] == "unrolled" and len(level) > 2 and level[1] in _PARTS:
            return _PARTS[level[1]], places.get(level[2], "")
    parts = {"preprocess": "preprocessing", "head": "mask", "unrolled": "relevance"}
    return next((parts[scope] for scope in scopes if scope in parts), "contract"), ""


def describe(node: onnx.NodeProto) -> str:
    """Return what a node is to the user, e.g. ``"the relevance of module features.3"``; empty where it is not known."""
    known = {entry.key: entry.value for entry in node.metadata_props}
    place = f"module {known[MODULE]}" if MODULE in known else f"the {known[PART]}" if PART in known else ""
    return f"the {known[PART]} of {place}" if MODULE in known and known.get(PART) == "relevance" else place
