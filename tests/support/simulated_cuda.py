"""A simulated GPU: CUDA's memory, streams and graphs, and TensorRT's runtime, in NumPy, run late.

Work that is put on a stream is done when the stream is waited for, as on a GPU, so an engine that reads too early or
gives a buffer away too soon answers wrongly here too. Everything allocated is counted.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lrp_edge.runtime.engines import native
from lrp_edge.runtime.engines.cuda import Cuda
from lrp_edge.runtime.engines.native import NativeEngine
from tests.support.runtime_graphs import brightness_card, expected

TYPES = {"image": np.uint8, "scores": np.float32, "label": np.int32, "mask": np.uint8, "relevance": np.float32}
OK, OUT_OF_MEMORY, CAPTURE_FAILED, NO_DEVICE = 0, 2, 901, 100
NAMES = {2: b"cudaErrorMemoryAllocation", 901: b"cudaErrorStreamCaptureInvalidated", 100: b"cudaErrorNoDevice"}


class SimulatedCudart:
    """As much of CUDA's runtime as is used, one call after the other on the CPU."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out")  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="local")  # noqa: N815
    cudaDeviceAttr = SimpleNamespace(  # noqa: N815
        cudaDevAttrComputeCapabilityMajor=0, cudaDevAttrComputeCapabilityMinor=1
    )

    def __init__(self) -> None:
        self.live: dict[int, Any] = {}
        self.queues: dict[int, list[Callable[[], None]]] = {}
        self.recording: dict[int, list[Callable[[], None]] | None] = {}
        self.handles = itertools.count(1)
        self.calls: list[str] = []
        self.fail: dict[str, tuple[int, int]] = {}  # call: (how many go well before, code)
        self.devices, self.capability = 1, (8, 6)
        self.mask_shape: tuple[int, ...] | None = None  # that TensorRT says it gives, before a call

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(value) or name.startswith("cudaGetError"):
            return value
        self.calls.append(name)
        left, code = self.fail.get(name, (0, OK))
        if name in self.fail:
            self.fail[name] = (left - 1, code)
        return value if left > 0 or code == OK else lambda *arguments: (code, None)

    def new(self, thing: Any) -> tuple[int, int]:
        handle = next(self.handles)
        self.live[handle] = thing
        return OK, handle

    def allocate(self, size: int) -> tuple[int, int]:
        block = (ctypes.c_uint8 * size)(*itertools.repeat(0xAA, size))
        self.live[ctypes.addressof(block)] = block
        return OK, ctypes.addressof(block)

    def release(self, handle: int) -> tuple[int]:
        del self.live[handle]
        return (OK,)

    cudaMalloc = cudaMallocHost = allocate  # noqa: N815
    cudaFree = cudaFreeHost = cudaEventDestroy = cudaGraphDestroy = cudaGraphExecDestroy = release  # noqa: N815

    def put(self, stream: int, work: Callable[[], None]) -> None:
        recorded = self.recording.get(stream)
        (self.queues[stream] if recorded is None else recorded).append(work)

    def cudaGetErrorName(self, code: int) -> tuple[int, bytes]:  # noqa: N802
        return OK, NAMES[code]

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:  # noqa: N802
        return OK, b"in words"

    def cudaGetLastError(self) -> tuple[int]:  # noqa: N802
        return (OK,)

    def cudaGetDeviceCount(self) -> tuple[int, int]:  # noqa: N802
        return OK, self.devices

    def cudaDeviceGetAttribute(self, attribute: int, device: int) -> tuple[int, int]:  # noqa: N802
        return OK, self.capability[attribute]

    def cudaMemGetInfo(self) -> tuple[int, int, int]:  # noqa: N802
        return OK, 2**30 - sum(ctypes.sizeof(block) for block in self.live.values() if block is not None), 2**31

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:  # noqa: N802
        assert flags == 1
        code, handle = self.new(None)
        self.queues[handle] = []
        return code, handle

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:  # noqa: N802
        assert not self.queues.pop(stream) or "cudaStreamSynchronize" in self.fail
        return self.release(stream)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        for work in self.queues[stream]:
            work()
        self.queues[stream].clear()
        return (OK,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: str, stream: int) -> tuple[int]:  # noqa: N802
        assert {target, source} <= set(self.live)
        assert size <= min(ctypes.sizeof(self.live[target]), ctypes.sizeof(self.live[source]))
        self.put(stream, lambda: ctypes.memmove(target, source, size) and None)
        return (OK,)

    def cudaEventCreate(self) -> tuple[int, int]:  # noqa: N802
        return self.new(None)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[int]:  # noqa: N802
        assert event in self.live
        assert stream in self.live
        return (OK,)

    def cudaEventElapsedTime(self, first: int, last: int) -> tuple[int, float]:  # noqa: N802
        assert first < last
        return OK, 0.25 * (last - first)

    def cudaStreamBeginCapture(self, stream: int, mode: str) -> tuple[int]:  # noqa: N802
        self.recording[stream] = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, int | None]:  # noqa: N802
        works = self.recording.pop(stream)
        return (CAPTURE_FAILED, None) if works is None else self.new(self.play(works))

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int, int]:  # noqa: N802
        return self.new(self.play(self.live[graph].works))

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[int]:  # noqa: N802
        self.queues[stream].extend(self.live[graph].works)
        return (OK,)

    @staticmethod
    def play(works: list[Callable[[], None]]) -> Any:
        block = (ctypes.c_uint8 * 0)()
        block.works = list(works)
        return block


