"""ONNX → TensorRT-RTX engines, ahead of time, on any machine: the builder needs no GPU."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.export.reading import card_of
from lrp_edge.export.sources import sha256

DEFAULT_GPUS = ("sm86", "sm89", "sm120")


def to_engine(
    model: str | Path,
    output: str | Path | None = None,
    *,
    gpus: Sequence[str] = DEFAULT_GPUS,
    smallest: tuple[int, int] = (64, 64),
    usual: tuple[int, int] = (512, 512),
    largest: tuple[int, int] = (1024, 1024),
) -> Path:
    """Compile an exported ONNX file with TensorRT-RTX.

    Parameters
    ----------
    model : path
        A file of :func:`lrp_edge.export.to_onnx`.
    output : path, optional
        Folder for the engine and its card; by default that of the model.
    gpus : sequence of str
        Compute capabilities that the engine is for, e.g. ``("sm86", "sm89")``.
    smallest, usual, largest : (height, width)
        Sizes of frames that the engine is to take, for a model of dynamic size.

    Returns
    -------
    Path
        ``<name>.rtx-<version>.<gpus>.<precision>.engine``; beside it the card as ``.json``, with the SHA-256 of
        model and engine.

    Raises
    ------
    LrpEdgeError
        If TensorRT-RTX is not installed, a compute capability is unknown, the file is no export of this toolkit,
        or the builder refuses the graph.
    """
    model = Path(model)
    card = card_of(model)
    with needs_extra("rtx"):
        import tensorrt_rtx as trt
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, logger, model)
    config = builder.create_builder_config()
    _set_gpus(trt, config, gpus)
    config.add_optimization_profile(_profile(builder, network, card, smallest, usual, largest))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise LrpEdgeError(f"{model}: TensorRT-RTX cannot build an engine: {logger.last}")
    name = f"{model.stem}.rtx-{trt.__version__}.{'-'.join(gpus)}.{card.precision}.engine"
    return _write(engine, Path(output or model.parent) / name, model, card)


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps the builder's errors for the exception, and its chatter off the terminal."""

        def __init__(self) -> None:
            super().__init__()
            self.last = "it gives no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.last = " ".join(message.split())

    return Logger()


def _parse(trt: Any, network: Any, logger: Any, model: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        error = parser.get_error(0)
        raise LrpEdgeError(
            f"{model}: TensorRT-RTX cannot take node {error.node_name()!r} ({error.node_operator()}): "
            f"{' '.join(error.desc().split())}"
        )


def _set_gpus(trt: Any, config: Any, gpus: Sequence[str]) -> None:
    known = {name.lower(): value for name, value in trt.ComputeCapability.__members__.items() if name.startswith("SM")}
    for gpu in gpus:
        if gpu not in known:
            raise LrpEdgeError(
                f"TensorRT-RTX {trt.__version__} knows no GPU {gpu!r}; expected some of {', '.join(known)}"
            )
    config.num_compute_capabilities = len(gpus)
    for index, gpu in enumerate(gpus):
        config.set_compute_capability(known[gpu], index)


def _profile(
    builder: Any,
    network: Any,
    card: ModelCard,
    smallest: tuple[int, int],
    usual: tuple[int, int],
    largest: tuple[int, int],
) -> Any:
    batch = card.input.max_batch
    sizes = [card.input.size] * 3 if card.input.size else [smallest, usual, largest]
    shapes = [(n, *size, card.input.channels) for n, size in zip((1, 1, batch), sizes, strict=True)]
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *shapes)
    return profile


def _write(engine: Any, path: Path, model: Path, card: ModelCard) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as scratch:
            draft, side = Path(scratch, path.name), Path(scratch, path.name).with_suffix(".json")
            draft.write_bytes(engine)
            hashes = {"model": model.name, "model_sha256": sha256(model), "engine_sha256": sha256(draft)}
            card = card.replace(provenance={**card.provenance, **hashes})
            side.write_text(card.to_json(indent=2) + "\n")
            for file in (draft, side):
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise LrpEdgeError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    return path
