"""An exported graph computed on the CPU in the very types that it is written in.

ONNX Runtime computes half precision on most CPUs in float32 and leaves the rounding out, and has no bfloat16 there, so
it cannot say what a GPU will answer. Here each node's result is rounded to its own type by ONNX's reference evaluator;
convolutions and matrix products sum in float32 before that, as tensor cores do, and are handed to PyTorch for speed.
"""

from __future__ import annotations

from typing import Any

from lrp_edge.errors import needs_extra
from lrp_edge.export.verify.parity import Session

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
            return list(self._evaluator.run(names, feeds))


def _float(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(x, np.float32))


def _back(x: torch.Tensor, like: Any) -> tuple[Any]:
    return (x.numpy().astype(like.dtype),)


def _padded(x: torch.Tensor, pads: list[int] | None, value: float = 0.0) -> torch.Tensor:
    top, left, bottom, right = pads or (0, 0, 0, 0)
    return F.pad(x, (left, right, top, bottom), value=value) if any((top, left, bottom, right)) else x


class Conv(OpRun):
    """A 2-D convolution with explicit padding."""

    def _run(
        self,
        x: Any,
        w: Any,
        b: Any = None,
        auto_pad: Any = None,
        dilations: Any = None,
        group: Any = 1,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Any]:
        bias = None if b is None else _float(b)
        y = F.conv2d(_padded(_float(x), pads), _float(w), bias, strides or 1, 0, dilations or 1, group or 1)
        return _back(y, x)


class ConvTranspose(OpRun):
    """A 2-D transposed convolution, cropped by its padding."""

    def _run(
        self,
        x: Any,
        w: Any,
        b: Any = None,
        auto_pad: Any = None,
        dilations: Any = None,
        group: Any = 1,
        kernel_shape: Any = None,
        output_padding: Any = None,
        output_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[Any]:
        bias = None if b is None else _float(b)
        y = F.conv_transpose2d(
            _float(x), _float(w), bias, strides or 1, 0, output_padding or 0, group or 1, dilations or 1
        )
        top, left, bottom, right = pads or (0, 0, 0, 0)
        return _back(y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right], x)


class Gemm(OpRun):
    """A matrix product with factors and a summand."""

    def _run(
        self,
        a: Any,
        b: Any,
        c: Any = None,
        alpha: Any = 1.0,
        beta: Any = 1.0,
        transA: Any = 0,  # noqa: N803
        transB: Any = 0,  # noqa: N803
    ) -> tuple[Any]:
        left, right = _float(a), _float(b)
        y = alpha * (left.T if transA else left) @ (right.T if transB else right)
        return _back(y if c is None else y + beta * _float(c), a)


class MatMul(OpRun):
    """A product of stacks of matrices."""

    def _run(
        self,
        a: Any,
        b: Any,
    ) -> tuple[Any]:
        return _back(_float(a) @ _float(b), a)


class MaxPool(OpRun):
    """2-D max pooling; what lies outside loses."""

    def _run(
        self,
        x: Any,
        auto_pad: Any = None,
        ceil_mode: Any = 0,
        dilations: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        storage_order: Any = None,
        strides: Any = None,
    ) -> tuple[Any]:
        padded = _padded(_float(x), pads, -torch.inf)
        return _back(F.max_pool2d(padded, kernel_shape, strides or 1, 0, dilations or 1, bool(ceil_mode)), x)
