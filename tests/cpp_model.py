"""Writes the model that the C++ programs are tried on: ``python tests/cpp_model.py FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from runtime_graphs import brightness_card, brightness_graph

if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(brightness_graph(brightness_card(), 3, None), path)
