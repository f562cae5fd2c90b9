"""A trained model as an ATen graph: `torch.export`, made functional, with the weights as constants."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._guards import detect_fake_mode
from torch._ops import OpOverload
from torch.export import Dim
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from lrp_edge.errors import LrpEdgeError, did_you_mean, first_line
from lrp_edge.relevance.plain import plain

aten = torch.ops.aten

#: Operations whose output is a tensor of its own, never a view of an input.
NEW_TENSORS = {
    aten.conv2d.default,
    aten.linear.default,
    aten.batch_norm.default,
    aten.add.Tensor,
    aten.mul.Tensor,
    aten.cat.default,
}


@dataclass
class Capture:
    """A model's forward pass as a graph of ATen operations.

    Attributes
    ----------
    graph : torch.fx.Graph
        Functional: no operation writes to its input. Each node's ``meta["val"]`` has shape and dtype,
        ``meta["nn_module_stack"]`` the path of the module that it came from.
    constants : dict of fx.Node to Tensor
        Value of each placeholder that does not depend on the image: parameters, buffers, and what follows from them.
    image : torch.fx.Node
        The input of the graph.
    activation : {"softmax", "sigmoid"} or None
        What the model itself made scores with, which the graph leaves out; None for a model that returns logits.
    follows_attention : bool
        Whether relevance also goes to what attention is computed from.
    """

    graph: fx.Graph
    constants: dict[fx.Node, Tensor]
    image: fx.Node
    activation: str | None = None
    follows_attention: bool = False

    @property
    def output(self) -> fx.Node:
        """The node that ends the graph."""
        last: fx.Node = next(node for node in self.graph.nodes if node.op == "output")
        return last

    @property
    def logits(self) -> fx.Node:
        """What the graph returns."""
        returned: Any = self.output.args[0]
        logits: fx.Node = returned[0]
        return logits

    def returns(self, node: fx.Node) -> None:
        """Let the graph return another node."""
        self.output.args = ((node,),)

    def value(self, argument: Any) -> Any:
        """Return the constant behind an argument of a node, or the argument itself where it is not a node."""
        return self.constants[argument] if isinstance(argument, fx.Node) else argument

    def new_constant(self, name: str, value: Tensor) -> fx.Node:
        """Add a constant to the graph, before all that computes."""
        with self.graph.inserting_before(self.image):
            node = self.graph.placeholder(name)
        mode = detect_fake_mode(self.image.meta["val"])
        node.meta["val"] = value
        if mode is not None and isinstance(value, Tensor):  # an operation of several results returns no tensor
            node.meta["val"] = mode.from_tensor(value, static_shapes=True)
        self.constants[node] = value
        return node

    def prune(self) -> None:
        """Erase what the logits do not depend on, the exporter's guards among it, and constants that nothing reads."""
        for node in reversed(list(self.graph.nodes)):
            if not node.users and (node.op == "call_function" or node in self.constants):
                self.constants.pop(node, None)
                self.graph.erase_node(node)


