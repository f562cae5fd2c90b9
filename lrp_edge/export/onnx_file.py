"""Unrolled module → one ONNX file with the model card inside."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lrp_edge.card import METADATA_KEY, THRESHOLD, ModelCard
from lrp_edge.decision import with_decision
from lrp_edge.errors import LrpEdgeError, first_line, needs_extra
from lrp_edge.export.deployable import OUTPUTS, Deployable
from lrp_edge.export.graph import name_places
from lrp_edge.export.options import ExportOptions
from lrp_edge.export.origin import load_model, relative_to
from lrp_edge.export.passes.constants import fold_constants, separate_orientations
from lrp_edge.export.passes.gate import gate
from lrp_edge.export.passes.precision import to_half
from lrp_edge.export.passes.quantise import quantise
from lrp_edge.export.passes.weights import share_weights
from lrp_edge.export.verify.parity import SOUND, Frames, Parity, TorchSession, compare, random_frames, run_frames
from lrp_edge.export.verify.typed_evaluator import open_reference
from lrp_edge.files import claim_folder, whole_pair
from lrp_edge.options import accepted
from lrp_edge.relevance.composites import Composite
from lrp_edge.relevance.masks import calibrate
from lrp_edge.relevance.receptive_field import receptive_field

with needs_extra("export"):
    import numpy as np
    import onnx
    import torch
    from onnx import numpy_helper
    from torch import Tensor, nn
    from torch.export import Dim

#: Products in bfloat16 came with opset 22, Q/DQ pairs in half precision with 21.
OPSETS = {"fp32": 18, "fp16": 18, "bf16": 22, "int8": 21}
_ADVICE = {
    "fp16": "float16 ends at 65504, try --precision bf16",
    "bf16": "bfloat16 has eight bits, try --precision fp32",
    "int8": "try other --frames, or --precision fp16",
}
#: What a calibrated threshold is multiplied by: it is some pixel's own value, which other arithmetic must not exceed.
RAISED = 1.0001
_AXES = {"image": "NHW", "scores": "N", "label": "N", "mask": "NHW", "relevance": "NHW"}


def to_onnx(
    model: str | Path | nn.Module,
    output: str | Path,
    *,
    card: ModelCard | None = None,
    weights: str | Path | None = None,
    origin: Mapping[str, Any] | None = None,
    composite: Composite | None = None,
    frames: Frames = (),
    calibration: Frames = (),
    false_alarm_rate: float = ExportOptions.false_alarm_rate,
    name: str = ExportOptions.name,
    false_alarms: float | None = None,
) -> Path:
    """Export a classifier as one ONNX file that answers with class, scores, mask and relevance.

    The card says in which precision (int8 leaves what it would degrade in float16), and whether relevance is computed
    for defects only. The file is run on random and on the given frames, in float32 by ONNX Runtime, else node by node
    in its own types, and compared with PyTorch in float64; the differences are stored in the card. Where they are
    those of a broken file nothing is left.

    Parameters
    ----------
    model : path, str or nn.Module
        A checkpoint of this toolkit, ``"module:factory"``, or a module that takes a float image [N, C, H, W] and
        returns logits [N, K].
    output : path
        Folder for ``<name>.onnx`` and ``<name>.json``; created if it does not exist.
    card : ModelCard, optional
        Classes, input, composite, explained class and mask head; by default the checkpoint's.
    weights : path, optional
        Weights for a module that is not a checkpoint.
    origin : mapping, optional
        Where a module in memory was loaded from, as :func:`~lrp_edge.export.origin.load_model` returns it; without
        it a checkpoint's weights would be taken for those of a module that nothing can be compared with.
    composite : Composite, optional
        A custom composite in place of the card's preset.
    frames : sequence of uint8 arrays [H, W, C]
        Real frames to verify the file on, in the card's channel order; int8 is calibrated on them.
    calibration : sequence of uint8 arrays [H, W, C]
        Defect-free frames, from which the mask head ``"calibrated"`` finds its threshold.
    false_alarm_rate : float
        Share of the defect-free frames that may exceed that threshold.
    name : str
        Name of the files.
    false_alarms : float, optional
        The former name of `false_alarm_rate`.

    Returns
    -------
    Path
        The ONNX file.

    Raises
    ------
    LrpEdgeError
        If the model cannot be loaded, captured, unrolled or exported, the folder cannot be written, or the file
        does not agree with PyTorch.
    """
    rate = false_alarm_rate if false_alarms is None else false_alarms
    rate = accepted(ExportOptions, false_alarm_rate=rate, name=name)["false_alarm_rate"]
    output = Path(output)
    claim_folder(output)
    network, own_card, loaded = load_model(model, weights, len(card.classes) if card else None)
    card = card or own_card
    if card is None:
        raise LrpEdgeError("this model has no card: give its classes and input with card=ModelCard(...)")
    card = with_decision(card)
    if composite is not None:
        card = card.replace(composite=composite.name, composite_parameters={})
    size = card.input.size or card.input.resize or (224, 224)
    card = _calibrated(network, card, size, composite, calibration, rate)
    card = card.replace(provenance={**card.provenance, **relative_to(origin or loaded, output), **_environment()})
    deployable = Deployable(network, card, size, composite, any_size=card.input.size is None).eval()
    _check_classes(deployable, card)
    card = deployable.card.replace(receptive_field=receptive_field(deployable.unrolled))
    proto, card = with_precision(_export(deployable, card, size), card, frames)
    proto = share_weights(proto)
    if card.gate:
        proto = gate(proto, card)
    return _write(proto, deployable, card, output, name, [*_noise(card, size), *frames])


def with_precision(proto: onnx.ModelProto, card: ModelCard, frames: Frames) -> tuple[onnx.ModelProto, ModelCard]:
    """Bring a flat graph in float32 to the card's precision.

    Parameters
    ----------
    proto : onnx.ModelProto
        A flat graph, of the opset that :data:`OPSETS` asks for.
    card : ModelCard
        Says the precision.
    frames : sequence of uint8 arrays [H, W, C]
        What int8 is calibrated on.

    Returns
    -------
    proto : onnx.ModelProto
    card : ModelCard
        With what int8 was found to do.

    Raises
    ------
    LrpEdgeError
        If int8 is asked for without frames.
    """
    if card.precision == "int8":
        quantised = quantise(proto, frames)
        card = card.replace(provenance={**card.provenance, "int8": quantised.summary()})
        return to_half(quantised.proto, "fp16"), card
    return (proto if card.precision == "fp32" else to_half(proto, card.precision)), card


def _noise(card: ModelCard, size: tuple[int, int]) -> list[Any]:
    """Return random frames to verify with, also of another size if any size is supported; int8 uses real ones only."""
    if card.precision == "int8":
        return []
    frames = random_frames(size, card.input.channels, 3)
    if card.input.size is None:
        frames += random_frames((size[0] * 3 // 4, size[1] * 5 // 4), card.input.channels, 1)
    return frames


def _check_classes(deployable: Deployable, card: ModelCard) -> None:
    outputs = deployable.unrolled.classes
    if outputs != len(card.classes):
        raise LrpEdgeError(
            f"the model has {outputs} outputs, but {len(card.classes)} classes are named ({', '.join(card.classes)})"
        )


def _environment() -> dict[str, Any]:
    packages = {package: version(package) for package in ("lrp-edge", "torch", "onnx", "onnxscript", "onnxruntime")}
    return {
        "packages": packages,
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _calibrated(
    network: nn.Module,
    card: ModelCard,
    size: tuple[int, int],
    composite: Composite | None,
    frames: Frames,
    rate: float,
) -> ModelCard:
    """Find the threshold of the mask head ``calibrated``, where it is not given."""
    if card.mask.method != "calibrated" or "threshold" in card.mask.parameters:
        return card
    if not len(frames):
        raise LrpEdgeError("mask head calibrated needs defect-free frames, or a threshold")
    # A defect-free frame is explained for the defect that it is nearest to: its own class would say nothing. Where that
    # defect's logit is negative, rules that keep signs leave nothing positive; the evidence for defects is always so.
    usual = "defect" if card.explained == "predicted" else card.explained
    parameters = {**card.mask.parameters, "threshold": 0.0}
    without = card.replace(mask=dataclasses.replace(card.mask, parameters=parameters))
    for explained in dict.fromkeys((usual, "evidence")):
        deployable = Deployable(network, without, size, composite, explained=explained).eval()
        threshold = RAISED * calibrate(_maxima(deployable, frames), rate)
        if threshold > 0:
            found = f"from {len(frames)} defect-free frames, {rate:.1%} of them above it"
            parameters["threshold"] = threshold
            return card.replace(mask=dataclasses.replace(card.mask, parameters=parameters, found=found))
    raise LrpEdgeError(
        f"the {len(frames)} defect-free frames have no relevance that speaks for a defect, so that no threshold can be "
        "set on them; choose another mask head, e.g. --mask otsu"
    )


@torch.no_grad()
def _maxima(deployable: Deployable, frames: Frames) -> Tensor:
    """Return of each frame the greatest value that the mask head compares with its threshold."""
    head, maxima = deployable.head, []
    for frame in frames:
        batch = torch.from_numpy(frame[None])
        maxima.append(head.widen(head.smooth(deployable.explain(batch)[1], deployable.guide(batch))).amax())
    return torch.stack(maxima)


def _export(deployable: Deployable, card: ModelCard, size: tuple[int, int]) -> onnx.ModelProto:
    spec = card.input
    frames = torch.zeros(min(2, spec.max_batch), *size, spec.channels, dtype=torch.uint8)
    dynamic: dict[int, Any] = {0: Dim("N", min=1, max=spec.max_batch)} if spec.max_batch > 1 else {}
    if spec.size is None:
        dynamic |= {1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    try:
        with _quiet(), torch.no_grad(), _apart(deployable):
            program = torch.onnx.export(
                deployable,
                (frames,),
                dynamo=True,
                dynamic_shapes=(dynamic,),
                opset_version=OPSETS[card.precision],
                input_names=["image"],
                output_names=list(OUTPUTS),
                verbose=False,
            )
    except LrpEdgeError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, LrpEdgeError):
            cause = cause.__cause__
        hint = "; a model that fixes its input size needs --size HxW" if spec.size is None else ""
        raise LrpEdgeError(f"cannot export to ONNX: {first_line(cause)}{hint}") from error
    assert program is not None
    return separate_orientations(fold_constants(_tidy(program.model_proto, deployable)))


@contextlib.contextmanager
def _apart(deployable: Deployable) -> Iterator[None]:
    """Make the threshold unlike any other constant meanwhile: the exporter merges those of equal value."""
    thresholds = [each for name, each in deployable.named_buffers() if name == THRESHOLD]
    values = [threshold.clone() for threshold in thresholds]
    try:
        for threshold in thresholds:
            threshold.fill_(float("nan"))
        yield
    finally:
        for threshold, value in zip(thresholds, values, strict=True):
            threshold.copy_(value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and warnings off the user's terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _tidy(proto: onnx.ModelProto, deployable: Deployable) -> onnx.ModelProto:
    """Name axes and places as the contract does, and drop the exporter's notes, which hold paths of this machine."""
    name_places(proto.graph, deployable.unrolled.places)
    for part in (*proto.graph.input, *proto.graph.output, proto, proto.graph):
        part.ClearField("metadata_props")
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dimension in zip(_AXES[value.name], value.type.tensor_type.shape.dim, strict=False):
            if dimension.HasField("dim_param"):
                dimension.dim_param = axis
    for constant in proto.graph.initializer:
        if constant.name == THRESHOLD and (decision := deployable.card.decision):
            constant.CopyFrom(numpy_helper.from_array(np.array(decision.threshold, np.float32), THRESHOLD))
    proto.producer_name = "lrp-edge"
    proto.producer_version = version("lrp-edge")
    return proto


