"""A line with everything that it may have, for minutes or days: what grows, and whether results get older.

``python -m tools.soak --minutes 10`` starts an RTSP camera, a broker, a viewer's client and ``lrp-edge run`` as a user
does, looks at the process twice a second, and says whether memory, threads, handles and latency stay constant. It
ends with 1 if they do not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import psutil

from tests.support.brokers import broker
from tests.support.programs import free_port
from tests.support.runtime_graphs import brightness_card, brightness_graph
from tests.support.scripted import until
from tests.support.servers import rtsp_server

SIZE, FPS = (480, 640), 25
#: The first share of the time is warming up: allocators, caches of codecs and of the engine fill.
WARM = 0.2
MOST_GROWTH, MOST_AGEING = 0.02, 0.10


def main() -> int:
    """Run a line for the asked time and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        onnx.save(brightness_graph(brightness_card(), 3, None), folder / "model.onnx")
        camera = stack.enter_context(rtsp_server("ball", SIZE, FPS))
        server = stack.enter_context(broker(folder / "broker"))
        with started(folder, camera.address, server.port) as process:
            seen = watch(process, minutes * 60)
        return report(seen, latencies(folder / "out" / "results.jsonl"))


@contextlib.contextmanager
def started(folder: Path, camera: str, broker_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start the line with a client of its viewer, and end it by SIGTERM."""
    port, done = free_port(), threading.Event()
    outputs = ("--images", "all", "--budget-mb", "20", "--view", str(port), "--mqtt", f"mqtt://127.0.0.1:{broker_port}")
    command = [sys.executable, "-m", "lrp_edge", "run", folder / "model.onnx", "--source", camera, "-o", folder / "out"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*map(str, command), "--threads", "1", *outputs], stdout=log, stderr=log)
    client = threading.Thread(target=look, args=(port, done))
    client.start()
    try:
        until(lambda: (folder / "out" / "results.jsonl").exists(), 60, (folder / "log").read_text)
        yield process
    finally:
        done.set()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        client.join()


def look(port: int, done: threading.Event) -> None:
    """Behave like a browser with the viewer's page open."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        while not done.is_set():
            with contextlib.suppress(httpx.HTTPError), client.stream("GET", "/events") as events:
                for text in events.iter_lines():
                    if done.is_set():
                        return
                    if text.startswith("data:"):
                        frame = json.loads(text[5:]).get("frame", {}).get("id")
                        for layer in ("frame.jpg", "relevance.png", "mask.png"):
                            client.get(f"/live/{frame}/{layer}")
            done.wait(0.5)


def watch(line: subprocess.Popen[bytes], seconds: float) -> dict[str, np.ndarray]:
    """Return the process's memory in bytes, threads and handles, twice a second."""
    process, end = psutil.Process(line.pid), time.monotonic() + seconds
    seen: dict[str, list[float]] = {"memory": [], "threads": [], "handles": []}
    while time.monotonic() < end:
        if line.poll() is not None:
            raise SystemExit(f"the line ended by itself with {line.returncode}")
        seen["memory"].append(process.memory_info().rss)
        seen["threads"].append(process.num_threads())
        seen["handles"].append(process.num_fds())
        time.sleep(0.5)
    return {name: np.array(values) for name, values in seen.items()}


def latencies(path: Path) -> np.ndarray:
    """Return milliseconds from capture to result of each frame."""
    return np.array([json.loads(line).get("latency_ms", np.nan) for line in path.read_text().splitlines()])


def ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last fifth of the values after warm-up."""
    steady = values[int(WARM * len(values)) :]
    fifth = max(1, len(steady) // 5)
    return steady[:fifth], steady[-fifth:]


def report(seen: dict[str, np.ndarray], times: np.ndarray) -> int:
    """Print first and last figures, and return 1 if one has grown too much."""
    faults = []
    first, last = (float(np.median(part)) for part in ends(seen["memory"]))
    growth = last / first - 1
    print(f"memory   {first / 2**20:8.1f} MiB at first, {last / 2**20:8.1f} MiB in the end: {growth:+.2%}")
    if abs(growth) > MOST_GROWTH:
        faults.append(f"memory changed by {growth:+.2%}; at most {MOST_GROWTH:.0%} is flat")
    for name in ("threads", "handles"):
        before, after = (int(part.max()) for part in ends(seen[name]))
        print(f"{name:8} {before:8d} at first, {after:8d} in the end")
        if after > before:
            faults.append(f"{name} grew from {before} to {after}")
    usual = [float(np.nanmedian(part)) for part in ends(times)]
    print(f"p50      {usual[0]:8.2f} ms at first, {usual[1]:8.2f} ms in the end: {usual[1] / usual[0] - 1:+.1%}")
    first, last = (float(np.nanpercentile(part, 99)) for part in ends(times))
    print(f"p99      {first:8.2f} ms at first, {last:8.2f} ms in the end: {last / first - 1:+.1%}; {len(times)} frames")
    if last > first * (1 + MOST_AGEING):
        faults.append(f"p99 rose by {last / first - 1:.1%}; at most {MOST_AGEING:.0%} is flat")
    print("\n".join(faults) or "flat")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
