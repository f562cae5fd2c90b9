"""Passes: an ONNX graph in, an ONNX graph out."""
