"""Engine files of TensorRT-RTX and TensorRT, on the GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError, first_line, needs_extra
from lrp_edge.runtime.engines.base import OUTPUTS, Engine, Outputs, UInt8, check_tensors
from lrp_edge.runtime.engines.cuda import OUT_OF_MEMORY, Cuda, CudaError, load_cuda
from lrp_edge.runtime.engines.engine_file import PRODUCTS, EngineFile
from lrp_edge.runtime.engines.slots import Slot, Stages, buffer_sizes

_MIB = 2**20


class NativeEngine(Engine):
    """A compiled engine on the first GPU that CUDA shows (``CUDA_VISIBLE_DEVICES`` chooses).

    Parameters
    ----------
    path : path
        A file that ``lrp-edge compile`` wrote, with its card next to it.
    provider : {"rtx", "tensorrt"}, optional
        What runs it; the card says it too.
    in_flight : int
        Calls under way at once; each has its own stream, buffers and execution context.
    outputs : sequence of str
        The outputs to copy back, all of the contract's for :meth:`run`.

    Raises
    ------
    LrpEdgeError
        If the file is not what its card says; what runs it is not installed or of another version; no GPU answers, it
        is none that the engine is for, or has too little memory.
    """

    def __init__(
        self,
        path: Path,
        provider: str | None = None,
        *,
        in_flight: int = 2,
        outputs: tuple[str, ...] = tuple(OUTPUTS),
    ) -> None:
        self.path = path
        self._file = EngineFile.read(path)
        self.card, self.name = self._file.card, self._file.product
        self.provider, self.in_flight, self._outputs = self.name, in_flight, outputs
        if provider not in (None, self.name):
            raise LrpEdgeError(f"{path} is an engine for {self.name}, not for {provider}; leave out the provider")
        trt, self._cuda = load_product(self._file), load_cuda(self.name)
        check_gpu(self._cuda, self._file)
        with ExitStack() as owner:
            free = self._cuda.free_memory()[0]
            self._slots = self._load(trt, owner)
            self.device_bytes = max(0, free - self._cuda.free_memory()[0])
            self._owner = owner.pop_all()
        self._file = dataclasses.replace(self._file, data=b"")
        self._next = self._last = 0

    def _load(self, trt: Any, owner: ExitStack) -> list[Slot]:
        logger = _logger(trt)
        runtime = trt.Runtime(logger)
        # An engine that newer versions may load brings code for the host, and the file is the one that was built.
        runtime.engine_host_code_allowed = "--version-compatible" in self._file.options
        check_validity(trt, runtime, self._file)
        engine = runtime.deserialize_cuda_engine(self._file.data)
        if engine is None:
            raise LrpEdgeError(f"{self.path} cannot be loaded: {logger.last}; compile again: {self._file.rebuild()}")
        check_tensors(self.path, *_tensors(trt, engine, self._outputs))
        owner.callback(lambda kept: kept.clear(), [logger, runtime, engine])
        try:
            return [self._slot(trt, engine, owner) for _ in range(self.in_flight)]
        except CudaError as error:
            if error.code != OUT_OF_MEMORY:
                raise LrpEdgeError(f"{self.path}: {error}; check the NVIDIA driver") from error
            raise self._too_large(engine) from error

    def _slot(self, trt: Any, engine: Any, owner: ExitStack) -> Slot:
        context = new_context(trt, engine, self.card)
        if context is None:
            raise self._too_large(engine)
        # TensorRT-RTX records graphs itself, once the kernels of a shape are there; an If cannot be recorded.
        capture = self.name == "tensorrt" and not self.card.gate
        classes = len(self.card.classes)
        return Slot(self._cuda, context, self._largest(), classes, self._outputs, capture=capture, owner=owner)

    def _largest(self) -> tuple[int, ...]:
        return (*map(int, self.card.profile["max"]), self.card.input.channels)

    def _too_large(self, engine: Any) -> LrpEdgeError:
        buffers = sum(buffer_sizes(self._largest(), len(self.card.classes)).values())
        wanted = self.in_flight * (buffers + int(engine.device_memory_size_v2))
        free, total = self._cuda.free_memory()
        return LrpEdgeError(
            f"{self.path} wants {wanted // _MIB} MiB of GPU memory for {self.in_flight} calls of "
            f"frames {list(self._largest())}, and {free // _MIB} of {total // _MIB} MiB are free; compile "
            "with a smaller --batch or --largest, or free the GPU"
        )

    def run(self, frames: UInt8) -> Outputs:
        """See :meth:`Engine.run`."""
        return self.submit(frames)()

    def submit(self, frames: UInt8) -> Callable[[], Outputs]:
        """See :meth:`Engine.submit`; waits for the oldest call if all slots are taken."""
        collect = self.submit_raw(frames)
        return lambda: Outputs(*collect())

    def submit_raw(self, frames: UInt8) -> Callable[[], tuple[Any, ...]]:
        """Start a call as :meth:`submit` does; its outputs are those that the engine was opened for."""
        if not self._slots:
            raise LrpEdgeError(f"{self.path} is closed; open it again")
        self._file.check_frames(frames.shape)
        self._last, self._next = self._next, (self._next + 1) % len(self._slots)
        with self._named():
            pending = self._slots[self._last].start(frames)

        def collect() -> tuple[Any, ...]:
            with self._named():
                return pending.collect()

        return collect

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Put the file's name in front of an error."""
        try:
            yield
        except LrpEdgeError as error:
            raise LrpEdgeError(f"{self.path}: {error}") from error

    def stages(self) -> Stages:
        """Return the GPU's times of the call that was started last, once it has been answered."""
        return self._slots[self._last].stages()

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        self._slots = []
        self._owner.close()


