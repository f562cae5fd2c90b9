"""The build itself: ONNX → serialized engine, with TensorRT's parser and builder."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.graph import describe
from lrp_edge.export.tensorrt.request import Request
from lrp_edge.export.tensorrt.target import no_gpu

if TYPE_CHECKING:
    import onnx

#: Called with the name of a phase, the steps done and all steps; from any thread.
Progress = Callable[[str, int, int], None]

_CONTRACT = {
    "image": ("input", "UINT8", 4),
    "scores": ("output", "FLOAT", 2),
    "label": ("output", "INT32", 1),
    "mask": ("output", "UINT8", 3),
    "relevance": ("output", "FLOAT", 3),
}
_NO_MEMORY = re.compile(r"bad_alloc|out ?of ?memory|could not be allocated|workspace (limit|memory)", re.IGNORECASE)


def build(request: Request, progress: Progress, timing: bytes | None = None) -> tuple[bytes, bytes | None]:
    """Build an engine.

    Parameters
    ----------
    request : Request
        What to build.
    progress : callable
        Told of each phase and step.
    timing : bytes, optional
        What earlier builds measured, possibly nothing; None for a product that measures nothing.

    Returns
    -------
    engine : bytes
    timing : bytes or None
        What is measured now.

    Raises
    ------
    LrpEdgeError
        If there is no GPU where one is needed, the graph is not the contract's, or the builder refuses it.
    KeyboardInterrupt
        If the user stops the build, once the builder has stopped.
    """
    for form in _forms(_suited(request)):
        logger = _logger(request.target.trt)
        engine, measured = _attempt(form, logger, progress, timing)
        if engine is not None:
            return engine, measured
        if _NO_MEMORY.search(logger.reason()):
            break
    raise _refusal(request, logger)


def _attempt(
    request: Request, logger: Any, progress: Progress, timing: bytes | None
) -> tuple[bytes | None, bytes | None]:
    """Build one form of a graph; None if the builder refuses it, with the reason in the logger."""
    trt = request.target.trt
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as error:
        raise no_gpu(logger.reason() or str(error)) from error
    network = builder.create_network(_flags(trt))
    _parse(request, network, logger)
    _check_contract(request, network)
    config = _config(request, builder)
    cache = _use_timing(config, timing)
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    try:
        built = _run(builder, network, config, monitor)
    except MemoryError:
        logger.errors.append("out of memory")
        built = None
    if built is None:
        return None, None
    return bytes(built), None if cache is None else bytes(config.get_timing_cache().serialize())


def _forms(request: Request) -> Iterator[Request]:
    """Yield the graph, and then another form of it that computes the same, for the case that the first is refused."""
    yield request
    if request.card.gate and request.card.precision != "fp32":
        from lrp_edge.export.passes.gate import casts_before_branch

        yield _with_proto(request, casts_before_branch(request.proto))


def _suited(request: Request) -> Request:
    """Bring the graph to a form that the compiler takes for each of the GPUs; its weights are constants."""
    if not request.for_turing:
        return _with_proto(request, request.proto)
    # Not above: it needs onnx, and find_target names the extra that has it without torch.
    from lrp_edge.export.passes.turing import without_gemm

    return _with_proto(request, without_gemm(request.proto))


def _with_proto(request: Request, proto: onnx.ModelProto) -> Request:
    return dataclasses.replace(request, proto=proto, data=proto.SerializeToString())


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps the last errors for the exception, and all chatter off the terminal."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=3)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.errors.append(" ".join(message.split()))

        def reason(self) -> str:
            return "; ".join(self.errors)

    return Logger()


def _flags(trt: Any) -> int:
    """Ask for strong typing where it is a choice: TensorRT 11 knows nothing else."""
    flag = getattr(getattr(trt, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(request: Request, network: Any, logger: Any) -> None:
    parser = request.target.trt.OnnxParser(network, logger)
    if parser.parse(request.data):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        raise LrpEdgeError(f"{request.model}: {request.target.title} cannot read it: {logger.reason()}")
    first, *others = errors
    more = f"; and {len(others)} more: {_operators(others)}" if others else ""
    node = f" node {first.node_name()!r} ({first.node_operator()})" if first.node_operator() else " the graph"
    raise LrpEdgeError(
        f"{request.model}: {request.target.title} cannot take{node}{_origin(request.proto, first.node_name())}: "
        f"{_reason(first)}{more}; replace that operation, or run the ONNX file itself"
    )


def _operators(errors: Sequence[Any]) -> str:
    names = list(dict.fromkeys(error.node_operator() or "the graph" for error in errors))
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _reason(error: Any) -> str:
    text = " ".join(error.desc().split())
    if text == "false":
        return "it does not support this operator"
    if "Plugin not found" in text:
        return "it knows no operator or plugin of this name"
    return text


def _origin(proto: onnx.ModelProto, name: str) -> str:
    """Say where in the user's model a node comes from, if the export noted it."""
    described = (describe(node) for node in _nodes(proto.graph) if name and node.name == name)
    place = next(described, "")
    return f" of {place}" if place else ""


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _check_contract(request: Request, network: Any) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    found = {
        tensor.name: (side, tensor.dtype.name, len(tensor.shape))
        for side, tensors in (("input", inputs), ("output", outputs))
        for tensor in tensors
    }
    for name in (*_CONTRACT, *found):
        if found.get(name) != _CONTRACT.get(name):
            have, want = (_kind(kinds.get(name)) for kinds in (found, _CONTRACT))
            raise LrpEdgeError(f"{request.model}: tensor {name!r} is {have}, expected {want}: export the model again")
    own = (*(request.card.input.size or (-1, -1)), request.card.input.channels)
    if tuple(inputs[0].shape)[1:] != own:
        raise LrpEdgeError(
            f"{request.model}: 'image' has shape {list(inputs[0].shape)}, but its card says {[-1, *own]}: "
            "export the model again"
        )


