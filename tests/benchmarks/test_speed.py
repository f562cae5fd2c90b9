"""What class + mask costs compared with the classifier alone and with zennit: ratios, alternating, in one process."""

import contextlib
import functools
import io
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from torch import nn

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec, MaskSpec
from lrp_edge.export import to_onnx
from lrp_edge.export.deployable import Preprocess
from lrp_edge.export.graph import cut
from lrp_edge.export.passes.gate import gate
from lrp_edge.export.passes.precision import find_products
from lrp_edge.export.read import load_proto
from lrp_edge.export.verify.parity import random_frames
from tests.support.oracles import Gradient, composites, torchvision_model

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


def in_turns(*, rounds=ROUNDS, **calls):
    """Return the median seconds of each call, made alternately after two rounds of warm-up."""
    times = {name: [] for name in calls}
    for _ in range(rounds + 2):
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
        with Gradient(
            model, composites.EpsilonPlusFlat(), attr_output=lambda y: y * nn.functional.one_hot(y.argmax(1), 5)
        ) as lrp:
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


@pytest.mark.parametrize("threads", [1, 2])
def test_vgg_a_gated_ok_frame(threads, tmp_path, capsys):
    """The cost of a frame classified as OK, with a gate."""
    model = torchvision_model("vgg11").float()
    with torch.no_grad():
        model.classifier[-1].bias[0] += 100
    flat = to_onnx(model, tmp_path, card=CARD)
    proto, card = load_proto(flat)
    graphs = {
        "classifier": cut(proto, {"scores": TensorProto.FLOAT, "label": TensorProto.INT32}),
        "gated": gate(proto, card),
        "flat": proto,
    }
    sessions = {name: session(graph.SerializeToString(), threads) for name, graph in graphs.items()}
    frame = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    assert not sessions["gated"].run(["label"], {"image": frame})[0].any()
    times = in_turns(
        **{name: functools.partial(each.run, None, {"image": frame}) for name, each in sessions.items()}, rounds=40
    )
    with capsys.disabled():
        print(f"\nVGG-A 224x224, a frame decided OK, {threads} thread(s), median of 40 rounds")
        for name, seconds in times.items():
            print(f"  {name:12} {seconds * 1e3:8.1f} ms  {seconds / times['classifier']:.3f} x classifier")


def test_mobilenet_by_stage(tmp_path, capsys):
    """Relevance at the pixels and at two stages, with an outline of the image's; and what the outline costs."""
    model = torchvision_model("mobilenet_v2").float()
    plain, outlined = MaskSpec("otsu"), MaskSpec("otsu", {"fraction": 0.75, "contrast": 1.0})
    areas = MaskSpec("otsu", {"fraction": 0.75, "contrast": 1.0}, area_classes=("stain",))
    cards = {
        f"stride {stride}, {name}": CARD.replace(composite="Segmentation", relevance_stride=stride, mask=mask)
        for stride, name, mask in (
            (1, "otsu", plain),
            (4, "otsu", plain),
            (8, "otsu", plain),
            (4, "outline", outlined),
            (4, "outline and areas", areas),
        )
    }
    files = {name: to_onnx(model, tmp_path, card=card, name=str(i)) for i, (name, card) in enumerate(cards.items())}
    proto, _ = load_proto(next(iter(files.values())))
    alone = cut(proto, {"scores": TensorProto.FLOAT, "label": TensorProto.INT32}).SerializeToString()
    sessions = {"classifier": session(alone, 1)} | {name: session(file, 1) for name, file in files.items()}
    frame = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    times = in_turns(**{name: functools.partial(each.run, None, {"image": frame}) for name, each in sessions.items()})
    with capsys.disabled():
        print(f"\nMobileNetV2 224x224, one thread, median of {ROUNDS} rounds")
        for name, seconds in times.items():
            print(f"  {name:28} {seconds * 1e3:8.1f} ms  {seconds / times['classifier']:.2f} x classifier")


def test_vgg_a_int8(tmp_path, capsys):
    """The exported int8 graph, and the most that this CPU could gain: 8-bit kernels whatever they do to masks."""
    model, frames = torchvision_model("vgg11").float(), random_frames((224, 224), 3, 2)
    files = {
        name: to_onnx(model, tmp_path / name, card=CARD.replace(precision=name), frames=frames)
        for name in ("fp32", "int8")
    }
    files["all in u8s8"] = tmp_path / "everything.onnx"
    everything_in_int8(files["fp32"], files["all in u8s8"], frames)
    sessions = {name: session(file, 2) for name, file in files.items()}
    feed = {"image": frames[0][None]}
    times = in_turns(**{name: functools.partial(each.run, None, feed) for name, each in sessions.items()})
    with capsys.disabled():
        print(f"\nVGG-A 224x224, class + mask, ONNX Runtime {onnxruntime.__version__}, 2 threads")
        for name, seconds in times.items():
            print(f"  {name:12} {seconds * 1e3:8.1f} ms  {times['fp32'] / seconds:.2f} x as fast as fp32")
        for name in ("fp32", "all in u8s8"):
            print(f"  {name}: {profile(files[name], feed, tmp_path)}")


def everything_in_int8(file, output, frames):
    """Let ONNX Runtime's own tool put all convolutions and linear layers into the 8-bit kernels that its CPU has."""
    proto, _ = load_proto(file)
    products = find_products(proto.graph)
    indices = (*products.forward, *products.denominators, *products.adjoints)
    # Products with the weights of linear layers read these once, from memory: 8 bits must first be widened there.
    nodes = [proto.graph.node[i].name for i in indices if proto.graph.node[i].op_type != "MatMul"]

    class Reader(CalibrationDataReader):
        feeds = iter([{"image": frame[None]} for frame in frames])

        def get_next(self):
            return next(self.feeds, None)

    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(
            file,
            output,
            Reader(),
            QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
            calibrate_method=CalibrationMethod.MinMax,
        )


def profile(file, feed, folder):
    """Return the share of each operator in the time of ten runs, greatest first."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = 2, True
    options.profile_file_prefix = str(folder / "profile")
    running = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    for _ in range(10):
        running.run(None, feed)
    spent = Counter()
    for event in json.loads(Path(running.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    total = sum(spent.values())
    return ", ".join(f"{name} {time / total:.1%}" for name, time in spent.most_common(8))


def test_start_up(capsys):
    def run(*arguments):
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    help_text = "import sys; sys.argv = ['lrp-edge', '--help']; from lrp_edge.cli import main; main()"
    times = in_turns(python=run("-c", "pass"), package=run("-c", "import lrp_edge"), help=run("-c", help_text))
    with capsys.disabled():
        print(f"\n  import lrp_edge  {times['package'] - times['python']:.3f} s over Python's own start")
        print(f"  lrp-edge --help  {times['help']:.3f} s")
