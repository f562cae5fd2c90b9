"""ONNX files in OpenVINO, without ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lrp_edge.card import METADATA_KEY, ModelCard
from lrp_edge.errors import LrpEdgeError, first_line, needs_extra
from lrp_edge.runtime.engines.base import OUTPUTS, Engine, Float32, Outputs, UInt8, check_shapes, check_tensors
from lrp_edge.runtime.onnx_check import check_file

with needs_extra("openvino"):
    import openvino

#: The one core of this process, never released. Each core's CPU plugin replaces the previous signal stack with its
#: own, and frees it when the core is destroyed: if an older core goes first, the younger one restores the freed stack,
#: and the next signal, be it a Ctrl-C, is a segmentation fault.
CORE = openvino.Core()
# The precision is what the ONNX types say: left to itself, OpenVINO computes in bfloat16 where the CPU has it.
_CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY", "PERFORMANCE_HINT": "LATENCY"}


class OpenVinoEngine(Engine):
    """One compiled model of OpenVINO on the CPU, in the precision that the graph is written in.

    Parameters
    ----------
    path : path
        A file that ``lrp-edge export`` wrote.
    threads : int, optional
        Threads of one call; by default as many as there are cores.

    Raises
    ------
    LrpEdgeError
        If there is no such file, OpenVINO cannot take it, or it has no model card or other tensors than the contract's.
    """

    name = "openvino-cpu"
    provider = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        model = _read(path)
        try:
            self.card = _read_card(model, path)
            types = _types(model.inputs), _types(model.outputs)
        except UnicodeDecodeError as error:
            raise LrpEdgeError(f"{path} is damaged: it has text that is not UTF-8; copy or export it again") from error
        check_tensors(path, *types)
        check_shapes(path, self.card, _shape(model.input("image")), _shape(model.output("scores")))
        self._model: Any = _compile(model, path, threads)

    def run(self, frames: UInt8) -> Outputs:
        """See :meth:`Engine.run`."""
        if self._model is None:
            raise LrpEdgeError(f"{self.path} is closed; open it again")
        return Outputs(*_call(self._model, list(OUTPUTS), frames, self.path))

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        self._model = None


def open_scores(path: Path, threads: int | None = None) -> Callable[[UInt8], Float32]:
    """Open a graph and leave out all that ``scores`` does not need."""
    model = _read(path)
    compiled = _compile(openvino.Model([model.output("scores")], model.get_parameters()), path, threads)

    def scores(frames: UInt8) -> Float32:
        answer: Float32 = _call(compiled, ["scores"], frames, path)[0]
        return answer

    return scores


def _read(path: Path) -> Any:
    check_file(path)
    try:
        return CORE.read_model(path)
    except Exception as error:  # OpenVINO raises RuntimeError for all
        raise LrpEdgeError(f"{path} is not an ONNX file that can be run: {first_line(error)}") from error


def _compile(model: Any, path: Path, threads: int | None) -> Any:
    config = {**_CONFIG, **({} if threads is None else {"INFERENCE_NUM_THREADS": threads})}
    try:
        return CORE.compile_model(model, "CPU", config)
    except Exception as error:
        raise LrpEdgeError(f"{path} cannot be compiled by OpenVINO: {first_line(error)}") from error


def _call(compiled: Any, names: list[str], frames: UInt8, path: Path) -> list[Any]:
    try:
        found = compiled({"image": np.ascontiguousarray(frames)}, share_inputs=True)
        return [found[compiled.output(name)] for name in names]
    except Exception as error:
        raise LrpEdgeError(f"{path} failed on frames {list(frames.shape)}: {first_line(error)}") from error


def _types(ports: Any) -> dict[str, str]:
    return {name: str(port.get_element_type().to_dtype()) for port in ports for name in port.names}


def _shape(port: Any) -> list[Any]:
    shape = port.get_partial_shape()
    # Where even the number of axes is open, the file says nothing.
    return [] if shape.rank.is_dynamic else [None if each.is_dynamic else each.get_length() for each in shape]


def _read_card(model: Any, path: Path) -> ModelCard:
    """Read the card from the file's metadata; a version of OpenVINO that drops them needs the card next to it."""
    key, side = ["framework", METADATA_KEY], path.with_suffix(".json")
    if model.has_rt_info(key):
        return ModelCard.from_json(model.get_rt_info(key).astype(str), str(path))
    if side.is_file():
        return ModelCard.read(side)
    raise LrpEdgeError(
        f"{path} has no model card, nor is there {side.name}; expected a file that lrp-edge export wrote"
    )
