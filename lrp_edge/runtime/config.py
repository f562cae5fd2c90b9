"""Every option of a line, and the TOML file that holds them; an error names the line where it stands."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lrp_edge.options import MOST_PIXELS, OptionGroup, PictureOptions, frame_size, option, read_toml

Which = Literal["all", "defects"]

# Bytes that a text of MQTT may have, and what of a topic is left for its prefix.
_LONGEST_TEXT = 65_535
_LONGEST_TOPIC = _LONGEST_TEXT - len("/verdict")
# Seconds that anything is waited for.
_DAY = 86_400


def is_mqtt_text(text: str, most: int = _LONGEST_TEXT) -> bool:
    """Whether MQTT can carry a text, up to a number of bytes, and no broker refuses it for its characters."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size <= most and not any(unicodedata.category(sign) == "Cc" or _is_noncharacter(sign) for sign in text)


def is_topic(prefix: str) -> bool:
    """Whether MQTT has topics with a prefix, those of the line, and a broker takes messages for them."""
    system = prefix.partition("/")[0] == "$SYS"
    return (
        is_mqtt_text(prefix, _LONGEST_TOPIC) and prefix == prefix.strip("/") and not system and not {*"+#"} & {*prefix}
    )


def _is_noncharacter(sign: str) -> bool:
    return ord(sign) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(sign) <= 0xFDEF


def _in_frame(roi: tuple[int, int, int, int]) -> bool:
    return min(roi[:2]) >= 0 and min(roi[2:]) >= 1 and max(roi) <= MOST_PIXELS


@dataclass(frozen=True)
class SourceOptions(PictureOptions, panel="Source"):
    """What is asked of a source."""

    size: tuple[int, int] | None = frame_size(
        "Size of the frames in pixels, requested from a camera; other sizes, and files, are resized to it."
    )
    fps: float | None = option(
        None, "Frames per second, asked of a camera; files are read at this rate.", least=0.01, most=10_000
    )
    roi: tuple[int, int, int, int] | None = option(
        None,
        "Part of the frame that is used, in pixels, before rotation and resizing.",
        check=_in_frame,
        called="region of interest is",
        expected="x,y,width,height with x and y of 0 or more, and a width and height of 1 or more",
        metavar="X,Y,WIDTH,HEIGHT",
    )
    rotate: int = option(
        0,
        "Degrees clockwise, after cropping.",
        choices=(0, 90, 180, 270),
        called="rotation is",
    )
    loop: bool = option(False, "Start again at the end of the files.")
    hardware: bool = option(False, "Decode in hardware where available.")
    timeout: float = option(
        5.0, "Seconds without a frame after which a camera counts as lost.", above=0, most=_DAY, metavar="SECONDS"
    )
    credentials: Path | None = option(
        None,
        "File whose first line is user:password of the camera, in place of LRP_EDGE_SOURCE_USER and "
        "LRP_EDGE_SOURCE_PASSWORD of the environment.",
    )


@dataclass(frozen=True)
class SourceTable(SourceOptions):
    """Where frames come from; see :func:`~lrp_edge.runtime.sources.open_source` for the address."""

    uri: str = option(
        "",
        "Image, folder, glob, video, or camera: 0, v4l2://, csi://, rtsp://, http://, gst://, aravis://.",
        flag="--source",
        metavar="URI",
    )


