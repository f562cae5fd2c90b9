"""Frames from RTSP and HTTP servers that the tests start, kill, freeze, and let send what is broken."""

from __future__ import annotations

import io
import itertools
import logging
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.result import Frame
from lrp_edge.runtime.sources import SourceOptions, open_source
from tests.support.scripted import until
from tests.support.servers import (
    RtspServer,
    cut,
    drain,
    jpeg,
    loss,
    mjpeg_server,
    noise,
    rtsp_server,
    stream_server,
    take,
)

av = pytest.importorskip("av", reason="PyAV (extra camera) is not installed")

# The seven bars of SMPTE's pattern, from the left, in BGR.
BARS = np.uint8([[255, 255, 255], [0, 255, 255], [255, 255, 0], [0, 255, 0], [255, 0, 255], [0, 0, 255], [255, 0, 0]])


@pytest.fixture(scope="module")
def bars() -> Iterator[RtspServer]:
    """A camera that shows colour bars."""
    with rtsp_server("smpte", (240, 322)) as server:
        yield server


@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
@pytest.mark.parametrize("transport", ["", "#transport=udp"])
def test_rtsp_frames_are_what_the_server_draws(bars: RtspServer, order: str, transport: str) -> None:
    expected = {"BGR": BARS, "RGB": BARS[:, ::-1], "GRAY": cv2.cvtColor(BARS[None], cv2.COLOR_BGR2GRAY)[0, :, None]}
    before = time.perf_counter()
    frames = take(bars.address + transport, 5, order)
    centres = [int(322 * (bar + 0.5) / 7) for bar in range(7)]
    for index, frame in enumerate(frames):
        assert (frame.index, frame.source, frame.error) == (index, bars.address + transport, "")
        assert frame.image.shape == (240, 322, len(expected[order][0]))
        np.testing.assert_allclose(frame.image[60, centres].astype(int), expected[order], atol=4)
    captured = [frame.captured for frame in frames]
    assert captured == sorted(captured)
    assert before < captured[0] <= captured[-1] < time.perf_counter()
    assert all(abs(frame.timestamp - time.time()) < 60 for frame in frames)


@pytest.mark.parametrize("order", ["BGR", "GRAY"])
def test_dark_and_bright_keep_their_whole_range(order: str) -> None:
    for pattern, value in (("black", 0), ("white", 255)):
        with rtsp_server(pattern, (720, 1280), fps=5) as server:
            frame = take(server.address, 1, order)[0]
        np.testing.assert_allclose(frame.image.astype(int), value, atol=2)


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_camera_that_is_gone_is_lost_and_comes_back(how: str) -> None:
    with rtsp_server("red", (120, 160)) as server:
        source = open_source(server.address, options=SourceOptions(timeout=3))
        frames = iter(source)
        next(frames)
        getattr(server, how)()
        taken, why, seconds = drain(frames)
        assert why.startswith(server.address)
        assert seconds < 20
        assert how == "kill" or (seconds > 1 and "no frame for 3 s" in why)
        assert all(frame.image is not None for frame in taken[:-1])
        server.kill()
        assert "refused" in loss(server.address)
        server.start()
        again = list(itertools.islice(source, 3))
    assert [frame.index for frame in again] == [0, 1, 2]
    assert all(frame.image.mean((0, 1)).argmax() == 2 for frame in again)


def test_interrupting_ends_it_before_the_next_frame(bars: RtspServer) -> None:
    source = open_source(bars.address)
    frames = iter(source)
    next(frames)
    timer = threading.Timer(0.2, source.interrupt)
    timer.start()
    taken = list(frames)
    timer.join()
    assert len(taken) < 60
    assert source.interrupted.is_set()


def test_nothing_is_left_behind(bars: RtspServer) -> None:
    def connections() -> int:
        return sum(bool(one.raddr) and one.raddr.port == bars.port for one in psutil.Process().net_connections("tcp"))

    take(bars.address, 1)
    threads = psutil.Process().num_threads()
    frames = iter(open_source(bars.address))
    next(frames)
    assert connections() == 1
    frames.close()
    assert connections() == 0
    until(lambda: psutil.Process().num_threads() <= threads)


