"""The C interface, through ctypes and from C."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lrp_edge.runtime import Segmenter
from lrp_edge.runtime.regions import find_regions
from tests.support import cpp_build
from tests.support.cpp_ctypes import BAD_ARGUMENT, ERROR, OK, Frame, Handle, Info, Options, Region, Result, frame_of


def frames(count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [rng.integers(0, 256, (30, 41, 3), dtype=np.uint8) // (1 + i % 3) for i in range(count)]


def array(pointer: ctypes._Pointer, shape: tuple[int, ...]) -> np.ndarray:  # type: ignore[type-arg]
    return np.ctypeslib.as_array(pointer, shape).copy()


def test_results_are_python_s(library: ctypes.CDLL, model: Path) -> None:
    given = frames()
    with Segmenter(model, provider="cpu", threads=1) as segmenter, Handle(library, model) as handle:
        status, results = handle.run([frame_of(frame) for frame in given])
        assert status == OK
        for result, expected in zip(results, segmenter.batch(given), strict=True):
            shape = (result.height, result.width)
            assert shape == expected.mask.shape
            assert (result.label, bool(result.defect)) == (expected.label, expected.defect)
            assert result.name.decode() == expected.name
            assert array(result.scores, (result.score_count,)).tobytes() == expected.scores.tobytes()
            assert array(result.mask, shape).tobytes() == expected.mask.tobytes()
            assert array(result.relevance, shape).tobytes() == expected.relevance.tobytes()
            found = [result.regions[i] for i in range(result.region_count)]
            for region, want in zip(found, find_regions(expected.mask, expected.relevance), strict=True):
                assert [getattr(region, name) for name, *_ in Region._fields_] == [
                    getattr(want, name) for name, *_ in Region._fields_
                ]
            assert result.milliseconds > 0


def test_rows_with_gaps(library: ctypes.CDLL, model: Path) -> None:
    wide = frames(1)[0]
    cut = np.ascontiguousarray(wide[:, 3:20])
    with Handle(library, model) as handle:
        given = Frame(ctypes.sizeof(Frame), wide[:, 3:].ctypes.data, 30, 17, 3, wide.strides[0])
        (result,) = handle.run([given])[1]
        with_gaps = array(result.relevance, (30, 17))
        (result,) = handle.run([frame_of(cut)])[1]
        assert with_gaps.tobytes() == array(result.relevance, (30, 17)).tobytes()
        np.testing.assert_allclose(with_gaps, cut.mean(2), rtol=1e-5)


def test_info_is_the_card(library: ctypes.CDLL, write_model: Callable[..., Path]) -> None:
    path = write_model("GRAY", (12, 16), 2)
    with Segmenter(path) as segmenter, Handle(library, path) as handle:
        info = handle.info()
        assert (info.provider, info.order) == (b"cpu", b"GRAY")
        assert (info.channels, info.height, info.width, info.max_batch, info.class_count) == (1, 12, 16, 2, 2)
        assert info.card_json.decode() == segmenter.card.to_json()
        names = [library.lrp_edge_class_name(handle.pointer, index) for index in range(3)]
        assert names == [b"ok", b"stain", None]


def test_regions_as_they_are_asked_for(library: ctypes.CDLL, model: Path) -> None:
    frame = np.zeros((20, 20, 3), np.uint8)
    frame[2:4, 2:4] = frame[10, 10] = frame[15, 3:6] = 255
    for wanted, min_area, areas in ((1, 1, [4, 3, 1]), (1, 3, [4, 3]), (1, 5, []), (0, 1, [])):
        options = Options(ctypes.sizeof(Options), b"cpu", 1, wanted, min_area)
        pointer, result = ctypes.c_void_p(), Result(ctypes.sizeof(Result))
        created = library.lrp_edge_create(str(model).encode(), ctypes.byref(options), ctypes.byref(pointer))
        assert created == OK
        given = frame_of(frame)
        assert library.lrp_edge_run(pointer, ctypes.byref(given), ctypes.byref(result)) == OK
        assert [result.regions[i].area for i in range(result.region_count)] == areas
        library.lrp_edge_destroy(pointer)


def test_structures_of_a_later_version_are_read_and_written_in_part(library: ctypes.CDLL, model: Path) -> None:
    class LaterFrame(ctypes.Structure):
        _fields_ = (*Frame._fields_, ("more", ctypes.c_int64 * 3))

    class LaterResult(ctypes.Structure):
        _fields_ = (*Result._fields_, ("more", ctypes.c_int64 * 2))

    given, results = (LaterFrame * 2)(), (LaterResult * 2)()
    two = frames(2)
    for frame, result, pixels in zip(given, results, two, strict=True):
        frame.data, frame.height, frame.width, frame.channels = pixels.ctypes.data, *pixels.shape
        frame.struct_size, result.struct_size = ctypes.sizeof(LaterFrame), ctypes.sizeof(LaterResult)
        frame.more[:], result.more[:] = [7, 7, 7], [9, 9]
    with Handle(library, model) as handle:
        call = library.lrp_edge_run_batch
        call.argtypes = None
        assert call(handle.pointer, ctypes.byref(given), ctypes.c_size_t(2), ctypes.byref(results)) == OK
    assert [(r.height, r.width, r.struct_size, list(r.more)) for r in results] == [
        (30, 41, ctypes.sizeof(LaterResult), [9, 9])
    ] * 2


def test_structures_that_are_too_small_are_refused(library: ctypes.CDLL, model: Path) -> None:
    options, pointer = Options(8), ctypes.c_void_p()
    created = library.lrp_edge_create(str(model).encode(), ctypes.byref(options), ctypes.byref(pointer))
    assert (created, pointer.value) == (BAD_ARGUMENT, None)
    assert b"LRP_EDGE_OPTIONS_INIT" in library.lrp_edge_last_error(None)
    with Handle(library, model) as handle:
        given = frame_of(frames(1)[0])
        small = Result(ctypes.sizeof(Result) - 8)
        assert library.lrp_edge_run(handle.pointer, ctypes.byref(given), ctypes.byref(small)) == BAD_ARGUMENT
        assert "LRP_EDGE_RESULT_INIT" in handle.error
        assert small.height == 0
        info = Info(0)
        assert library.lrp_edge_get_info(handle.pointer, ctypes.byref(info)) == BAD_ARGUMENT


def test_count_that_is_not_true_is_not_followed(library: ctypes.CDLL, model: Path) -> None:
    with Handle(library, model) as handle:
        given, result = frame_of(frames(1)[0]), Result(ctypes.sizeof(Result))
        call = library.lrp_edge_run_batch
        status = call(handle.pointer, ctypes.byref(given), ctypes.c_size_t(2**62), ctypes.byref(result))
        assert status == ERROR
        assert f"a batch of {2**62} frames" in handle.error


def test_from_c(release: Path, model: Path, tmp_path: Path) -> None:
    said = cpp_build.command(release / "tests/lrp_edge_c_interface", model, folder=tmp_path)
    assert said == "lrp_edge 0.1.0, ABI 1: 0 failures\n"


WITHOUT_MEMORY = """
import ctypes, resource, sys
import numpy as np
from tests.support import cpp_ctypes
from pathlib import Path

folder, model = sys.argv[1:]
library = cpp_ctypes.load(Path(folder))
large, small = np.zeros((12_000, 12_000, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)
with cpp_ctypes.Handle(library, model) as handle:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
    print(handle.run([cpp_ctypes.frame_of(large)])[0], handle.error)
    print(handle.run([cpp_ctypes.frame_of(small)])[0])
"""


def test_memory_that_is_not_there_is_an_error(plain: Path, model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY, str(plain), str(model)],
        cwd=cpp_build.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = f"{model}: no memory for frames [1, 12000, 12000, 3]; make them fewer or smaller"
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"{ERROR} {said}", f"{OK}"]), done.stderr


def test_nothing_is_reported_to_anybody(release: Path, model: Path, tmp_path: Path) -> None:
    """ONNX Runtime keeps what it reports to its makers in the user's folders until then."""
    home = tmp_path / "home"
    cpp_build.command(release / "tests/lrp_edge_c_interface", model, env=cpp_build.empty_home(home))
    assert list(home.iterdir()) == []