@dataclass(frozen=True)
class PipelineOptions(OptionGroup, panel="Pipeline"):
    """How frames go through."""

    policy: Literal["latest", "lossless"] | None = option(
        None,
        "When frames come faster than the engine takes them: drop stale ones and count them, or let the source wait.",
        usual="latest for cameras, else lossless",
    )
    batch: int = option(1, "Maximum number of frames in one call of the engine.", least=1, most=4096)
    batch_wait_ms: float = option(
        0.0,
        "Milliseconds that the first frame of a call waits for others.",
        least=0,
        most=60_000,
        flag="--batch-wait",
        metavar="MS",
    )
    queue: int | None = option(
        None,
        "Frames that may wait for the engine.",
        least=1,
        most=100_000,
        usual="one call's for latest, 8 or two calls' for lossless",
    )
    skip_bad: bool | None = option(
        None,
        "Continue after a frame that cannot be read or on which the engine fails; it gets a line with its error.",
        usual="for cameras",
    )
    wait: bool = option(False, "Keep trying if a camera is missing at the start.")
    stall: float = option(
        10.0, "Seconds after which a stalled stage is reported; 0 for never.", least=0, most=_DAY, metavar="SECONDS"
    )
    drain: float = option(
        5.0,
        "Seconds at the end for a sink that is not waited for to deliver its remaining results.",
        least=0,
        most=_DAY,
        flag="",
        metavar="SECONDS",
    )


@dataclass(frozen=True)
class TilesTable(OptionGroup, panel="Tiles"):
    """Frames in tiles; see :class:`~lrp_edge.runtime.tiles.Tiler`."""

    size: tuple[int, int] | None = frame_size(
        "Run large frames in tiles of this many pixels; without it frames are not cut.", flag="--tile"
    )
    overlap: float = option(0.25, "Overlap of neighbouring tiles, as a share of their size.", least=0, most=0.9)
    vote: Literal["any", "majority", "mean"] = option("any", "How the tiles' classes become the frame's.")


@dataclass(frozen=True)
class VerdictTable(OptionGroup, panel="Verdict"):
    """How masks become verdicts; see :class:`~lrp_edge.runtime.pipeline.Judgement`."""

    reject_if: str | None = option(
        None, "When a part is rejected, e.g. 'any region > 2.5 mm2'.", usual="a defect is decided", metavar="RULE"
    )
    min_area: int = option(
        1, "Area of the smallest region that counts, in pixels.", least=1, most=MOST_PIXELS, metavar="PIXELS"
    )
    mm_per_px: float | None = option(
        None,
        "Side of a pixel in millimetres.",
        least=1e-6,
        most=1_000_000,
        called="millimetres per pixel are",
        metavar="MM",
    )
    most_regions: int = option(
        1000,
        "Regions of a frame that are listed, the largest; verdict and totals are those of all.",
        least=1,
        most=100_000,
    )


@dataclass(frozen=True)
class OutputTable(OptionGroup, panel="Output"):
    """Files that are written."""

    folder: Path | None = option(
        None,
        "Folder for results.jsonl, events.jsonl, masks/ and overlays/.",
        flag="--output",
        short="-o",
        metavar="FOLDER",
    )
    images: Literal["all", "defects", "none"] = option("all", "Frames whose images are written.")
    overlays: bool = option(True, "Draw overlays among them.")
    budget_mb: float | None = option(
        None,
        "Maximum size of the images in megabytes; the oldest are removed for new ones.",
        least=0.1,
        most=1_000_000_000,
        metavar="MB",
    )
    video: Path | None = option(None, "Write a video of the overlays.", metavar="FILE")
    annotations: Literal["coco", "labelme", "labelstudio"] | None = option(
        None, "Write frames and outlines for a labelling tool into annotations/, to correct them and train on them."
    )
    annotated: Which = option("all", "Frames that are written for it.")
    existing: Literal["refuse", "append", "overwrite"] = option("refuse", "What to do with existing results.", flag="")