def test_passwords_open_cameras_and_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "right").write_text("viewer:s3cr%t w@rd\n")
    (tmp_path / "wrong").write_text("viewer:wr0ng\n")
    caplog.set_level(logging.DEBUG)
    server_with = (
        rtsp_server("red", (120, 160), login="viewer:s3cr%t w@rd"),
        mjpeg_server([jpeg(noise(32, 48))], end="repeat", login="viewer:s3cr%t w@rd"),
    )
    for camera in server_with:
        with camera as server:
            shown = [take(server.address, 2, credentials=tmp_path / "right")[1].source]
            shown.append(drain(iter(open_source(server.address)))[1])
            shown.append(
                drain(iter(open_source(server.address, "BGR", SourceOptions(credentials=tmp_path / "wrong"))))[1]
            )
            shown.append(take(server.address.replace("//", "//viewer:s3cr%25t%20w%40rd@"), 1)[0].source)
            shown.append(loss(server.address.replace("//", "//viewer:wr0ng@")))
            with monkeypatch.context() as environment:
                environment.setenv("LRP_EDGE_SOURCE_USER", "viewer")
                environment.setenv("LRP_EDGE_SOURCE_PASSWORD", "s3cr%t w@rd")
                shown.append(take(server.address, 1)[0].source)
        assert sum("401" in text for text in shown) == 3
        for text in (*shown, caplog.text):
            assert not any(secret in text for secret in ("s3cr", "w@rd", "w%40rd", "wr0ng", "viewer"))


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("order", ["BGR", "RGB", "GRAY"])
def test_truncated_jpegs_are_counted_and_never_shown(order: str, length: bool) -> None:
    images = [noise(96, 130, seed=seed) for seed in range(12)]
    broken = {1, 4, 5, 10}
    jpegs = [cut(jpeg(image)) if index in broken else jpeg(image) for index, image in enumerate(images)]
    # Without lengths a JPEG ends where the next one begins, so that the last one is never whole.
    with mjpeg_server([*jpegs, jpegs[0]], length=length) as server:
        frames, why, _ = drain(iter(open_source(server.address, order)))
    frames = frames[:12]
    assert [frame.index for frame in frames] == list(range(12))
    assert {frame.index for frame in frames if frame.image is None} == broken
    assert all(("cut short" in frame.error) == (frame.index in broken) for frame in frames)
    for frame in frames:
        if frame.image is not None:
            shown = cv2.imdecode(np.frombuffer(jpegs[frame.index], np.uint8), cv2.IMREAD_COLOR)
            expected = {
                "BGR": shown,
                "RGB": shown[..., ::-1],
                "GRAY": cv2.cvtColor(shown, cv2.COLOR_BGR2GRAY)[..., None],
            }
            assert np.abs(frame.image.astype(int) - expected[order]).mean() < 2
    assert server.address in why


