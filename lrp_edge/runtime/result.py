"""What a source yields, what a model and a pipeline report about it, and what a pipeline reports about itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import as_text, needs_extra

if TYPE_CHECKING:
    from lrp_edge.runtime.regions import Region

#: Version of the lines of results.jsonl and events.jsonl, and of the payloads of MQTT and of webhooks.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame, or the note that it could not be read: no black or repeated image takes its place.

    Attributes
    ----------
    index : int
        Its position in the source, from 0; in a pipeline its id: counted over the whole run, reconnects included.
    source : str
        Where it is from, without credentials: a file; for a video with ``#`` and the frame's number; a camera.
    image : uint8 [H, W, C], or None
        Pixels in the asked channel order; None where there are none.
    timestamp : float
        When it was captured by the wall clock, in seconds since the epoch.
    captured : float
        The same moment by :func:`time.perf_counter`, which no clock adjustment moves.
    error : str
        Why there are no pixels.
    """

    index: int
    source: str
    image: NDArray[np.uint8] | None
    timestamp: float
    captured: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Segmentation:
    """Class and mask of one frame.

    Attributes
    ----------
    label : int
        Index of the decided class.
    name : str
        Its name.
    defect : bool
        Whether it counts as a defect.
    scores : float32 [K]
        Score of each class.
    mask : uint8 [H, W]
        255 where the defect is, else 0; empty for a frame without defect.
    relevance : float32 [H, W]
        Relevance of each pixel for the explained class.
    milliseconds : float
        Time of the engine's call, divided by the frames in it.
    """

    label: int
    name: str
    defect: bool
    scores: NDArray[np.float32]
    mask: NDArray[np.uint8]
    relevance: NDArray[np.float32]
    milliseconds: float


@dataclass(slots=True)
class Result:
    """A frame with what the model and the verdict rule say of it.

    Attributes
    ----------
    frame : Frame
        The frame.
    segmentation : Segmentation, or None
        What the model says; None for a frame without pixels or one on which the engine failed.
    regions : tuple of Region
        The largest regions of the mask, largest first.
    reject : bool
        The verdict.
    reason : str
        Why it is rejected.
    error : str
        Why there is no segmentation.
    queue_ms, engine_ms, latency_ms : float
        Time from capture to the engine's call, of the call (divided by its frames), and from capture to this result.
    mm_per_px : float, or None
        Side of a pixel in millimetres.
    files : dict of str to str
        Images of it, ``"mask"`` and ``"overlay"``, relative to the output folder.
    regions_found, regions_area : int
        Number and pixels of all regions, those that are not listed among them.
    """

    frame: Frame
    segmentation: Segmentation | None = None
    regions: tuple[Region, ...] = ()
    reject: bool = False
    reason: str = ""
    error: str = ""
    queue_ms: float = 0.0
    engine_ms: float = 0.0
    latency_ms: float = 0.0
    mm_per_px: float | None = None
    files: dict[str, str] = field(default_factory=dict)
    regions_found: int = 0
    regions_area: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        found, image = self.segmentation, self.frame.image
        arrays = (image, *((found.mask, found.relevance) if found else ()))
        return sum(array.nbytes for array in arrays if array is not None)

    def as_dict(self) -> dict[str, Any]:
        """Return the line of ``results.jsonl``; its fields are in ``docs/outputs.md``."""
        line: dict[str, Any] = {
            "schema": SCHEMA,
            "frame": self.frame.index,
            "source": as_text(self.frame.source),
            "time": iso(self.frame.timestamp),
            "captured": round(self.frame.captured, 6),
        }
        found = self.segmentation
        if found is None:
            return line | {"error": as_text(self.error)}
        with needs_extra("cpu"):
            import cv2
        return (
            line
            | {
                "label": found.label,
                "name": found.name,
                "defect": found.defect,
                "reject": self.reject,
                "reason": self.reason,
                "scores": [_finite(round(float(score), 6)) for score in found.scores],
                "mask_fraction": round(cv2.countNonZero(found.mask) / found.mask.size, 6),
                "regions": [region_dict(region, self.mm_per_px) for region in self.regions],
                **self._totals(),
                "queue_ms": round(self.queue_ms, 3),
                "engine_ms": round(self.engine_ms, 3),
                "latency_ms": round(self.latency_ms, 3),
            }
            | {kind: as_text(file) for kind, file in self.files.items()}
        )

    def _totals(self) -> dict[str, Any]:
        line: dict[str, Any] = {"regions_found": self.regions_found, "regions_area_px": self.regions_area}
        if self.mm_per_px is not None:
            line["regions_area_mm2"] = _squared(self.regions_area, self.mm_per_px)
        return line


def _finite(value: float) -> float | None:
    """Return a number as JSON takes it, which has no word for one that is not finite."""
    return value if math.isfinite(value) else None


def _squared(area: int, mm_per_px: float) -> float:
    """Return the mm² of an area in pixels."""
    return float(f"{area * mm_per_px**2:.6g}")


def region_dict(region: Region, mm_per_px: float | None) -> dict[str, Any]:
    """Return a region as JSON takes it, in millimetres too where the scale is known."""
    line: dict[str, Any] = {
        "box": [region.x, region.y, region.width, region.height],
        "area_px": region.area,
        "extent_px": round(region.extent, 2),
        "relevance": _finite(float(f"{region.relevance:.4g}")),
    }
    if mm_per_px is not None:
        line["area_mm2"] = _squared(region.area, mm_per_px)
        line["extent_mm"] = float(f"{region.extent * mm_per_px:.6g}")
    return line


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the pipeline itself.

    Attributes
    ----------
    kind : str
        One of ``started stopped lost reconnected changed stalled recovered unreadable failed dropped reopened``.
    stage : str
        ``source``, ``engine``, or a sink's name.
    message : str
        What happened, in a line without credentials.
    timestamp : float
        When, in seconds since the epoch.
    frame : int, or None
        Id of the frame that it is about.
    """

    kind: str
    stage: str
    message: str
    timestamp: float
    frame: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the line of ``events.jsonl``."""
        line: dict[str, Any] = {
            "schema": SCHEMA,
            "time": iso(self.timestamp),
            "kind": self.kind,
            "stage": self.stage,
            "message": as_text(self.message),
        }
        return line if self.frame is None else line | {"frame": self.frame}


def iso(timestamp: float) -> str:
    """Return seconds since the epoch as UTC in ISO 8601 with milliseconds."""
    moment = datetime.fromtimestamp(timestamp, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