@dataclass(frozen=True)
class MqttTable(OptionGroup, panel="Network"):
    """A broker that gets results; see :class:`~lrp_edge.runtime.sinks.mqtt.Mqtt`."""

    url: str | None = option(
        None, "Send results to a broker, mqtt://HOST[:PORT] or mqtts://.", flag="--mqtt", metavar="URL"
    )
    topic: str = option(
        "lrp-edge",
        "Prefix of the broker's topics.",
        check=is_topic,
        expected=f"e.g. plant/line-1: up to {_LONGEST_TOPIC} bytes, without + and #, no / at its ends, not $SYS",
        flag="--mqtt-topic",
    )
    only: Which = option("all", "Which results are sent to the broker.", flag="")
    outbox: int = option(
        1000,
        "Results and events that may wait for the broker; further ones are refused.",
        least=1,
        most=1_000_000,
        flag="",
    )
    client_id: str | None = option(
        None,
        "Name of the line to the broker; by default a random one.",
        check=is_mqtt_text,
        expected=f"1 to {_LONGEST_TEXT} bytes of text",
        flag="",
    )
    credentials: Path | None = option(None, "File whose first line is user:password of the broker.", flag="")
    ca: Path | None = option(
        None, "PEM file of the authority that signed the broker's certificate.", usual="the system's", flag=""
    )
    cert: Path | None = option(None, "PEM file with the line's own certificate and its key.", flag="")


@dataclass(frozen=True)
class WebhookTable(OptionGroup, panel="Network"):
    """A web address that gets results; see :class:`~lrp_edge.runtime.sinks.webhook.Webhook`."""

    url: str | None = option(None, "Post defects to this web address.", flag="--webhook", metavar="URL")
    only: Which = option("defects", "Which results are posted.", flag="")
    timeout: float = option(
        5.0, "Seconds for a whole request, up to the status of its answer.", above=0, most=3600, flag=""
    )
    retries: int = option(3, "Number of retries for one result.", least=0, most=1000, flag="")
    image: bool = option(False, "Post the overlay too, as a JPEG in base64 under image.", flag="")


@dataclass(frozen=True)
class ViewerTable(OptionGroup, panel="Viewer"):
    """The page to look at the line; see :class:`~lrp_edge.runtime.viewer.Viewer`."""

    listen: str | None = option(
        None,
        "Serve the viewer's page; to this machine only unless a host is given.",
        flag="--view",
        metavar="[HOST:]PORT",
    )
    token_file: Path | None = option(
        None,
        "File with the token that visitors of the page need, in place of LRP_EDGE_VIEW_TOKEN of the environment.",
        flag="--view-token-file",
        metavar="FILE",
    )
    thumbnails: int = option(24, "Defects that the page keeps.", least=0, most=10_000, flag="")


@dataclass(frozen=True)
class Line(OptionGroup, panel="Model"):
    """An inspection line; the tables of a configuration file have the names and fields of this."""

    model: Path = option(help="A file of lrp-edge export or lrp-edge compile.", flag="")
    provider: str | None = option(
        None,
        "What runs an ONNX file: cpu, cuda, tensorrt, nv_tensorrt_rtx or openvino.",
        usual="cuda, else cpu",
        metavar="NAME",
    )
    threads: int | None = option(None, "Threads of one call on the CPU.", least=1, most=256)
    show: bool = option(False, "Open a window.", panel="Viewer")
    source: SourceTable = field(default_factory=SourceTable)
    pipeline: PipelineOptions = field(default_factory=PipelineOptions)
    tiles: TilesTable = field(default_factory=TilesTable)
    verdict: VerdictTable = field(default_factory=VerdictTable)
    output: OutputTable = field(default_factory=OutputTable)
    mqtt: MqttTable = field(default_factory=MqttTable)
    webhook: WebhookTable = field(default_factory=WebhookTable)
    viewer: ViewerTable = field(default_factory=ViewerTable)


def read_config(path: str | Path) -> dict[str, Any]:
    """Read and check a configuration file.

    Parameters
    ----------
    path : path
        A TOML file, whose tables and keys are those of :class:`Line`. Paths in it are relative to its own folder.

    Returns
    -------
    dict
        Its values by table and key, as :func:`~lrp_edge.runtime.line.build` takes them.

    Raises
    ------
    LrpEdgeError
        If it cannot be read, is no TOML, or has a key that is not known or a value that cannot be; with the line.
    """
    values = read_toml(path, Line, extra="config", relative=True)
    uri = values.get("source", {}).get("uri", "")
    if uri and "://" not in uri and not uri.isdecimal():
        values["source"]["uri"] = str(Path(path).resolve().parent / uri)
    return values
