"""The library for 64-bit ARM: cross-compiled, and run in an emulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.support import cpp_build
from tests.support.runtime_graphs import expected

SYSROOT = Path("/usr/aarch64-linux-gnu")
PLATFORM = "manylinux_2_28_aarch64"
# The emulator shows the machine's own processor in /proc/cpuinfo, which ONNX Runtime does not survive.
PROCESSOR = """processor\t: 0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd07
CPU revision\t: 0

"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with the ONNX Runtime of the same version for ARM."""
    cpp_build.require("aarch64-linux-gnu-g++")
    root = cpp_build.ONNXRUNTIME.with_name("onnxruntime-aarch64")
    if not (root / f"lib/libonnxruntime.so.{onnxruntime.__version__}").is_file():
        wheel = download(tmp_path_factory.mktemp("wheel"))
        cpp_build.command(sys.executable, cpp_build.SOURCE / "tools/onnxruntime_from_debian.py", root, wheel)
    return cpp_build.build("aarch64", f"-DONNXRUNTIME_ROOT={root}")


def download(target: Path) -> Path:
    wanted = f"onnxruntime=={onnxruntime.__version__}"
    options = ["--no-deps", "--only-binary", ":all:", "--platform", PLATFORM, "--python-version", "3.11"]
    options += ["--retries", "1", "--timeout", "30"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", wanted, *options, "--dest", target],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.skip(f"no onnxruntime for ARM: {done.stderr.strip().splitlines()[-1]}")
    return next(target.glob("*.whl"))


def test_library_is_for_arm(folder: Path) -> None:
    said = cpp_build.command("readelf", "-h", "-d", folder / "liblrp_edge.so")
    assert "AArch64" in said
    assert "libonnxruntime.so.1" in said


@pytest.fixture
def emulator(tmp_path: Path) -> list[str]:
    cpp_build.require("qemu-aarch64-static")
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(PROCESSOR)
    (root / "lib").symlink_to(SYSROOT / "lib")
    return ["qemu-aarch64-static", "-L", str(root)]


def test_it_answers_as_numpy_says(folder: Path, emulator: list[str], model: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (3, 40, 31, 3), dtype=np.uint8) // np.uint8(
        [[[[1]]], [[[2]]], [[[4]]]]
    )
    given = cpp_build.write_calls(tmp_path / "frames.bin", [frames])
    cpp_build.command(*emulator, folder / "tests/lrp_edge_dump", model, given, tmp_path / "answers.bin", 5)
    found = list(cpp_build.read_answers(tmp_path / "answers.bin", [(40, 31)] * 3, 2))
    for answer, frame in zip(found, frames, strict=True):
        scores, label, mask, relevance = expected(frame)
        assert answer.label == label
        np.testing.assert_allclose(answer.scores, scores, atol=1e-5)
        np.testing.assert_allclose(answer.relevance, relevance, rtol=1e-6)
        sure = np.abs(relevance - 160) > 1e-3
        np.testing.assert_array_equal(answer.mask[sure], mask[sure])
        assert sum(region.area for region in answer.regions) == np.count_nonzero(answer.mask)


def test_c_interface(folder: Path, emulator: list[str], model: Path) -> None:
    said = cpp_build.command(*emulator, folder / "tests/lrp_edge_c_interface", model)
    assert said.endswith("0 failures\n")
