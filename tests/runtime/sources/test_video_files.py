"""Videos whose containers count their frames wrongly are read to their end; those that were cut are noticed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.line import build, run
from lrp_edge.runtime.sources import Frame, open_source
from lrp_edge.runtime.sources.containers import is_cut, is_iso, is_trimmed

av = pytest.importorskip("av", reason="PyAV is not installed")

RATE = 25
EVERY = range(40)
#: A rate that varies: behind the twentieth only each seventh.
SOME = [index for index in EVERY if index <= 20 or index % 7 == 0]
CODECS = {"mp4": "libx264", "webm": "libvpx", "mpg": "mpeg2video", "ts": "mpeg2video"}


def video(
    path: Path,
    places: Sequence[int] = EVERY,
    *,
    sound: float = 0.0,
    shift: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames at some places in time, beside sound of some seconds; those before the beginning are not shown."""
    suffix = path.suffix[1:]
    with av.open(str(path), "w", options=options or {}) as container:
        codec = CODECS.get(suffix, "mjpeg")
        stream = container.add_stream(codec, rate=RATE, options={"g": "10", "bf": "0"} if codec == "libx264" else {})
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        voice = container.add_stream("aac" if suffix == "mp4" else "pcm_s16le", rate=8000) if sound else None
        packets = []
        for place in places:
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 5 * place, np.uint8), format="bgr24")
            frame.pts, frame.time_base = place, Fraction(1, RATE)
            packets += stream.encode(frame)
        for packet in packets + stream.encode():
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            container.mux(packet)
        if voice is not None:
            silence(container, voice, sound)
    return path


def silence(container: object, voice: object, seconds: float) -> None:
    for index in range(int(seconds * 8000 / 1024)):
        kind, form = (np.float32, "fltp") if voice.codec.name == "aac" else (np.int16, "s16")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), kind), format=form, layout="mono")
        frame.sample_rate, frame.pts = 8000, index * 1024
        container.mux(voice.encode(frame))
    container.mux(voice.encode())


def cut(path: Path, share: float = 2 / 3) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def trimmed(path: Path) -> Path:
    return video(path, shift=5)


def all_of(path: Path) -> Path:
    return video(path)


def varying(path: Path) -> Path:
    return video(path, SOME)


def with_sound(path: Path) -> Path:
    return video(path, sound=5.0)


def unending(path: Path) -> Path:
    return video(path, options={"live": "1"})


def fragmented(path: Path) -> Path:
    return video(path, options={"movflags": "frag_keyframe+empty_moov"})


def index_first(path: Path) -> Path:
    return video(path, options={"movflags": "+faststart"})


WHOLE = [
    *[(all_of, suffix, 40) for suffix in ("mkv", "avi", "mov", "mp4", "webm", "mpg", "ts")],
    *[(varying, suffix, len(SOME)) for suffix in ("mkv", "avi", "mov", "mp4", "webm", "mpg")],
    *[(with_sound, suffix, 40) for suffix in ("mkv", "avi", "mov", "mp4")],
    (unending, "mkv", 40),
    (fragmented, "mp4", 40),
    (index_first, "mp4", 40),
    (trimmed, "mp4", 35),
]


def frames_of(path: Path) -> list[Frame]:
    return list(open_source(str(path)))


def refusal(path: Path) -> str:
    """Return why a video cannot be opened; empty if it can."""
    try:
        open_source(str(path))
    except LrpEdgeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("make", "suffix", "count"), [whole for whole in WHOLE if whole[1] != "ts"])
def test_a_whole_video_is_read_to_its_end(
    make: Callable[[Path], Path], suffix: str, count: int, model: Path, tmp_path: Path
) -> None:
    path = make(tmp_path / f"line.{suffix}")
    assert not is_cut(path)
    frames = frames_of(path)
    assert [frame.error for frame in frames] == [""] * count
    first = 5 if make is trimmed else 0
    places = SOME if make is varying else EVERY[first:]
    assert [frame.image.mean() for frame in frames] == pytest.approx([5 * place for place in places], abs=4)
    values = {"model": model, "threads": 1, "source": {"uri": str(path)}, "output": {"folder": tmp_path / "out"}}
    assert run(build(values)).counters.segmented == count


def test_a_count_that_is_not_reached_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    frames_of(video(tmp_path / "line.mkv", SOME))
    assert f"{tmp_path / 'line.mkv'}: {len(SOME)} of 36 frames, and the file is whole" in caplog.text


@pytest.mark.parametrize("share", [0.5, 0.8, 0.98])
@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        *[(all_of, suffix) for suffix in ("mkv", "avi", "webm")],
        (varying, "mkv"),
        (with_sound, "mkv"),
        (index_first, "mp4"),
        (fragmented, "mp4"),
    ],
)
def test_a_video_that_was_cut_is_noticed(
    make: Callable[[Path], Path], suffix: str, share: float, model: Path, tmp_path: Path
) -> None:
    path = cut(make(tmp_path / f"line.{suffix}"), share)
    assert is_cut(path)
    if why := refusal(path):
        # Of an mp4 that has lost much, OpenCV may read none.
        assert "without a frame that can be decoded" in why
        return
    *frames, last = frames_of(path)
    assert all(frame.image is not None for frame in frames)
    assert last.image is None
    assert f"{path} is cut short: it ends after {len(frames)} " in last.error
    values = {"model": model, "threads": 1, "source": {"uri": str(path)}, "output": {"folder": tmp_path / "out"}}
    with pytest.raises(LrpEdgeError, match="is cut short"):
        run(build(values))
    done = run(build({**values, "pipeline": {"skip_bad": True}, "output": {"folder": tmp_path / "more"}}))
    assert (done.counters.segmented, done.counters.unreadable) == (len(frames), 1)


def test_an_mp4_whose_frames_are_damaged_is_noticed(tmp_path: Path) -> None:
    path = video(tmp_path / "line.mp4")
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat")
    length = int.from_bytes(data[begin - 4 : begin], "big")
    # As a download leaves it that had its size from the start.
    data[begin + length // 2 : begin + length - 8] = bytes(length - 8 - length // 2)
    path.write_bytes(data)
    assert not is_cut(path)
    *frames, last = frames_of(path)
    assert last.error == f"{path} ends after {len(frames)} of 40 frames"


@pytest.mark.parametrize(("make", "suffix", "count"), WHOLE)
def test_only_what_was_cut_counts_as_cut(make: Callable[[Path], Path], suffix: str, count: int, tmp_path: Path) -> None:
    path = make(tmp_path / f"line.{suffix}")
    assert not is_cut(path)
    assert is_trimmed(path) == (make is trimmed)
    assert is_iso(path) == (suffix in ("mp4", "mov"))
    # Something that stands behind the end is nothing that is missing.
    path.write_bytes(path.read_bytes() + bytes(100))
    assert not is_cut(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from([b"", b"\0\0\0\x08ftyp", b"\0\0\0\0moov", b"RIFF", b"\x1aE\xdf\xa3\x80\x18S\x80g"]),
    parts=st.lists(
        st.one_of(
            st.binary(max_size=24),
            st.sampled_from([b"moov", b"trak", b"mdia", b"elst", b"\0\0\0\x10", b"\xff" * 8, b"\0\0\0\1", b"mvhd"]),
        ),
        max_size=30,
    ),
)
def test_no_bytes_are_too_odd(head: bytes, parts: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(head + b"".join(parts))
    assert is_cut(path) in (True, False)
    assert is_trimmed(path) in (True, False)