class SimulatedContext:
    """Runs the brightness graph on addresses."""

    def __init__(self, cuda: SimulatedCudart, config: Any, capturable: bool) -> None:
        self.cuda, self.config, self.capturable = cuda, config, capturable
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in TYPES

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = tuple(shape)
        return name == "image"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name == "mask" and self.cuda.mask_shape is not None:
            return self.cuda.mask_shape
        return self.own_shape(name)

    def own_shape(self, name: str) -> tuple[int, ...]:
        return {"scores": (self.shape[0], 2), "label": self.shape[:1]}.get(name, self.shape[:3])

    def execute_async_v3(self, stream: int) -> bool:
        if stream in self.cuda.recording and not self.capturable:
            self.cuda.recording[stream] = None
            return False
        self.cuda.put(stream, lambda shape=self.shape: self.infer(shape))  # type: ignore[misc]
        return True

    def infer(self, shape: tuple[int, ...]) -> None:
        frames = self.array("image", shape)
        for index, frame in enumerate(frames):
            answer = dict(zip(("scores", "label", "mask", "relevance"), expected(frame), strict=True))
            for name in self.addresses.keys() & answer.keys():
                self.array(name, self.own_shape(name))[index] = answer[name]

    def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape)) * np.dtype(TYPES[name]).itemsize
        block = (ctypes.c_uint8 * count).from_address(self.addresses[name])
        return np.frombuffer(block, TYPES[name]).reshape(shape)


class SimulatedTrt:
    """The module ``tensorrt`` or ``tensorrt_rtx``."""

    class TensorIOMode(enum.Enum):
        INPUT, OUTPUT = 1, 2

    class CudaGraphStrategy(enum.Enum):
        DISABLED, WHOLE_GRAPH_CAPTURE = 0, 1

    class DynamicShapesKernelSpecializationStrategy(enum.Enum):
        LAZY, EAGER, NONE = 0, 1, 2

    class ILogger:
        Severity = SimpleNamespace(ERROR=1)

    def __init__(self, cuda: SimulatedCudart) -> None:
        self.cuda, self.contexts, self.memory = cuda, [], 3 * 2**20
        self.capturable, self.most_contexts, self.loads, self.types = True, 9, True, dict(TYPES)

    @staticmethod
    def nptype(kind: Any) -> Any:
        return kind

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        def load(data: bytes) -> Any:
            logger.log(1, "it is\nnot an engine")
            return self.engine() if self.loads else None

        return SimpleNamespace(deserialize_cuda_engine=load)

    def engine(self) -> Any:
        names = list(self.types)
        modes = self.TensorIOMode
        return SimpleNamespace(
            num_io_tensors=len(names),
            get_tensor_name=names.__getitem__,
            get_tensor_mode=lambda name: modes.INPUT if name == "image" else modes.OUTPUT,
            get_tensor_dtype=self.types.__getitem__,
            device_memory_size_v2=self.memory,
            create_runtime_config=SimpleNamespace,
            create_execution_context=self.context,
        )

    def context(self, config: Any = None) -> Any:
        if len(self.contexts) == self.most_contexts:
            return None
        self.contexts.append(SimulatedContext(self.cuda, config, self.capturable))
        return self.contexts[-1]


LARGEST = (3, 12, 10)


class Gpu:
    """A simulated GPU, and engines on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.api = folder, SimulatedCudart()
        self.trt = SimulatedTrt(self.api)
        monkeypatch.setattr(native, "load_product", lambda file: self.trt)
        monkeypatch.setattr(native, "load_cuda", lambda extra: Cuda(self.api))

    def write(self, product: str = "tensorrt", gate: bool = False, smallest: tuple[int, ...] = (1, 2, 2)) -> Path:
        path = self.folder / f"model.{product}.engine"
        path.write_bytes(b"engine")
        facts = {"product": product, "version": "1", "gpus": ["sm86"], "model": "model.onnx", "options": []}
        card = brightness_card(max_batch=8).replace(
            gate=gate,
            engine={**facts, "engine_sha256": hashlib.sha256(b"engine").hexdigest()},
            profile={"min": smallest, "opt": smallest, "max": LARGEST},
        )
        path.with_suffix(".json").write_text(card.to_json())
        return path

    def open(self, product: str = "tensorrt", in_flight: int = 2, gate: bool = False) -> NativeEngine:
        return NativeEngine(self.write(product, gate), in_flight=in_flight)
