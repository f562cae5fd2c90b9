"""With what files are compared, on which frames, and how far they may be off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lrp_edge.options import Common, OptionGroup, PictureOptions, like, option

#: What runs a file, by the name that it is asked for.
BACKENDS = {
    "types": "an ONNX file on the CPU, each node rounded to the very type that the graph is written in, as on a GPU",
    "cpu": "an ONNX file in ONNX Runtime on the CPU, which computes half precision in float32",
    "openvino": "an ONNX file in OpenVINO on the CPU, which computes half precision in float32",
    "cuda": "an ONNX file in ONNX Runtime with CUDA",
    "tensorrt": "an ONNX file in ONNX Runtime with TensorRT, or an engine file of TensorRT",
    "nv_tensorrt_rtx": "an ONNX file in ONNX Runtime with TensorRT-RTX",
    "rtx": "an engine file of TensorRT-RTX",
}


@dataclass(frozen=True)
class Limits(OptionGroup, panel="Limits"):
    """Limits in place of those for a file's precision; see :class:`~lrp_edge.export.verify.parity.Tolerance`."""

    labels: float | None = option(
        None, "Least share of frames with the same label.", least=0, flag="--tolerance-labels"
    )
    scores: float | None = option(None, "Greatest difference of a score.", least=0, flag="--tolerance-scores")
    relevance: float | None = option(
        None,
        "Greatest L2 norm of the relevance's difference over that of the relevance.",
        least=0,
        flag="--tolerance-relevance",
    )
    iou: float | None = option(None, "Least mean IoU of the masks.", least=0, flag="--tolerance-iou", panel="Limits")


@dataclass(frozen=True)
class VerifyOptions(OptionGroup):
    """How files are verified."""

    against: str | None = option(
        None,
        "What to compare with: a checkpoint or module:factory, by PyTorch in float64, or an .onnx file in fp32.",
        usual="the checkpoint that the file was exported from, if it lies next to it",
        metavar="MODEL",
    )
    weights: Path | None = like(Common, "weights")
    frames: str = like(Common, "frames", usual="noise")
    bits: int | None = like(PictureOptions, "bits", panel="Frames")
    max_megapixels: float = like(PictureOptions, "max_megapixels", panel="Frames")
    most: int = option(64, "Take so many of them, evenly.", least=1, panel="Frames")
    backends: tuple[str, ...] | None = option(
        None,
        "What runs a file: types rounds each node to its own type, as a GPU does; rtx is for an engine. Several by "
        "comma, or one at a time.",
        choices=BACKENDS,
        called="backends are",
        usual="all that fit and answer",
        flag="--backend",
        metavar="NAME",
    )
    output: Path | None = option(
        None, "Draw the worst frame of each file and backend there.", short="-o", metavar="FOLDER"
    )