def with_card(proto: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """Put the card into a graph's metadata; returns the graph."""
    proto.ClearField("metadata_props")
    onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    return proto


def _write(
    proto: onnx.ModelProto,
    deployable: Deployable,
    card: ModelCard,
    output: Path,
    name: str,
    frames: Sequence[Any],
) -> Path:
    """Verify, and only then write."""
    file = output / f"{name}.onnx"
    parity = _measure(proto, deployable, card, frames)
    parity.check(file.name, SOUND[card.precision], _ADVICE.get(card.precision, ""))
    threshold = {"threshold": card.decision.threshold} if card.decision else {}
    card = card.replace(parity=parity.as_dict() | threshold)
    with whole_pair(file, file.with_suffix(".json")) as (draft, side):
        onnx.save(with_card(proto, card), draft)
        side.write_text(card.to_json(indent=2) + "\n", encoding="utf-8")
    return file


def _measure(proto: onnx.ModelProto, deployable: Deployable, card: ModelCard, frames: Sequence[Any]) -> Parity:
    """Compare a graph with PyTorch in float64."""
    expected = run_frames(TorchSession(deployable), frames)
    explained = [not card.gate or int(answer[1]) in card.defect_indices for answer in expected]
    return compare(run_frames(open_reference(proto, card.precision), frames), expected, explained)