def _kind(kind: tuple[str, str, int] | None) -> str:
    return f"an {kind[0]} of type {kind[1].lower()} with {kind[2]} axes" if kind else "neither input nor output"


def _config(request: Request, builder: Any) -> Any:
    trt, options = request.target.trt, request.options
    config = builder.create_builder_config()
    if request.target.product == "rtx":
        config.num_compute_capabilities = len(request.target.gpus)
        for index, gpu in enumerate(request.target.gpus):
            config.set_compute_capability(trt.ComputeCapability.__members__[gpu.upper()], index)
    if options.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible is not None:
        levels = trt.HardwareCompatibilityLevel.__members__
        config.hardware_compatibility_level = levels[options.hardware_compatible.upper()]
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    profile, channels = builder.create_optimization_profile(), request.card.input.channels
    shapes = (request.profile.smallest, request.profile.usual, request.profile.largest)
    profile.set_shape("image", *((*shape, channels) for shape in shapes))
    config.add_optimization_profile(profile)
    return config


def _use_timing(config: Any, timing: bytes | None) -> Any:
    """Start from what earlier builds measured, or from nothing if that was measured otherwise."""
    if timing is None:
        return None
    cache = config.create_timing_cache(timing)
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes progress on, and stops the build once it is cancelled."""

        def __init__(self) -> None:
            super().__init__()
            self.cancelled = threading.Event()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps
            progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            progress(phase, step + 1, self.steps[phase])
            return not self.cancelled.is_set()

        def phase_finish(self, phase: str) -> None:
            progress(phase, self.steps[phase], self.steps[phase])

    return Monitor()


def _run(builder: Any, network: Any, config: Any, monitor: Any) -> Any:
    """Build in a thread, so that this one is free to hear Ctrl-C."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(builder.build_serialized_network, network, config)
        try:
            while wait([future], timeout=0.2).not_done:
                pass
        except BaseException:
            monitor.cancelled.set()
            raise
        return future.result()


def _refusal(request: Request, logger: Any) -> LrpEdgeError:
    reason, title = logger.reason() or "it gives no reason", request.target.title
    if _NO_MEMORY.search(reason):
        frames, height, width = request.profile.largest
        limit = f" within --workspace {request.options.workspace_mb}" if request.options.workspace_mb else ""
        wider = "a larger --workspace, " if limit else ""
        return LrpEdgeError(
            f"{request.model}: too little memory to build for {frames} frames of {height}x{width}{limit}; try {wider}"
            f"a smaller --batch or --largest ({title}: {reason})"
        )
    quoted = re.findall(r"'([^']+)'", reason)
    origin = next(filter(None, (_origin(request.proto, name) for name in quoted)), "")
    where = f" (node{origin})" if origin else ""
    gpus = ", ".join(request.target.gpus)
    return LrpEdgeError(
        f"{request.model}: {title} cannot build an engine for {gpus}{where}: {reason}; "
        "leave out a GPU that it names, or export with another --precision"
    )