def load_product(file: EngineFile) -> Any:
    """Import what runs an engine, in the version that it was built with: another one does not read it.

    Raises
    ------
    LrpEdgeError
        If it is not installed, cannot be loaded, or is of another version.
    """
    title, module = PRODUCTS[file.product]
    with needs_extra(file.product):
        try:
            trt = import_module(module)
        except ModuleNotFoundError:
            raise
        except (ImportError, OSError, RuntimeError) as error:
            raise LrpEdgeError(f"{title} cannot be loaded: {first_line(error)}; check the NVIDIA driver") from error
    if not file.runs_with(trt.__version__):
        built = file.card.engine["version"]
        raise LrpEdgeError(
            f"{file.path} was built with {title} {built}, and {trt.__version__} is installed; compile again with this "
            f"one: {file.rebuild()}, or install {built}"
        )
    return trt


def check_gpu(cuda: Cuda, file: EngineFile) -> None:
    """Make sure that a GPU answers, and that the engine was built for it.

    Raises
    ------
    LrpEdgeError
        If not.
    """
    try:
        count = int(cuda("cudaGetDeviceCount"))
        reason = f"cudaGetDeviceCount: {count}"
    except CudaError as error:
        count, reason = 0, str(error)
    if count == 0:
        model = file.card.engine.get("model", "model.onnx")
        raise LrpEdgeError(
            f"no NVIDIA GPU answers ({reason}); run the .onnx on the CPU: lrp-edge run {model} --provider cpu"
        )
    gpu = cuda.capability()
    if not file.runs_on(gpu):
        gpus = ", ".join(file.card.engine["gpus"])
        raise LrpEdgeError(
            f"{file.path} was built for {gpus}, and this GPU is {gpu}; compile again: {file.rebuild(gpu)}"
        )


_VALIDITY = {
    "VERSION_MISMATCH": "was built with another version of TensorRT-RTX",
    "UNSUPPORTED_CC": "was not built for this GPU",
    "OLD_CUDA_DRIVER": "needs a newer NVIDIA driver: update the driver",
    "OLD_CUDA_RUNTIME": "needs a newer CUDA runtime: update tensorrt-rtx",
    "INSUFFICIENT_GPU_MEMORY": "needs more GPU memory than is there: compile with a smaller --batch or --largest",
    "MALFORMED_ENGINE": "is not a TensorRT-RTX engine",
    "CUDA_ERROR": "could not be checked, since CUDA failed: check the NVIDIA driver",
}


def check_validity(trt: Any, runtime: Any, file: EngineFile) -> None:
    """Ask TensorRT-RTX whether it can run an engine here, by the engine's header; TensorRT has no such question.

    Raises
    ------
    LrpEdgeError
        With the reasons, if it cannot.
    """
    if not hasattr(runtime, "get_engine_validity"):
        return
    verdict, diagnostics = runtime.get_engine_validity(file.data[: runtime.engine_header_size])
    if verdict != trt.EngineValidity.INVALID:
        return
    bits = {name: int(value) for name, value in trt.EngineInvalidityDiagnostics.__members__.items()}
    found = [name for name, bit in bits.items() if int(diagnostics) & bit]
    reasons = "; it ".join(_VALIDITY.get(name, name) for name in found) or "cannot be run here, for no stated reason"
    raise LrpEdgeError(f"{file.path} {reasons}; or compile again: {file.rebuild()}")


def new_context(trt: Any, engine: Any, card: ModelCard) -> Any:
    """Make an execution context; None if there is not the memory for it.

    TensorRT-RTX compiles its kernels on the device. For frames of one size it is to do so before the first answer, and
    to record CUDA graphs; for frames of any size it uses kernels that take all of them. Its own default, to compile
    while it answers with others, would change the answers' last bits under way.
    """
    if card.engine["product"] != "rtx":
        return engine.create_execution_context()
    config, kernels = engine.create_runtime_config(), trt.DynamicShapesKernelSpecializationStrategy
    fixed = card.profile["min"][1:] == card.profile["max"][1:]
    config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER if fixed else kernels.NONE
    graphs = trt.CudaGraphStrategy
    config.cuda_graph_strategy = graphs.DISABLED if card.gate else graphs.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config)


def _tensors(trt: Any, engine: Any, outputs: tuple[str, ...]) -> list[dict[str, str]]:
    """Return name and type of an engine's inputs and outputs; those that are not to be read pass unchecked."""
    types: dict[Any, dict[str, str]] = {trt.TensorIOMode.INPUT: {}, trt.TensorIOMode.OUTPUT: {}}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        types[engine.get_tensor_mode(name)][name] = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
    unread = {name: kind for name, kind in OUTPUTS.items() if name not in outputs}
    return [types[trt.TensorIOMode.INPUT], {**types[trt.TensorIOMode.OUTPUT], **unread}]


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps the last error for the exception, and the chatter off the terminal."""

        def __init__(self) -> None:
            super().__init__()
            self.last = "it gives no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.last = " ".join(message.split())

    return Logger()
