"""Cut a classifier at one of its modules, and run what is left at a smaller stride."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from lrp_edge.errors import LrpEdgeError, did_you_mean, first_line, needs_extra

with needs_extra("export"):
    import torch
    from torch import Tensor, fx, nn

#: A network is cut where its features would go from this stride to the double.
LAST_STRIDE = 16
#: Side in pixels of the image that shapes are found with.
SIDE = 256


def cut(network: nn.Module, channels: int, at: str = "", stride: int = 8) -> fx.GraphModule:
    """Return the part of a network up to one of its modules, at a stride that is not larger than wanted.

    Parameters
    ----------
    network : nn.Module
        Takes a float image [N, C, H, W]; it must be one that `torch.fx` can trace. It is not modified.
    channels : int
        Channels C of the image.
    at : str
        Path of the module whose output [N, c, h, w] the features are, e.g. ``"layer3"``; by default the last with a
        stride of 16 that is not inside one with a larger one.
    stride : int
        The most pixels between positions of the features: convolutions and poolings that would go beyond lose their
        stride, and keep their weights.

    Returns
    -------
    fx.GraphModule
        With the modules before the cut alone, under their own names, which ``meta["cut"]``, ``meta["stride"]`` and
        ``meta["width"]``, channels of the features, go with.

    Raises
    ------
    LrpEdgeError
        If the network cannot be traced, has no such module, or the stride cannot be reached.
    """
    tracer = _Tracer()
    try:
        graph = tracer.trace(copy.deepcopy(network).eval())
        shapes = _shapes(fx.GraphModule(tracer.root, graph), channels)
    except Exception as error:
        raise LrpEdgeError(
            f"{type(network).__name__} cannot be cut: torch.fx cannot trace it for images of any size "
            f"({first_line(error)}); choose another network"
        ) from error
    strides = {path: _stride(shapes.get(node)) for path, node in tracer.outputs.items()}
    at = at or _last(strides)
    known = [path for path, found in strides.items() if path and found is not None]
    if at not in known:
        hint = did_you_mean(at, known, f"expected one of its modules that return features, of {len(known)}")
        raise LrpEdgeError(f"{type(network).__name__} cannot be cut at {at!r}; {hint}")
    (output,) = graph.find_nodes(op="output")
    output.args = (tracer.outputs[at],)
    graph.eliminate_dead_code()
    part = fx.GraphModule(tracer.root, graph)
    _lower_strides(part, shapes, stride)
    try:
        reached = _shapes(part, channels)[output]
    except RuntimeError:  # where branches meet that no longer have one size
        reached = ()
    if _stride(reached) not in (stride, strides[at]) or (_stride(reached) or 0) > stride:
        raise LrpEdgeError(
            f"{type(network).__name__} cannot have a stride of {stride} at {at}: not all that sets it is a convolution "
            "or pooling that can do without; choose another stride or cut it elsewhere"
        )
    part.meta |= {"cut": at, "stride": _stride(reached), "width": reached[1]}
    return part


class _Tracer(fx.Tracer):
    """Keeps what each module returned.

    A module with weights of its own, or without modules in it, is not looked into: what it does may depend on the size
    of its input and on whether it is trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, fx.Node] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = next(m.parameters(recurse=False), None) is not None
        return own or not any(m.children()) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        found = super().call_module(m, forward, args, kwargs)
        if isinstance(found, fx.Proxy):
            # In the order in which they end.
            path = self.path_of_module(m)
            self.outputs.pop(path, None)
            self.outputs[path] = found.node
        return found


class _Shapes(fx.Interpreter):
    """Runs a graph on an image without values, and keeps the shape of each result."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n] = tuple(result.shape)
        return result


def _shapes(part: fx.GraphModule, channels: int) -> dict[fx.Node, tuple[int, ...]]:
    """Return the shape of each node that is a tensor, for an image of :data:`SIDE`."""
    bare = copy.deepcopy(part).to("meta")
    interpreter = _Shapes(bare)
    with torch.no_grad():
        interpreter.run(torch.empty(1, channels, SIDE, SIDE, device="meta"))
    own = {node.name: node for node in part.graph.nodes}
    return {own[node.name]: shape for node, shape in interpreter.found.items()}


def _stride(shape: tuple[int, ...] | None) -> int | None:
    """Return pixels from one position of features to the next, a power of two; None for what are no features."""
    if shape is None or len(shape) != 4 or shape[2] != shape[3] or shape[2] < 2:
        return None
    # Without padding, or where it rounds up, a layer gives a few positions fewer or more.
    return 1 << round(math.log2(SIDE / shape[2]))


def _last(strides: Mapping[str, int | None]) -> str:
    """Return the last module with :data:`LAST_STRIDE`, of those that are not in one that ends with a larger stride.

    A module that begins with a smaller stride and ends with a larger one is looked into.
    """
    parts, before = _children(strides, ""), ""
    while parts:
        beyond = next((path for path in parts if (strides[path] or 0) > LAST_STRIDE), None)
        within = parts[: parts.index(beyond)] if beyond else parts
        before = within[-1] if within else before
        if beyond is None or strides.get(before) == LAST_STRIDE:
            break
        parts = _children(strides, f"{beyond}.")
    return before


def _children(strides: Mapping[str, int | None], prefix: str) -> list[str]:
    """Return the modules directly in the one of a path that return features, in the order in which they end."""
    depth = prefix.count(".")
    named = [path for path in strides if path and path.startswith(prefix) and path.count(".") == depth]
    return [path for path in named if strides[path] is not None]


def _lower_strides(part: fx.GraphModule, shapes: Mapping[fx.Node, tuple[int, ...]], most: int) -> None:
    """Set the stride of each module that goes beyond `most` to 1."""
    for node in part.graph.nodes:
        before = [_stride(shapes.get(source)) for source in node.all_input_nodes]
        after = _stride(shapes.get(node))
        if node.op != "call_module" or after is None or after <= most or before in ([], [None], [after]):
            continue
        module = part.get_submodule(node.target)
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            _without_stride(part, node.target, module)


def _without_stride(part: fx.GraphModule, path: str, pool: nn.MaxPool2d | nn.AvgPool2d) -> None:
    """Keep a pooling over an odd window; drop one over an even window, which would move the image by half a pixel."""
    sides = {pool.kernel_size} if isinstance(pool.kernel_size, int) else set(pool.kernel_size)
    if all(side % 2 for side in sides):
        pool.stride = 1
    else:
        part.set_submodule(path, nn.Identity())


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return path and module of the convolution that sees the image.

    Raises
    ------
    LrpEdgeError
        If there is none.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return path, module
    raise LrpEdgeError(f"{type(network).__name__} has no convolution; expected a convolutional network")


def in_gray(part: fx.GraphModule) -> None:
    """Give a network of colour images convolutions of one channel, which see gray as three equal channels.

    Raises
    ------
    LrpEdgeError
        If something other than convolutions sees the image.
    """
    (image,) = part.graph.find_nodes(op="placeholder")
    for node in image.users:
        colour = part.get_submodule(node.target) if node.op == "call_module" else None
        if not isinstance(colour, nn.Conv2d) or colour.groups != 1:
            raise LrpEdgeError(f"{node.target} sees the image and cannot be made gray; train with --channels color")
        colour.in_channels = 1
        colour.weight = nn.Parameter(colour.weight.detach().sum(1, keepdim=True))