def test_a_jpeg_whose_middle_is_missing_is_not_shown() -> None:
    whole = jpeg(noise(96, 130))
    hole = whole[: len(whole) // 2] + whole[-2:]
    with mjpeg_server([whole, hole, b"no JPEG at all", whole]) as server:
        frames, _, _ = drain(iter(open_source(server.address)))
    assert [frame.image is None for frame in frames] == [False, True, True, False]


def test_a_size_that_changes_is_the_new_frames_size() -> None:
    jpegs = [jpeg(noise(*size)) for size in [(48, 64)] * 3 + [(60, 82)] * 3 + [(48, 64)] * 2]
    with mjpeg_server(jpegs) as server:
        frames, _, _ = drain(iter(open_source(server.address)))
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 3 + [(60, 82, 3)] * 3 + [(48, 64, 3)] * 2


def test_frames_stay_as_they_are_while_later_ones_come() -> None:
    images = [np.full((40, 50, 3), 20 * index, np.uint8) for index in range(12)]
    with mjpeg_server([jpeg(image) for image in images], fps=200) as server:
        frames, _, _ = drain(iter(open_source(server.address)))
    np.testing.assert_allclose([frame.image.mean() for frame in frames], [image.mean() for image in images], atol=1)


def test_the_cameras_own_parameters_reach_it() -> None:
    with mjpeg_server([jpeg(noise(32, 48))] * 3) as server:
        frame = take(f"{server.address}?channel=1&token=abc", 1)[0]
    assert server.paths == ["/stream?channel=1&token=abc"]
    assert frame.source.endswith("/stream?channel=1&token=***")


def test_a_server_that_stops_sending_or_sends_something_else() -> None:
    with mjpeg_server([jpeg(noise(32, 48))] * 3, end="hang") as server:
        frames, why, seconds = drain(iter(open_source(server.address, options=SourceOptions(timeout=1))))
        assert (len(frames), "no frame for 1 s" in why) == (3, True)
        assert 0.9 < seconds < 10
    with stream_server([b""], "multipart/x-mixed-replace; boundary=frame", end="hang") as server:
        assert (
            "does not answer within 1 s"
            in drain(iter(open_source(server.address, options=SourceOptions(timeout=1))))[1]
        )
    with stream_server([b"<html>no camera</html>"], "text/html") as server:
        assert "cannot be opened" in loss(server.address)
    with mjpeg_server([jpeg(noise(32, 48))]) as server:
        assert "404" in loss(server.address.replace("stream", "nothing"))


def transport_stream(count: int, rate: int = 25, slices: int = 1) -> list[bytes]:
    """Encode moving noise as H.264 with a key frame every twelve frames; return the packets, of 188 bytes each."""
    if "libx264" not in av.codecs_available:
        pytest.skip("PyAV has no encoder for H.264")
    ground = cv2.resize(noise(30, 60), (480, 240), interpolation=cv2.INTER_NEAREST)
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "12", "crf": "10", "slices": f"{slices}"}
        for index in range(count):
            image = np.ascontiguousarray(ground[:, index : index + 320])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    data = file.getvalue()
    return [data[at : at + 188] for at in range(0, len(data), 188)]


def received(packets: list[bytes]) -> list[Frame]:
    pieces = [b"".join(packets[at : at + 400]) for at in range(0, len(packets), 400)]
    with stream_server(pieces, "video/mp2t", fps=1000) as server:
        return drain(iter(open_source(server.address)))[0]


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_what_a_lost_packet_damages_is_not_shown_until_a_key_frame_after_it(slices: int) -> None:
    packets = transport_stream(60, slices=slices)
    whole = received(packets)
    clean = {frame.image.tobytes() for frame in whole}
    assert (len(whole), len(clean)) == (60, 60)
    draw = random.Random(0)
    for _ in range(16):
        lost = set(draw.sample(range(60, len(packets)), 2))
        frames = received([packet for at, packet in enumerate(packets) if at not in lost])
        unreadable = [frame for frame in frames if frame.image is None]
        # A key frame that follows a damaged frame is not trusted either.
        assert 1 <= len(unreadable) <= 2 * 25
        assert all("damaged" in frame.error for frame in unreadable)
        assert all(frame.image.tobytes() in clean for frame in frames if frame.image is not None)
        assert len(frames) >= 58


def test_a_stream_that_is_joined_in_its_middle_begins_with_a_key_frame() -> None:
    packets = transport_stream(60)
    clean = [frame.image.tobytes() for frame in received(packets)]
    frames = received(packets[:3] + packets[len(packets) // 8 :])
    assert all(not frame.error for frame in frames)
    first = clean.index(frames[0].image.tobytes())
    assert first in (12, 24)
    assert [frame.image.tobytes() for frame in frames] == clean[first:]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("rtsp://127.0.0.1:1/x#transprt=udp", "'transprt' is not known; did you mean transport"),
        ("rtsp://127.0.0.1:1/x#transport=sctp", "'sctp'; expected tcp or udp"),
        ("http://127.0.0.1:1/x#transport=udp", "nothing after #"),
    ],
)
def test_parameters_that_are_none(address: str, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=said):
        open_source(address)


def test_hardware_that_is_asked_for_is_told_of_once(bars: RtspServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lrp_edge.source")
    source = open_source(bars.address, options=SourceOptions(hardware=True))
    for _ in range(2):
        frame = next(iter(source))
        np.testing.assert_allclose(frame.image[60, 20].astype(int), BARS[0], atol=4)
    assert len([record for record in caplog.records if "decode" in record.getMessage()]) == 1
