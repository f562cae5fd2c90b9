"""CUDA's runtime: every return code checked, everything released in reverse order."""

from __future__ import annotations

import contextlib
import ctypes
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra

NON_BLOCKING = 1  # cudaStreamNonBlocking
OUT_OF_MEMORY = "cudaErrorMemoryAllocation"


class CudaError(LrpEdgeError):
    """A call of CUDA failed.

    Attributes
    ----------
    code : str
        CUDA's name of the error, e.g. ``"cudaErrorNoDevice"``.
    """

    def __init__(self, call: str, code: str, meaning: str) -> None:
        super().__init__(f"{call}: {code} ({meaning})")
        self.code = code


class Cuda:
    """Calls of CUDA's runtime by name; each raises :class:`CudaError` unless it succeeds.

    Parameters
    ----------
    api : module
        ``cuda.bindings.runtime`` of cuda-python, or ``cuda.cudart`` of its older versions.
    """

    def __init__(self, api: Any) -> None:
        self.api = api

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call a function and return what it gives besides the code: nothing, one value, or a tuple."""
        code, *values = getattr(self.api, name)(*arguments)
        if int(code) != 0:
            raise CudaError(name, *self._describe(code))
        return values[0] if len(values) == 1 else tuple(values)

    def try_to(self, name: str, *arguments: Any) -> None:
        """Call a function whose failure does not matter: a release, after an error."""
        with contextlib.suppress(CudaError):
            self(name, *arguments)

    def _describe(self, code: Any) -> tuple[str, str]:
        texts = [getattr(self.api, name)(code)[-1] for name in ("cudaGetErrorName", "cudaGetErrorString")]
        name, meaning = (text.decode() if isinstance(text, bytes) else str(text) for text in texts)
        return name, meaning

    def free_memory(self) -> tuple[int, int]:
        """Return the GPU's free and total bytes."""
        free, total = self("cudaMemGetInfo")
        return int(free), int(total)

    def capability(self, device: int = 0) -> str:
        """Return a GPU's compute capability, e.g. ``"sm86"``."""
        attributes = self.api.cudaDeviceAttr
        major = self("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, device)
        minor = self("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, device)
        return f"sm{major}{minor}"


@dataclass
class Buffer:
    """Bytes in the GPU's memory, and as many page-locked ones in the host's.

    Attributes
    ----------
    device : int
        Address in the GPU's memory.
    host : uint8 [bytes]
        The page-locked bytes; not to be touched once the buffer is released.
    """

    device: int
    host: NDArray[np.uint8]

    @classmethod
    def allocate(cls, cuda: Cuda, size: int, owner: ExitStack) -> Buffer:
        """Allocate both halves; `owner` releases them."""
        device = int(cuda("cudaMalloc", size))
        owner.callback(cuda.try_to, "cudaFree", device)
        address = int(cuda("cudaMallocHost", size))
        owner.callback(cuda.try_to, "cudaFreeHost", address)
        return cls(device, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)))

    def upload(self, cuda: Cuda, size: int, stream: Any) -> None:
        """Start the copy of the first `size` bytes to the GPU."""
        kind = cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        cuda("cudaMemcpyAsync", self.device, self.host.ctypes.data, size, kind, stream)

    def download(self, cuda: Cuda, size: int, stream: Any) -> None:
        """Start the copy of the first `size` bytes from the GPU."""
        kind = cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        cuda("cudaMemcpyAsync", self.host.ctypes.data, self.device, size, kind, stream)


def load_cuda(extra: str) -> Cuda:
    """Import cuda-python, whichever of its layouts is installed; `extra` is named where it is not."""
    with needs_extra(extra):
        try:
            return Cuda(import_module("cuda.bindings.runtime"))
        except ModuleNotFoundError:
            return Cuda(import_module("cuda.cudart"))


def new_stream(cuda: Cuda, owner: ExitStack) -> Any:
    """Make a stream that does not wait for the default one."""
    stream = cuda("cudaStreamCreateWithFlags", NON_BLOCKING)
    owner.callback(cuda.try_to, "cudaStreamDestroy", stream)
    return stream


def new_event(cuda: Cuda, owner: ExitStack) -> Any:
    """Make an event that keeps the time."""
    event = cuda("cudaEventCreate")
    owner.callback(cuda.try_to, "cudaEventDestroy", event)
    return event
