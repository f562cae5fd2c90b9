"""What class + mask costs beside the classifier alone, and beside zennit: ratios, in turns, in one process."""

import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime
import pytest
import torch
from oracles import torchvision_model
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlusFlat

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec, MaskSpec
from lrp_edge.export import to_onnx
from lrp_edge.export.deployable import Preprocess

pytestmark = pytest.mark.benchmark

ROUNDS = 15
CLASSES = ("ok", "crack", "scratch", "hole", "stain")
CARD = ModelCard(
    CLASSES,
    CLASSES[1:],
    InputSpec("BGR", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size=(224, 224), max_batch=1),
    composite="EpsilonPlusFlat",
    mask=MaskSpec("fixed"),
)


class Alone(nn.Module):
    """The classifier behind the same preprocessing, without relevance."""

    def __init__(self, model):
        super().__init__()
        self.preprocess, self.model = Preprocess(CARD.input), model

    def forward(self, frames):
        return self.model(self.preprocess(frames)).softmax(1)


def in_turns(**calls):
    """Return the median seconds of each call, made in turns after two rounds of warm-up."""
    times = {name: [] for name in calls}
    for _ in range(ROUNDS + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # A pool that spins while the other one works would slow its rival.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("threads", [1, 2])
def test_vgg_a_at_224(threads, tmp_path, capsys):
    torch.set_num_threads(threads)
    model = torchvision_model("vgg11").float()
    file = to_onnx(model, tmp_path, card=CARD)
    alone = tmp_path / "alone.onnx"
    example = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
    torch.onnx.export(
        Alone(model), (example,), dynamo=True, input_names=["image"], external_data=False, verbose=False
    ).save(alone)
    sessions = [session(path, threads) for path in (alone, file)]
    frame = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    image = Preprocess(CARD.input)(torch.from_numpy(frame))

    def zennit():
        with Gradient(model, EpsilonPlusFlat(), attr_output=lambda y: y * nn.functional.one_hot(y.argmax(1), 5)) as lrp:
            lrp(image.clone())

    times = in_turns(
        classifier=lambda: sessions[0].run(None, {"image": frame}),
        both=lambda: sessions[1].run(None, {"image": frame}),
        zennit=zennit,
    )
    with capsys.disabled():
        print(
            f"\nVGG-A 224x224, ONNX Runtime {onnxruntime.__version__}, {threads} thread(s), median of {ROUNDS} rounds"
        )
        print(f"  classifier alone {times['classifier'] * 1e3:8.1f} ms")
        print(
            f"  class + mask     {times['both'] * 1e3:8.1f} ms  {times['both'] / times['classifier']:.2f} x classifier"
        )
        print(
            f"  zennit           {times['zennit'] * 1e3:8.1f} ms  {times['zennit'] / times['both']:.2f} x class + mask"
        )


def test_start_up(capsys):
    def run(*arguments):
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    help_text = "import sys; sys.argv = ['lrp-edge', '--help']; from lrp_edge.cli import main; main()"
    times = in_turns(python=run("-c", "pass"), package=run("-c", "import lrp_edge"), help=run("-c", help_text))
    with capsys.disabled():
        print(f"\n  import lrp_edge  {times['package'] - times['python']:.3f} s over Python's own start")
        print(f"  lrp-edge --help  {times['help']:.3f} s")
