"""Set the decision's threshold again in an exported file, from a line's own OK frames; needs neither torch nor onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrp_edge.card import METADATA_KEY, THRESHOLD, ModelCard
from lrp_edge.decision import calibrate, check_rate, defect_probability
from lrp_edge.errors import LrpEdgeError
from lrp_edge.files import claim_folder, whole_pair
from lrp_edge.options import PictureOptions
from lrp_edge.runtime.config import TilesTable
from lrp_edge.runtime.engines.engine_file import EngineFile
from lrp_edge.runtime.onnx_edit import set_metadata, set_scalar
from lrp_edge.runtime.result import Segmentation
from lrp_edge.runtime.segmenter import Segmenter
from lrp_edge.runtime.sources import Source, SourceOptions, open_source
from lrp_edge.runtime.tiles import tiler_for

UInt8 = NDArray[np.uint8]
_WHOLE = TilesTable()


def calibrate_file(
    model: str | Path,
    ok_frames: str,
    rate: float = 0.02,
    *,
    output: str | Path | None = None,
    tiles: TilesTable = _WHOLE,
    provider: str | None = None,
    pictures: PictureOptions = PictureOptions(),
) -> ModelCard:
    """Set the threshold of an exported ONNX file by a budget of false alarms.

    Nothing but the threshold and the card changes. File and card appear under their names together, when both are
    whole, so that a line may be started from them at any moment.

    Parameters
    ----------
    model : path
        A file that ``lrp-edge export`` wrote.
    ok_frames : str
        OK frames, see :func:`~lrp_edge.runtime.sources.open_source`: none that the model was trained on.
    rate : float
        Share of OK frames that may be false alarms, above 0 and below 1.
    output : path, optional
        The new file; by default `model` itself. Its card is next to it, as ``.json``. Its folder is created if needed.
    tiles : TilesTable
        How the line cuts its frames into tiles, if it does: the rate is one of frames.
    provider : str, optional
        What runs the file, see :func:`~lrp_edge.runtime.engines.open_engine`.
    pictures : PictureOptions
        What files of frames do not say themselves.

    Returns
    -------
    ModelCard
        With the new decision.

    Raises
    ------
    LrpEdgeError
        If the file is an engine or has no threshold, a frame cannot be read or run, the frames are too few for the
        rate, or the file cannot be written.
    """
    path, target = Path(model), Path(output or model)
    check_rate(rate)
    if path.suffix == ".engine":
        raise _compiled_in(path)
    if tiles.size is not None and tiles.vote == "majority":
        raise LrpEdgeError("a frame has no P(defect) by the vote majority; calibrate, and run, with any or mean")
    data = path.read_bytes() if path.is_file() else b""
    with Segmenter(path, provider=provider) as segmenter:
        card = segmenter.card
        if card.decision is None:
            raise LrpEdgeError(
                f"{path} has no threshold to set: a version of lrp-edge before it exported the file; export it again"
            )
        claim_folder(target.parent)
        source = open_source(ok_frames, card.input.order, SourceOptions(**vars(pictures)))
        found = _probabilities(card, tiler_for(segmenter, tiles), source)
    card = card.replace(decision=calibrate(found, rate, f"OK frames of {Path(ok_frames).name}"))
    _write(target, data, card)
    return card


def engines_of(model: str | Path) -> list[str]:
    """Return the commands that build again the engines next to an ONNX file that were compiled from it."""
    path = Path(model)
    found = filter(None, map(_described, sorted(path.parent.glob("*.engine"))))
    return [file.rebuild() for file in found if file.card.engine.get("model") == path.name]


def _described(engine: Path) -> EngineFile | None:
    """Return what the card next to an engine says of it, without the engine's bytes."""
    side = engine.with_suffix(".json")
    if not side.is_file():
        return None
    return EngineFile(engine, b"", ModelCard.read(side))


def _compiled_in(path: Path) -> LrpEdgeError:
    file = _described(path)
    if file is None:
        return LrpEdgeError(
            f"{path} or its card ({path.stem}.json) is missing; calibrate the .onnx, and compile it again"
        )
    model = file.card.engine.get("model", "MODEL.onnx")
    return LrpEdgeError(
        f"{path} has its threshold compiled in; set that of {model}: lrp-edge calibrate {model} --ok-frames FRAMES, "
        f"and build the engine again: {file.rebuild()}"
    )


def _probabilities(card: ModelCard, segment: Callable[[UInt8], Segmentation], source: Source) -> list[float]:
    """Return P(defect) of each frame."""
    found = []
    if source.live:
        raise LrpEdgeError(f"{source.name} is a camera; give OK frames that were looked at: a folder, glob or video")
    for frame in source:
        if frame.image is None:
            raise LrpEdgeError(f"{frame.error}; fix it, or leave it out")
        try:
            found.append(float(defect_probability(card, segment(frame.image).scores)))
        except LrpEdgeError as error:
            raise LrpEdgeError(f"{frame.source}: {error}") from error
    return found


def _write(target: Path, data: bytes, card: ModelCard) -> None:
    assert card.decision is not None
    edited = set_metadata(set_scalar(data, THRESHOLD, card.decision.threshold), METADATA_KEY, card.to_json())
    with whole_pair(target, target.with_suffix(".json")) as (draft, side):
        draft.write_bytes(edited)
        side.write_text(card.to_json(indent=2) + "\n", encoding="utf-8")
