"""A network's files: whether they agree with PyTorch in float64, build for GPUs, and what a frame costs."""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec
from lrp_edge.errors import first_line
from lrp_edge.export import to_engine, to_onnx
from lrp_edge.export.deployable import Deployable
from lrp_edge.export.graph import cut
from lrp_edge.export.inspect import inspect
from lrp_edge.export.onnx_file import OPSETS, with_card, with_precision
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify.parity import TorchSession, compare, random_frames, run_frames
from lrp_edge.export.verify.references import EngineSession
from lrp_edge.runtime.engines import open_engine
from tools.families.catalogue import Subject

ROUNDS, WARM_UP = 12, 2
#: Another size of frames, as shares of the exported one: what an export of any size is verified on besides.
OTHER = (3 / 4, 5 / 4)


class Deployed:
    """A network that is exported once for all that is measured of its file.

    Parameters
    ----------
    subject : Subject
        Builds the network.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._folder = tempfile.TemporaryDirectory()

    @property
    def folder(self) -> Path:
        """Where files are, for as long as this is."""
        return Path(self._folder.name)

    @cached_property
    def model(self) -> nn.Module:
        """The network, in float32."""
        return self.subject.build()

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def size(self) -> tuple[int, int]:
        return self.subject.large, self.subject.large

    @property
    def card(self) -> ModelCard:
        names = ("ok", *(f"defect {i}" for i in range(1, max(2, self.subject.classes))))
        spec = InputSpec("RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size=self.size, max_batch=1)
        return ModelCard(names, names[1:], spec, logits=self.subject.logits)

    @cached_property
    def file(self) -> Path:
        """The exported file: float32, frames of one size."""
        return to_onnx(self.model, self.folder, card=self.card)

    @cached_property
    def half(self) -> Path:
        """The same in float16."""
        proto, card = load_proto(self.file)
        proto.opset_import[0].version = OPSETS["fp16"]
        proto, card = with_precision(proto, card.replace(precision="fp16"), [])
        path = self.folder / "half.onnx"
        onnx.save(with_card(proto, card), path)
        return path


def exported(deployed: Deployed) -> dict[str, Any]:
    """Export, and compare ONNX Runtime's float32 with PyTorch in float64; count arithmetic and bytes."""
    start = perf_counter()
    file = deployed.file
    seconds = perf_counter() - start
    found = inspect(file)
    return {
        "side": deployed.subject.large,
        "composite": found.card.composite,
        "relevance_max": found.card.parity["relevance_max"],
        "scores_max": found.card.parity["scores_max"],
        "classifier_macs": found.forward.macs,
        "relevance_macs": found.relevance.macs,
        "bytes": file.stat().st_size,
        "weight_bytes": 4 * deployed.parameters,
        "export_seconds": seconds,
    }


def openvino(deployed: Deployed) -> dict[str, Any]:
    """Compare OpenVINO's float32 with PyTorch in float64."""
    frames = random_frames(deployed.size, 3, 3)
    with open_engine(deployed.file, "openvino", threads=1) as engine:
        found = run_frames(EngineSession(engine), frames)
        # The file's own card: it has the decision, by which the explained class is chosen.
        reference = Deployable(deployed.model, engine.card, deployed.size, any_size=False).eval()
    parity = compare(found, run_frames(TorchSession(reference), frames))
    return {"relevance_max": parity.relevance_max, "scores_max": parity.scores_max}


def dynamic(deployed: Deployed) -> dict[str, Any]:
    """Export for frames of any size; agreement is that at the worse of two sizes."""
    height, width = (int(side * share) for side, share in zip(deployed.size, OTHER, strict=True))
    try:
        with torch.no_grad():
            deployed.model(torch.zeros(1, 3, height, width))
    except Exception as error:  # of any library
        return {"fixed_by_network": first_line(error)}
    card = deployed.card
    card = card.replace(input=replace(card.input, size=None))
    file = to_onnx(deployed.model, deployed.folder / "dynamic", card=card)
    return {"size": [height, width], "relevance_max": load_proto(file)[1].parity["relevance_max"]}


def cost(deployed: Deployed) -> dict[str, Any]:
    """Time the classifier alone, and class and mask, in turns: CPU time of the one thread, medians in milliseconds."""
    proto, _ = load_proto(deployed.file)
    alone = cut(proto, {"scores": onnx.TensorProto.FLOAT, "label": onnx.TensorProto.INT32})
    sessions = {"classifier": _session(alone), "both": _session(proto)}
    frame = np.random.default_rng(0).integers(0, 256, (1, *deployed.size, 3), dtype=np.uint8)
    calls = {name: functools.partial(session.run, None, {"image": frame}) for name, session in sessions.items()}
    return {"rounds": ROUNDS, **_in_turns(calls)}


def _session(proto: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _in_turns(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + WARM_UP):
        for name, call in calls.items():
            # What else the machine does takes no CPU time of this thread.
            start = time.thread_time()
            call()
            times[name].append(time.thread_time() - start)
    return {f"{name}_ms": 1e3 * statistics.median(values[WARM_UP:]) for name, values in times.items()}


def build(deployed: Deployed, precision: str, gpu: str) -> dict[str, Any]:
    """Build an engine of TensorRT-RTX, which needs no GPU."""
    model = deployed.file if precision == "fp32" else deployed.half
    start = perf_counter()
    engine = to_engine(model, deployed.folder, gpus=[gpu], cache=False)
    return {"mb": engine.stat().st_size / 1e6, "build_seconds": perf_counter() - start}
