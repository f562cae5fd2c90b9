"""One call under way on a GPU: its stream, its buffers, its execution context."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.engines.base import OUTPUTS, UInt8
from lrp_edge.runtime.engines.cuda import Buffer, Cuda, CudaError, new_event, new_stream

Arrays = tuple[Any, ...]


class Stages(NamedTuple):
    """Milliseconds of one call by the GPU's own clock: copy in, inference, copy out."""

    h2d: float
    compute: float
    d2h: float


def output_shapes(frames: tuple[int, ...], classes: int) -> dict[str, tuple[int, ...]]:
    """Return the outputs' shapes for frames ``[N, H, W, C]``, as the contract has them."""
    count, height, width, _ = frames
    image = (count, height, width)
    return {"scores": (count, classes), "label": (count,), "mask": image, "relevance": image}


def buffer_sizes(frames: tuple[int, ...], classes: int) -> dict[str, int]:
    """Return the bytes of the input and of each output for frames ``[N, H, W, C]``."""
    shapes = output_shapes(frames, classes)
    outputs = {name: math.prod(shape) * np.dtype(OUTPUTS[name]).itemsize for name, shape in shapes.items()}
    return {"image": math.prod(frames), **outputs}


class Slot:
    """Takes one call at a time: copy in, inference, copy out, all on a stream of its own.

    Buffers are allocated once, for the largest frames. Where `capture` says so, inference is recorded as a CUDA graph
    when a shape comes for the second time in succession, and replayed for as long as it stays; if it cannot be
    recorded, it is enqueued as before.

    Parameters
    ----------
    cuda : Cuda
        CUDA's runtime.
    context : IExecutionContext
        Of TensorRT or TensorRT-RTX; no other slot may have it.
    largest : (N, H, W, C)
        The largest frames.
    classes : int
        Number of scores.
    names : sequence of str
        The outputs that the engine has, in the order in which they are returned.
    capture : bool
        Whether to record CUDA graphs.
    owner : ExitStack
        Releases everything.
    """

    def __init__(
        self,
        cuda: Cuda,
        context: Any,
        largest: tuple[int, ...],
        classes: int,
        names: tuple[str, ...],
        *,
        capture: bool,
        owner: ExitStack,
    ) -> None:
        self._cuda, self._context, self._classes, self._names, self._capture = cuda, context, classes, names, capture
        owner.callback(self._forget)
        self._stream = new_stream(cuda, owner)
        self._events = [new_event(cuda, owner) for _ in range(4)]
        sizes = buffer_sizes(largest, classes)
        self._buffers = {name: Buffer.allocate(cuda, sizes[name], owner) for name in ("image", *names)}
        for name, buffer in self._buffers.items():
            if not context.set_tensor_address(name, buffer.device):
                raise LrpEdgeError(f"the engine has no tensor {name!r}; compile it again")
        self._shape: tuple[int, ...] = ()
        self._settled, self._graph = False, None
        self._pending = Pending(self, (), ())
        owner.callback(self._stop)

    def start(self, frames: UInt8) -> Pending:
        """Start a call, after the one before it has been answered."""
        self._pending.collect()
        if frames.shape != self._shape:
            self._reshape(frames.shape)
        cuda, stream, image = self._cuda, self._stream, self._buffers["image"]
        np.copyto(image.host[: frames.size].reshape(frames.shape), frames)
        cuda("cudaEventRecord", self._events[0], stream)
        image.upload(cuda, frames.size, stream)
        cuda("cudaEventRecord", self._events[1], stream)
        self._infer()
        cuda("cudaEventRecord", self._events[2], stream)
        sizes = buffer_sizes(frames.shape, self._classes)
        for name in self._names:
            self._buffers[name].download(cuda, sizes[name], stream)
        cuda("cudaEventRecord", self._events[3], stream)
        self._pending = Pending(self, frames.shape)
        return self._pending

    def read(self, frames: tuple[int, ...]) -> Arrays:
        """Wait for the stream, and return the outputs in fresh arrays."""
        if self._context is None:
            raise LrpEdgeError("the engine was closed before this call was answered; open it again")
        self._cuda("cudaStreamSynchronize", self._stream)
        shapes, sizes = output_shapes(frames, self._classes), buffer_sizes(frames, self._classes)
        return tuple(
            self._buffers[name].host[: sizes[name]].view(OUTPUTS[name]).reshape(shapes[name]).copy()
            for name in self._names
        )

    def stages(self) -> Stages:
        """Return the times of the call that was answered last."""
        pairs = zip(self._events, self._events[1:], strict=False)
        return Stages(*(float(self._cuda("cudaEventElapsedTime", *pair)) for pair in pairs))

    def _reshape(self, shape: tuple[int, ...]) -> None:
        """Tell the context the frames' shape; a recorded graph is of the shape before and goes."""
        self._drop_graph()
        self._settled, self._shape = False, ()
        if not self._context.set_input_shape("image", shape):
            raise LrpEdgeError(f"the engine does not take frames {list(shape)}")
        expected = output_shapes(shape, self._classes)
        self._compare({name: expected[name] for name in self._names})
        self._shape = shape

    def _compare(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in expected.items():
            found = tuple(self._context.get_tensor_shape(name))
            # Behind an If, TensorRT may not know an extent before the call.
            if len(found) != len(shape) or any(have not in (-1, want) for have, want in zip(found, shape, strict=True)):
                raise LrpEdgeError(
                    f"the engine gives {name} as {list(found)}; expected {list(shape)}: compile it again"
                )

    def _infer(self) -> None:
        if self._graph is None and self._capture and self._settled:
            self._graph = self._record()
            self._capture = self._graph is not None
        if self._graph is not None:
            self._cuda("cudaGraphLaunch", self._graph, self._stream)
        elif not self._enqueue():
            raise LrpEdgeError(f"the engine cannot be run on frames {list(self._shape)}")
        self._settled = True

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(int(self._stream)))

    def _record(self) -> Any:
        """Record one inference without running it; None if it cannot be recorded."""
        cuda, graph, enqueued = self._cuda, None, False
        try:
            cuda(
                "cudaStreamBeginCapture", self._stream, cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            )
            try:
                enqueued = self._enqueue()
            finally:
                graph = cuda("cudaStreamEndCapture", self._stream)
            return cuda("cudaGraphInstantiate", graph, 0) if enqueued else None
        except CudaError:
            cuda.try_to("cudaGetLastError")  # else the next call that asks for it would see this one's
            return None
        finally:
            if graph is not None:
                cuda.try_to("cudaGraphDestroy", graph)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.try_to("cudaGraphExecDestroy", self._graph)
        self._graph = None

    def _stop(self) -> None:
        """Keep what is under way, since its buffers are released next."""
        with contextlib.suppress(LrpEdgeError):
            self._pending.collect()
        self._cuda.try_to("cudaStreamSynchronize", self._stream)
        self._drop_graph()

    def _forget(self) -> None:
        self._context, self._buffers = None, {}


class Pending:
    """A call under way."""

    def __init__(self, slot: Slot, frames: tuple[int, ...], arrays: Arrays | None = None) -> None:
        self._slot, self._frames, self._arrays = slot, frames, arrays

    def collect(self) -> Arrays:
        """Wait for the outputs; asked again, return the same ones."""
        if self._arrays is None:
            self._arrays = self._slot.read(self._frames)
        return self._arrays
