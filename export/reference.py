"""An exported graph computed on the CPU in the very types that it is written in.

ONNX Runtime computes half precision on most CPUs in float32 and leaves the rounding out, and has no bfloat16 there, so
it cannot say what a GPU will answer. Here each node's result is rounded to its own type by ONNX's reference evaluator;
convolutions and matrix products sum in float32 before that, as tensor cores do, and are handed to PyTorch for speed.
"""

from __future__ import annotations

from typing import Any

from lrp_edge.errors import needs_extra
from lrp_edge.export.parity import Session

with needs_extra("export"):
    import numpy as np
    import onnx
    import torch
    import torch.nn.functional as F
    from numpy.typing import NDArray
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun


def open_reference(proto: onnx.ModelProto, precision: str) -> Session:
    """Return what computes a graph on the CPU in its own types: ONNX Runtime for float32, else the evaluator below."""
    if precision != "fp32":
        return ReferenceSession(proto)
    with needs_extra("cpu"):
        import onnxruntime
    session: Session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session


class ReferenceSession:
    """A graph, ready to be run; as slow as the types are foreign to the CPU.

    Parameters
    ----------
    proto : onnx.ModelProto
        A graph of the contract.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._evaluator = ReferenceEvaluator(proto, new_ops=[Conv, ConvTranspose, Gemm, MatMul, MaxPool])

    def run(self, names: list[str] | None, feeds: dict[str, NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """Return the named outputs, all by default, as ONNX Runtime's sessions do."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            outputs: list[NDArray[Any]] = self._evaluator.run(names, feeds)
        return outputs


def _float(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(x, np.float32))


def _back(x: torch.Tensor, like: Any) -> tuple[Any]:
    return (x.numpy().astype(like.dtype),)


def _padded(x: torch.Tensor, pads: list[int] | None, value: float = 0.0) -> torch.Tensor:
    top, left, bottom, right = pads or (0, 0, 0, 0)
    return F.pad(x, (left, right, top, bottom), value=value) if any((top, left, bottom, right)) else x


class Conv(OpRun):  # type: ignore[misc]
    """A 2-D convolution with explicit padding."""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=1, kernel_shape=None, pads=None, strides=None):  # type: ignore[no-untyped-def]
        bias = None if b is None else _float(b)
        y = F.conv2d(_padded(_float(x), pads), _float(w), bias, strides or 1, 0, dilations or 1, group or 1)
        return _back(y, x)


class ConvTranspose(OpRun):  # type: ignore[misc]
    """A 2-D transposed convolution, cropped by its padding."""

    def _run(  # type: ignore[no-untyped-def]
        self,
        x,
        w,
        b=None,
        auto_pad=None,
        dilations=None,
        group=1,
        kernel_shape=None,
        output_padding=None,
        output_shape=None,
        pads=None,
        strides=None,
    ):
        bias = None if b is None else _float(b)
        y = F.conv_transpose2d(
            _float(x), _float(w), bias, strides or 1, 0, output_padding or 0, group or 1, dilations or 1
        )
        top, left, bottom, right = pads or (0, 0, 0, 0)
        return _back(y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right], x)


class Gemm(OpRun):  # type: ignore[misc]
    """A matrix product with factors and a summand."""

    def _run(self, a, b, c=None, alpha=1.0, beta=1.0, transA=0, transB=0):  # type: ignore[no-untyped-def]  # noqa: N803
        left, right = _float(a), _float(b)
        y = alpha * (left.T if transA else left) @ (right.T if transB else right)
        return _back(y if c is None else y + beta * _float(c), a)


class MatMul(OpRun):  # type: ignore[misc]
    """A product of stacks of matrices."""

    def _run(self, a, b):  # type: ignore[no-untyped-def]
        return _back(_float(a) @ _float(b), a)


class MaxPool(OpRun):  # type: ignore[misc]
    """2-D max pooling; what lies outside loses."""

    def _run(  # type: ignore[no-untyped-def]
        self,
        x,
        auto_pad=None,
        ceil_mode=0,
        dilations=None,
        kernel_shape=None,
        pads=None,
        storage_order=None,
        strides=None,
    ):
        padded = _padded(_float(x), pads, -torch.inf)
        return _back(F.max_pool2d(padded, kernel_shape, strides or 1, 0, dilations or 1, bool(ceil_mode)), x)
