"""What a user gets wrong: one line on stderr, exit status 1, nothing written."""

import cv2
import numpy as np
import onnx
import pytest
import torch

from tests.support.command import assert_refused, lrp_edge

CARD_OPTIONS = ("--classes", "ok,scratch", "--order", "GRAY", "--network-order", "GRAY")


@pytest.fixture
def images(tmp_path):
    for name in ("ok", "scratch"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(folder / f"{i}.png"), np.full((64, 64), 40 * i, np.uint8))
    return tmp_path / "data"


@pytest.mark.parametrize("case", ["missing", "empty", "one class"])
def test_folders(case, images, tmp_path):
    data = {"missing": tmp_path / "nowhere", "empty": tmp_path / "empty", "one class": tmp_path / "single"}[case]
    (tmp_path / "empty").mkdir()
    (tmp_path / "single").mkdir()
    (images / "ok").rename(tmp_path / "single" / "ok")
    assert_refused(lrp_edge("train", data, "-o", "run", cwd=tmp_path), str(data))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"no image at all", b"half a png"])
def test_bad_images_among_good_ones_are_named_and_counted(content, images, tmp_path):
    good = (images / "ok" / "0.png").read_bytes()
    for name in ("bad1.png", "bad2.png"):
        (images / "scratch" / name).write_bytes(content if content != b"half a png" else good[: len(good) // 2])
    assert_refused(lrp_edge("train", images, "-o", "run", cwd=tmp_path), "bad1.png", "2")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("case", ["pickle", "cut short", "nan"])
def test_checkpoints(case, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    if case == "pickle":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        value = float("nan") if case == "nan" else 0.0
        save_file({"weight": torch.full((100,), value)}, path)
    if case == "cut short":
        path.write_bytes(path.read_bytes()[:-50])
    result = lrp_edge("export", path, "-o", "out", cwd=tmp_path)
    assert_refused(result, "model.safetensors")
    assert not (tmp_path / "out" / "model.onnx").exists()


FACTORIES = """
import torch
from torch import nn

class Sorts(nn.Module):
    def forward(self, x):
        return x.sort(1)[0]

def no_rule():
    return nn.Sequential(nn.Conv2d(1, 4, 3), Sorts(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

def good():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

def broken():
    model = good()
    model[0].weight.data[0] = float("inf")
    return model
"""


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("no_rule", ("no rule for operator aten.sort", "in module 1", "docs/relevance.md")),
        ("broken", ("'0.weight' has NaN or infinite",)),
        ("absent", ("module:factory",)),
    ],
)
def test_models(factory, words, tmp_path):
    (tmp_path / "parts.py").write_text(FACTORIES)
    assert_refused(lrp_edge("export", f"parts:{factory}", "-o", "out", *CARD_OPTIONS, cwd=tmp_path), *words)
    assert not list(tmp_path.glob("out/*"))


def test_files_and_frames(images, tmp_path):
    (tmp_path / "parts.py").write_text(FACTORIES)
    exported = lrp_edge("export", "parts:good", "-o", "out", "--size", "64x64", *CARD_OPTIONS, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    model = tmp_path / "out" / "model.onnx"
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((65, 64), np.uint8))
    run = ("--source", tmp_path / "large.png", "-o", "results")
    assert_refused(lrp_edge("run", model, *run, cwd=tmp_path), "65x64", "64x64")
    (images / "ok" / "0.png").write_bytes(b"no image")
    refused = lrp_edge("run", model, "--source", images, "-o", "fresh", cwd=tmp_path)
    assert_refused(refused, "1 of 8 frames", "0.png", "--skip-bad")
    assert not (tmp_path / "fresh").exists()
    skipped = lrp_edge("run", model, "--source", images, "-o", "fresh", "--skip-bad", cwd=tmp_path)
    assert skipped.returncode == 0
    assert "1 skipped" in skipped.stdout
    stray = onnx.load(model)
    stray.ClearField("metadata_props")
    onnx.save(stray, tmp_path / "stray.onnx")
    for verb in (("run", *run), ("inspect",), ("compile",)):
        assert_refused(lrp_edge(verb[0], tmp_path / "stray.onnx", *verb[1:], cwd=tmp_path), "no model card")


@pytest.mark.parametrize("verb", ["train", "export", "run", "demo"])
def test_output_that_cannot_be_written(verb, images, tmp_path):
    (tmp_path / "parts.py").write_text(FACTORIES)
    (tmp_path / "file").write_text("in the way")
    if verb == "run":
        lrp_edge("export", "parts:good", "-o", "out", "--size", "64x64", *CARD_OPTIONS, cwd=tmp_path)
    arguments = {
        "train": (images,),
        "export": ("parts:good", *CARD_OPTIONS),
        "run": (tmp_path / "out" / "model.onnx", "--source", images),
        "demo": (),
    }[verb]
    assert_refused(lrp_edge(verb, *arguments, "-o", "file/below", cwd=tmp_path), "file/below")