class Writer:
    """Writes operations before a node of a graph, as parts of the module that it is of."""

    def __init__(self, captured: Capture, node: fx.Node) -> None:
        self.captured, self.node = captured, node

    def __call__(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Write one operation and return its node."""
        graph = self.captured.graph
        with graph.inserting_before(self.node):
            written = graph.call_function(target, args, kwargs)
        # An error names the operation that the user wrote, whatever it was written in.
        written.meta = {"written_for": self.node} | {k: v for k, v in self.node.meta.items() if k != "val"}
        values, named = fx.node.map_arg((args, kwargs), lambda source: source.meta["val"])
        written.meta["val"] = target(*values, **named)
        return written

    def inline(self, function: Callable[..., Any], *args: fx.Node) -> fx.Node | list[fx.Node] | None:
        """Write what a function of tensors computes, and return what it returns; None where that is the node itself."""
        traced = make_fx(function)(*(source.meta["val"] for source in args))
        if any(inner.target == self.node.target for inner in traced.graph.nodes):
            return None
        places = dict(zip((node for node in traced.graph.nodes if node.op == "placeholder"), args, strict=True))
        for inner in traced.graph.nodes:
            if inner.op == "call_function":
                inner_args, named = fx.node.map_arg((inner.args, inner.kwargs), places.__getitem__)
                places[inner] = self(inner.target, *inner_args, **named)
        returned = next(node for node in traced.graph.nodes if node.op == "output").args[0]
        found: fx.Node | list[fx.Node] = fx.node.map_arg(returned, places.__getitem__)
        return found


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a node by their names in the operator's schema, defaults where they are not given."""
    declared = node.target._schema.arguments  # type: ignore[union-attr]
    given = dict(zip((entry.name for entry in declared), node.args, strict=False)) | node.kwargs
    return {entry.name: given.get(entry.name, entry.default_value) for entry in declared}


def module_path(node: fx.Node) -> str:
    """Return a node's place in the user's model, e.g. ``"features.3"``; empty for the model itself."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def capture(
    model: nn.Module, example: Tensor, any_size: bool = True, known: Container[Any] = (), logits: str | None = None
) -> Capture:
    """Capture the forward pass of a classifier in evaluation mode.

    The batch stays symbolic wherever the model allows it, and so do height and width if they may be any. Wrappers
    and other dtypes of weights are no obstacle, see :func:`~lrp_edge.relevance.plain.plain`.

    Parameters
    ----------
    model : nn.Module
        Takes a float image [N, C, H, W], returns logits [N, K]. It is not modified.
    example : Tensor, float [N, C, H, W]
        An image of the size that the model is for; its values do not matter.
    any_size : bool
        Whether the graph is for images of other sizes too. For one size it is captured faster.
    known : container of OpOverload
        Operations that the caller has rules for. A graph of these alone is left as it is; others are decomposed.
    logits : str, optional
        Which of several tensors that the model returns they are: its key or place, ``"logits"``, ``"0"``, or a
        path of them, ``"heads.0"``.

    Raises
    ------
    LrpEdgeError
        If `torch.export` cannot capture the model, its logits are not known or not [N, K], or a weight is NaN or
        infinite.
    """
    model = plain(model, example)
    if example.shape[0] == 1:
        example = example.repeat(2, 1, 1, 1)  # a batch of one would be taken for a constant
    dynamic = dict.fromkeys((0, 2, 3) if any_size else (0,), Dim.AUTO)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own, about its own code
            # The former weight_norm computes its weight in each call, from weights that are constant.
            warnings.filterwarnings("ignore", "The tensor attribute", UserWarning)
            program = torch.export.export(model, (example,), dynamic_shapes=(dynamic,))
            _remove_dropout(program.graph)
            if not _make_functional(program.graph, known):
                program = program.run_decompositions({})
    except Exception as error:
        raise LrpEdgeError(
            f"torch.export cannot capture {type(model).__name__} on an input {list(example.shape)}: {first_line(error)}"
        ) from error
    captured = _split_inputs(program, logits)
    for node in list(captured.graph.nodes):
        if node.target == aten._native_batch_norm_legit_no_training.default:
            _one_output_batch_norm(captured.graph, node)
    fold_constants(captured)
    captured.prune()
    for node in captured.graph.nodes:
        if hasattr(nn.ModuleDict, node.name):
            node._rename(f"{node.name}_0")  # a layer's name is that of its module in Unrolled
    return captured


def _remove_dropout(graph: fx.Graph) -> None:
    """Put the input of each dropout in its place, which it returns at inference: one tensor that two names write to."""
    for node in list(graph.nodes):
        if node.op == "call_function" and "dropout" in str(node.target) and arguments(node).get("train") is False:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _make_functional(graph: fx.Graph, known: Container[Any]) -> bool:
    """Replace operations that write to their input, and say whether all operations of the graph are then known ones.

    `run_decompositions` does so for any graph, but traces it once more, which takes twice as long as the export. Here
    what is written to must have been made for this one operation, as a convolution's output is for ``relu_``.
    """
    targets: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        target = node.target
        writes = isinstance(target, OpOverload) and target._schema.is_mutable
        computes = writes or isinstance(node.meta.get("val"), Tensor | list | tuple)
        if node.op != "call_function" or not computes or target is operator.getitem:
            continue
        if writes:
            if not _writes_to_its_own(node, targets):
                return False
            packet = getattr(aten, target._schema.name.removeprefix("aten::").removesuffix("_"), None)
            target = getattr(packet, target._overloadname, None)
        if target not in known or arguments(node).get("training"):
            return False
        targets[node] = target
    for node, target in targets.items():
        node.target = target
    return True


def _writes_to_its_own(node: fx.Node, targets: dict[fx.Node, Any]) -> bool:
    """Whether what an operation writes to is a new tensor that nothing else reads, and stays of its dtype."""
    written = node.args[0]
    if not isinstance(written, fx.Node) or targets.get(written) not in NEW_TENSORS or len(written.users) > 1:
        return False
    values = (source.meta.get("val") for source in node.all_input_nodes)
    return len({value.dtype for value in values if isinstance(value, Tensor)}) == 1


def _split_inputs(program: torch.export.ExportedProgram, logits: str | None) -> Capture:
    graph = program.graph
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    constants: dict[fx.Node, Tensor] = {}
    images: list[fx.Node] = []
    for spec in program.graph_signature.input_specs:
        node = placeholders[spec.arg.name]
        if spec.kind == InputKind.USER_INPUT:
            images.append(node)
        elif spec.target in program.state_dict:
            constants[node] = program.state_dict[spec.target].detach()
        else:
            constants[node] = program.constants[str(spec.target)]
    returned = next(node for node in graph.nodes if node.op == "output")
    returned.args = ((_logits(program, returned, logits),),)
    return Capture(graph, constants, images[0])


def _logits(program: torch.export.ExportedProgram, returned: fx.Node, wanted: str | None) -> fx.Node:
    """Choose among what the model returns."""
    # A model that writes to its image returns that too, once made functional.
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    outputs: Any = returned.args[0]
    values = [value for value, kind in zip(outputs, kinds, strict=True) if kind == OutputKind.USER_OUTPUT]
    tree = pytree.tree_unflatten(range(len(values)), program.call_spec.out_spec)
    paths = [_path(keys) for keys, _ in pytree.tree_flatten_with_path(tree)[0]]
    # What is no tensor, None among it, is no node.
    named = {path: value for path, value in zip(paths, values, strict=True) if isinstance(value, fx.Node)}
    said = ", ".join(f"{path} {_shape(value)}".strip() for path, value in named.items())
    if wanted is not None and wanted not in named:
        hint = did_you_mean(wanted, [path for path in named if path], f"it returns {said}")
        raise LrpEdgeError(f"the model returns no {wanted!r}; {hint}")
    if wanted is None and len(named) != 1:
        likely = [path for path, value in named.items() if value.meta["val"].ndim == 2]
        asked = f"say which are the logits, e.g. --logits {next(iter(likely), 'NAME')}"
        raise LrpEdgeError(f"the model returns {len(named)} tensors, {said}; {asked}")
    chosen = named[wanted] if wanted is not None else next(iter(named.values()))
    if chosen.meta["val"].ndim not in (1, 2):
        raise LrpEdgeError(f"the model returns {said}; expected logits [N, K], or [N] of a single one")
    return chosen


def _shape(node: fx.Node) -> str:
    """Return a shape in words, the batch as N and other sizes that are not fixed as ``?``."""
    sizes = ["N", *(str(size) if isinstance(size, int) else "?" for size in node.meta["val"].shape[1:])]
    return f"[{', '.join(sizes[: node.meta['val'].ndim])}]"


def _path(keys: Sequence[Any]) -> str:
    """Return the path to an output: ``"logits"`` for ``{"logits": ...}``, ``"1.0"`` for the first of a second pair."""
    return ".".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in keys)


def _one_output_batch_norm(graph: fx.Graph, node: fx.Node) -> None:
    image, weight, bias, mean, variance, momentum, epsilon = node.args
    with graph.inserting_before(node):
        single = graph.call_function(
            aten.batch_norm.default, (image, weight, bias, mean, variance, False, momentum, epsilon, False)
        )
    users = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
    single.meta = dict(users[0].meta)
    for user in users:
        user.replace_all_uses_with(single)
        graph.erase_node(user)


def fold_constants(captured: Capture) -> None:
    """Compute now what depends on weights alone, e.g. a weight-normalised kernel."""
    for node in list(captured.graph.nodes):
        inputs = node.all_input_nodes
        if node.op == "call_function" and inputs and all(source in captured.constants for source in inputs):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), captured.value)
            folded = captured.new_constant(f"{node.name}_folded", node.target(*args, **kwargs))
            node.replace_all_uses_with(folded)
            captured.graph.erase_node(node)
