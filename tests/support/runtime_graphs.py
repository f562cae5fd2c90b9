"""Real graphs of the contract, small enough that NumPy can say what must come out."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lrp_edge.card import METADATA_KEY, THRESHOLD, InputSpec, ModelCard

GAIN, BIAS = (-0.05, 0.05), (4.0, -4.0)
LIMIT = 160.0


def brightness_card(order: str = "BGR", size: tuple[int, int] | None = None, max_batch: int = 3) -> ModelCard:
    """Return the card of the graph: dark frames are OK, bright ones stained."""
    spec = InputSpec(order=order, size=size, max_batch=max_batch)
    return ModelCard(("ok", "stain"), ("stain",), input=spec)


def brightness_graph(card: ModelCard | None, channels: int, size: tuple[int, int] | None) -> onnx.ModelProto:
    """Build it: relevance is brightness, the mask what exceeds a limit, the scores depend on the mean."""
    constants = {
        "space": np.array([1, 2], np.int64),
        "channel": np.array([3], np.int64),
        "gain": np.array([GAIN], np.float32),
        "bias": np.array([BIAS], np.float32),
        "limit": np.array(LIMIT, np.float32),
        "full": np.array(255, np.uint8),
        "zero": np.array(0, np.uint8),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("ReduceMean", ["pixels", "channel"], ["relevance"], keepdims=0),
        node("ReduceMean", ["relevance", "space"], ["mean"], keepdims=0),
        node("Unsqueeze", ["mean", "one"], ["column"]),
        node("MatMul", ["column", "gain"], ["product"]),
        node("Add", ["product", "bias"], ["logits"]),
        node("Softmax", ["logits"], ["scores"], axis=1),
        node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
        node("Cast", ["index"], ["label"], to=TensorProto.INT32),
        node("Greater", ["relevance", "limit"], ["above"]),
        node("Where", ["above", "full", "zero"], ["mask"]),
    ]
    constants["one"] = np.array([1], np.int64)
    height, width = size or ("H", "W")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "brightness",
        [value("image", TensorProto.UINT8, ["N", height, width, channels])],
        [
            value("scores", TensorProto.FLOAT, ["N", 2]),
            value("label", TensorProto.INT32, ["N"]),
            value("mask", TensorProto.UINT8, ["N", height, width]),
            value("relevance", TensorProto.FLOAT, ["N", height, width]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if card is not None:
        helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    return model


def expected(frame: np.ndarray) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """Say with NumPy in float64 what the graph must answer: scores, label, mask, relevance."""
    relevance = frame.astype(np.float64).mean(2)
    logits = relevance.mean() * np.array(GAIN) + np.array(BIAS)
    scores = np.exp(logits - logits.max())
    return scores / scores.sum(), int(logits.argmax()), (relevance > LIMIT) * 255, relevance


def deciding_graph(card: ModelCard, channels: int = 3) -> onnx.ModelProto:
    """Build it with the threshold of the card's decision: a bright frame is stained if its score exceeds that."""
    assert card.decision is not None
    model = brightness_graph(card, channels, None)
    node, graph = helper.make_node, model.graph
    kept = [each for each in graph.node if not {"index", "label", "mask"} & set(each.output)]
    decided = [
        node("Gather", ["scores", "stain"], ["probability"], axis=1),
        node("Greater", ["probability", THRESHOLD], ["exceeds"]),
        node("Cast", ["exceeds"], ["label"], to=TensorProto.INT32),
        node("Unsqueeze", ["exceeds", "space"], ["defect"]),
        node("And", ["above", "defect"], ["inside"]),
        node("Where", ["inside", "full", "zero"], ["mask"]),
    ]
    del graph.node[:]
    graph.node.extend([*kept, *decided])
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "stain"))
    graph.initializer.append(numpy_helper.from_array(np.array(card.decision.threshold, np.float32), THRESHOLD))
    return model


def probability(frame: np.ndarray) -> float:
    """Say with NumPy in float64 what the graph must take for P(defect) of a frame."""
    return float(expected(frame)[0][1])


def mislabelling_graph(card: ModelCard, more: int) -> onnx.ModelProto:
    """Build one whose labels are so much more than they should be."""
    model = brightness_graph(card, 3, None)
    cast = next(node for node in model.graph.node if node.output[0] == "label")
    cast.input[0] = "wrong"
    model.graph.node.insert(list(model.graph.node).index(cast), helper.make_node("Add", ["index", "more"], ["wrong"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(more, np.int64), "more"))
    return model


def failing_graph(card: ModelCard) -> onnx.ModelProto:
    """Build one that takes frames of any number of channels and fails on those that have no third."""
    model = brightness_graph(card, 3, None)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "C"
    model.graph.node[0].output[0] = "all"
    model.graph.node.insert(1, helper.make_node("Gather", ["all", "third"], ["pixels"], axis=3))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "third"))
    return model


def misfits() -> dict[str, tuple[onnx.ModelProto, str]]:
    """Return graphs whose card is that of another, and what is wrong when they are opened."""
    three = brightness_card().replace(classes=("ok", "stain", "dent"))
    return {
        "channels": (
            brightness_graph(brightness_card("GRAY"), 3, None),
            "input 'image' has shape [?, ?, ?, 3]; its card says [?, ?, ?, 1]: export again",
        ),
        "size": (
            brightness_graph(brightness_card(size=(4, 6)), 3, (4, 5)),
            "input 'image' has shape [?, 4, 5, 3]; its card says [?, 4, 6, 3]: export again",
        ),
        "classes": (
            brightness_graph(three, 3, None),
            "output 'scores' has shape [?, 2]; its card says [?, 3]: export again",
        ),
    }
