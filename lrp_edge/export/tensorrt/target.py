"""What an engine is built with and for: TensorRT or TensorRT-RTX, and the GPUs."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from lrp_edge.errors import LrpEdgeError, did_you_mean, look_up, needs_extra

DEFAULT_GPUS = ("sm86", "sm89", "sm120")
#: Product: its module, the name that people know it by, and the oldest version that it works with.
PRODUCTS = {"rtx": ("tensorrt_rtx", "TensorRT-RTX", (1, 4)), "tensorrt": ("tensorrt", "TensorRT", (10, 3))}
_CUDA = {"win32": "nvcuda.dll"}.get(sys.platform, "libcuda.so.1")
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Target:
    """What an engine is built with and for.

    Attributes
    ----------
    product : {"rtx", "tensorrt"}
    trt : module
        ``tensorrt_rtx`` or ``tensorrt``; the two have the same API.
    gpus : tuple of str
        Compute capabilities, e.g. ``("sm86", "sm89")``.
    device : str
        Name of the GPU that TensorRT builds on; empty for TensorRT-RTX, which needs none.
    """

    product: str
    trt: Any
    gpus: tuple[str, ...]
    device: str = ""

    @property
    def version(self) -> str:
        """Version of the product."""
        return str(self.trt.__version__)

    @property
    def title(self) -> str:
        """Product and version, for messages."""
        return f"{PRODUCTS[self.product][1]} {self.version}"

    @property
    def tag(self) -> str:
        """Product, version and GPUs, for names of files."""
        return f"{self.product}-{self.version}.{'-'.join(self.gpus)}"

    @property
    def measures(self) -> bool:
        """Whether builds measure kernels on the GPU, which a timing cache can spare the next one."""
        return self.product == "tensorrt"

    @property
    def timing_name(self) -> str:
        """Name of the file for what builds for this target measure."""
        return f"{self.tag}.{re.sub(r'[^A-Za-z0-9]+', '-', self.device)}.cache"


def find_target(product: str, gpus: Sequence[str] | None = None) -> Target:
    """Load TensorRT or TensorRT-RTX, and find out which GPUs to build for.

    Parameters
    ----------
    product : {"rtx", "tensorrt"}
    gpus : sequence of str, optional
        For ``"rtx"`` compute capabilities, by default ``sm86 sm89 sm120``. TensorRT builds for the GPU that it runs on.

    Raises
    ------
    LrpEdgeError
        If the product is unknown, not installed or too old, a GPU is unknown to it, or it needs one and there is none.
    """
    look_up("product", product, PRODUCTS)
    trt = _load(product)
    if product == "rtx":
        return Target(product, trt, _known(trt, DEFAULT_GPUS if gpus is None else gpus))
    if gpus is not None:
        raise LrpEdgeError(f"TensorRT builds for the GPU that it runs on; leave out {','.join(gpus)}")
    gpu, device = present_gpu()
    return Target(product, trt, (gpu,), device)


def _load(product: str) -> Any:
    module, title, oldest = PRODUCTS[product]
    try:
        with needs_extra(product):
            for dependency in ("onnx", "platformdirs"):
                import_module(dependency)
            trt = import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise LrpEdgeError(f"{title} cannot be loaded ({' '.join(str(error).split())}); install it again") from error
    if tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:2]) < oldest:
        wanted = ".".join(map(str, oldest))
        raise LrpEdgeError(f"{title} {trt.__version__} is too old; expected {wanted} or newer: install it again")
    return trt


def _known(trt: Any, gpus: Sequence[str]) -> tuple[str, ...]:
    """Check compute capabilities, and return each once, in order."""
    known = [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    for gpu in gpus:
        if gpu not in known:
            hint = did_you_mean(gpu, known, f"expected some of {', '.join(known)}")
            raise LrpEdgeError(f"TensorRT-RTX {trt.__version__} knows no GPU {gpu!r}; {hint}")
    if not gpus:
        raise LrpEdgeError(f"no GPU to build for; expected some of {', '.join(known)}")
    return tuple(sorted(set(gpus), key=known.index))


def present_gpu() -> tuple[str, str]:
    """Return compute capability and name of this machine's first GPU, e.g. ``("sm87", "Orin")``.

    Raises
    ------
    LrpEdgeError
        If there is no GPU, or no driver.
    """
    try:
        cuda = ctypes.CDLL(_CUDA)
    except OSError as error:
        raise no_gpu("no CUDA driver") from error
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    for status in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
        cuda.cuDeviceGetName(name, len(name), device),
    ):
        if status:
            raise no_gpu(f"CUDA error {status}")
    return f"sm{major.value}{minor.value}", name.value.decode(errors="replace")


def no_gpu(reason: str) -> LrpEdgeError:
    """Say that TensorRT, unlike TensorRT-RTX, needs the GPU that it builds for."""
    return LrpEdgeError(
        f"TensorRT builds on the GPU that the engine is for, and there is none here ({reason}): "
        "run this command on the device"
    )
