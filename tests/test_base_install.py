"""A device: the base distribution with the extra `cpu` alone, and no torch anywhere."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec
from lrp_edge.export import to_onnx

ROOT = Path(__file__).parents[1]


def test_run_works_without_torch(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    file = to_onnx(model, tmp_path / "out", card=ModelCard(("ok", "dent"), ("dent",), InputSpec(size=(32, 32))))
    cv2.imwrite(str(tmp_path / "frame.png"), np.full((32, 32, 3), 90, np.uint8))
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    constraints = ("--constraint", ROOT / "constraints.txt")
    subprocess.run([venv / "bin" / "pip", "install", "-q", *constraints, f"{ROOT}[cpu]"], check=True)
    absent = [
        venv / "bin" / "python",
        "-c",
        "import importlib.util as u; print([u.find_spec(n) for n in ('torch', 'onnx')])",
    ]
    assert subprocess.run(absent, capture_output=True, text=True, check=True).stdout.strip() == "[None, None]"
    command = [venv / "bin" / "lrp-edge", "run", file, "--source", tmp_path / "frame.png", "-o", tmp_path / "results"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "1 frames" in ran.stdout
    refused = subprocess.run([venv / "bin" / "lrp-edge", "export", "x", "-o", "y"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "pip install 'lrp-edge[export]'" in refused.stderr
