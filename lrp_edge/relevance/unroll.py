"""Unroll a classifier: its forward pass and the relevance pass back to the pixels, as one `nn.Module`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrp_edge.relevance.canonize import canonize
from lrp_edge.relevance.capture import Capture, capture, module_path
from lrp_edge.relevance.composites import Composite, composite_from, start_keeps_sign
from lrp_edge.relevance.layers import Layer, forward_of
from lrp_edge.relevance.operators import OPERATORS
from lrp_edge.relevance.rewriting import respell
from lrp_edge.relevance.rules import Function, Rule, prepare
from lrp_edge.relevance.scores import take_off_scores, two_classes
from lrp_edge.relevance.spellings import SPELLINGS
from lrp_edge.relevance.stages import Stage, find_stage
from lrp_edge.relevance.targets import OfLogits, Target, target_from


def unroll(
    model: nn.Module,
    example: Tensor,
    composite: str | Composite = "EpsilonPlusFlat",
    target: str | int | Target = "predicted",
    *,
    defects: Sequence[int] | None = None,
    any_size: bool = True,
    stride: int = 1,
    logits: str | None = None,
    **rule_parameters: Any,
) -> Unrolled:
    """Turn a classifier into a module that returns its logits and their relevance.

    Parameters
    ----------
    model : nn.Module
        Takes a float image [N, C, H, W], returns logits [N, K]; it is left as it is.
    example : Tensor, float [N, C, H, W]
        An image of the size and dtype that the model is for; its values do not matter.
    composite : str or Composite
        Which rule applies where: a name in :data:`~lrp_edge.relevance.COMPOSITES`, or a composite of your own.
    target : {"predicted", "contrast", "defect", "evidence"}, int or callable
        What is explained, see :func:`~lrp_edge.relevance.targets.target_from`.
    defects : sequence of int, optional
        Indices of the defect classes, for the targets ``"contrast"``, ``"defect"`` and ``"evidence"``.
    any_size : bool
        Whether it is for images of other sizes than the example's too. For one size it is made faster.
    stride : int
        Where relevance is read: at the pixels, or at the network's stage of that stride, e.g. 4, which is cheaper, see
        :func:`~lrp_edge.relevance.stages.find_stage`. Rules are those of the whole network, so that what a composite
        says of the first layer holds for the first one.
    logits : str, optional
        Which of several tensors that the model returns they are, see :func:`~lrp_edge.relevance.capture.capture`.
    **rule_parameters
        Parameters of the composite, e.g. ``epsilon``, ``gamma``, ``low`` and ``high``.

    Returns
    -------
    Unrolled
        ``image [N, C, H, W] -> (logits [N, K], relevance [N, C, H, W])``, free of autograd and hooks, so that
        `torch.export` flattens it into one graph. With a stride relevance is that of the stage, [N, c, h, w].

    Raises
    ------
    LrpEdgeError
        If the model cannot be captured, or an operation between image and logits has no rule, or the network
        has no stage of that stride.

    References
    ----------
    Bach et al. 2015, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
    Propagation". Seibold et al. 2022, "From Explanations to Segmentation", arXiv 2202.00315.
    """
    captured = capture(model, example, any_size, {*OPERATORS, *SPELLINGS}, logits)
    respell(captured)
    chosen = composite_from(composite, rule_parameters)
    captured.follows_attention = chosen.follows_attention
    take_off_scores(captured)
    two_classes(captured)
    layers = canonize(captured)
    rules = chosen.rules(layers)
    classes = int(captured.logits.meta["val"].shape[1])
    stage = find_stage(layers, captured.image, stride)
    start = target_from(target, classes, defects)
    if isinstance(start, OfLogits) and start_keeps_sign(layers, rules):
        start = replace(start, positive=True)
    return Unrolled(captured, layers, rules, start, classes, stage)


class Unrolled(nn.Module):
    """A classifier's graph, interpreted forwards, then walked backwards by rule.

    ``forward(image)`` takes a float image [N, C, H, W] and returns ``(logits [N, K], relevance [N, C, H, W])``, at a
    stage other than the pixels ``relevance [N, c, h, w]``.

    Attributes
    ----------
    classes : int
        Number of classes K.
    activation : {"softmax", "sigmoid"} or None
        What the model itself makes scores with, which is left out here; None for one that returns logits.
    image : fx.Node
        The input of the graph.
    layers : list of Layer
        All layers from the image to the logits, in the order of the forward pass.
    stage : Stage
        Where relevance is read.
    rules : dict of str to Rule
        The rule of each layer that relevance goes through, by its place in the user's model; by the name of its node
        where a module is several layers.
    operations, steps : nn.ModuleDict
        What is computed forwards and backwards, by the name of the node.
    places : dict of str to str
        Each node's place in the user's model, e.g. ``"features.3"``; empty for the model itself.
    """

    def __init__(
        self,
        captured: Capture,
        layers: Sequence[Layer],
        rules: Sequence[Rule],
        target: Target,
        classes: int,
        stage: Stage,
    ) -> None:
        super().__init__()
        self.classes, self.image, self.stage = classes, captured.image, stage
        self.activation = captured.activation
        self._logits, self._target = captured.logits, target
        self._dtype: torch.dtype = captured.image.meta["val"].dtype
        self._nodes = [node for node in captured.graph.nodes if node.op == "call_function"]
        self.places = {node.name: module_path(node) for node in self._nodes}
        self._constants = {node: f"constant_{i}" for i, node in enumerate(captured.constants)}
        for node, name in self._constants.items():
            self.register_buffer(name, captured.constants[node])
        self.operations = nn.ModuleDict({node.name: Function(forward_of(node.target)) for node in self._nodes})
        self.steps = nn.ModuleDict()
        self.layers = list(layers)
        self.rules: dict[str, Rule] = {}
        # All that comes after a stage is computed from it alone.
        after = list(zip(layers, rules, strict=True))[stage.depth :]
        # The first layer's output is the largest tensor of most networks: relevance summed over channels saves much.
        summed: set[fx.Node] = set()
        readers = Counter(source for layer, _ in after for source in layer.inputs)
        for layer, rule in after:
            layer = replace(layer, sums_channels=layer.inputs[0] in summed)
            if rule.reads_channel_sum(layer) and readers[layer.node] == 1:
                summed.add(layer.node)
            self.rules[layer.node.name if layer.path in ("", *self.rules) else layer.path] = rule
            self.steps[layer.node.name] = prepare(rule, layer).to(self._dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        values = {node: _as(image.dtype, value) for node, value in self._forward(image).items()}
        relevance = {self._logits: self._target(values[self._logits])}
        for layer in reversed(self.layers[self.stage.depth :]):
            inputs = [values[source] for source in layer.inputs]
            given = [values[source] for source in layer.given]
            shares = self.steps[layer.node.name](inputs, values[layer.node], relevance.pop(layer.node), *given)
            for source, share in zip(layer.inputs, shares, strict=True):
                relevance[source] = relevance[source] + share if source in relevance else share
        return values[self._logits], relevance[self.stage.node]

    def _forward(self, image: Tensor) -> dict[fx.Node, Any]:
        values: dict[fx.Node, Any] = {node: self.get_buffer(name) for node, name in self._constants.items()}
        values[self.image] = image

        def given(argument: Any) -> Any:
            if isinstance(argument, fx.Node):
                return values[argument]
            # What the network makes in the type of its image, e.g. places of a positional encoding, stays so in
            # float64, where the graph's own error is measured.
            return image.dtype if argument is self._dtype else argument

        for node in self._nodes:
            args, kwargs = fx.node.map_aggregate((node.args, node.kwargs), given)
            values[node] = self.operations[node.name](*args, **kwargs)
        return values


def _as(dtype: torch.dtype, value: Any) -> Any:
    """Return floating point numbers in one type: of what a network computes in half precision, relevance overflows."""
    is_other = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype
    return value.to(dtype) if is_other else value
