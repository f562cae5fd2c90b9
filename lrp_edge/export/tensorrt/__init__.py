"""ONNX → engines of TensorRT-RTX, on any machine, and of TensorRT, on the device itself."""

from lrp_edge.export.tensorrt.engine import to_engine
from lrp_edge.export.tensorrt.target import DEFAULT_GPUS, PRODUCTS

__all__ = ["DEFAULT_GPUS", "PRODUCTS", "to_engine"]
