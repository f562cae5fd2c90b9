"""The C interface through ctypes, as any other language sees it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_void_p,
)
from pathlib import Path

import numpy as np

OK, ERROR, BAD_ARGUMENT, OUT_OF_MEMORY, INTERNAL = range(5)


class Options(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("provider", c_char_p),
        ("threads", c_int32),
        ("regions", c_int32),
        ("min_area", c_int64),
    )


class Frame(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("height", c_size_t),
        ("width", c_size_t),
        ("channels", c_size_t),
        ("stride", c_ssize_t),
    )


class Region(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("x", "y", "width", "height")),
        ("area", c_int64),
        ("extent", c_double),
        ("relevance", c_double),
    )


class Result(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("label", c_int32),
        ("defect", c_int32),
        ("name", c_char_p),
        ("scores", POINTER(c_float)),
        ("score_count", c_size_t),
        ("height", c_size_t),
        ("width", c_size_t),
        ("mask", POINTER(c_uint8)),
        ("relevance", POINTER(c_float)),
        ("regions", POINTER(Region)),
        ("region_count", c_size_t),
        ("milliseconds", c_double),
    )


class Info(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("provider", c_char_p),
        ("card_json", c_char_p),
        ("order", c_char_p),
        *((name, c_size_t) for name in ("channels", "height", "width", "max_batch", "class_count")),
    )


def load(folder: Path) -> ctypes.CDLL:
    """Load the library out of a build's folder."""
    library = ctypes.CDLL(str(folder / "liblrp_edge.so"))
    library.lrp_edge_create.argtypes = [c_char_p, POINTER(Options), POINTER(c_void_p)]
    library.lrp_edge_destroy.argtypes = [c_void_p]
    library.lrp_edge_destroy.restype = None
    library.lrp_edge_get_info.argtypes = [c_void_p, POINTER(Info)]
    library.lrp_edge_class_name.argtypes = [c_void_p, c_size_t]
    library.lrp_edge_run.argtypes = [c_void_p, POINTER(Frame), POINTER(Result)]
    library.lrp_edge_run_batch.argtypes = [c_void_p, POINTER(Frame), c_size_t, POINTER(Result)]
    library.lrp_edge_last_error.argtypes = [c_void_p]
    for name in ("class_name", "last_error", "version"):
        getattr(library, f"lrp_edge_{name}").restype = c_char_p
    return library


def frame_of(array: np.ndarray, stride: int = 0) -> Frame:
    """View an array [H, W, C] whose rows are adjacent, or lie `stride` bytes apart."""
    return Frame(ctypes.sizeof(Frame), array.ctypes.data, *array.shape, stride)


class Handle:
    """A segmenter; a context manager."""

    def __init__(self, library: ctypes.CDLL, path: Path | str, provider: str = "cpu", threads: int = 1) -> None:
        self.library, self.pointer = library, c_void_p()
        options = Options(ctypes.sizeof(Options), provider.encode() or None, threads, 1, 1)
        self.status = library.lrp_edge_create(str(path).encode(), ctypes.byref(options), ctypes.byref(self.pointer))

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.library.lrp_edge_destroy(self.pointer)

    @property
    def error(self) -> str:
        """What the last call that failed said."""
        said: bytes = self.library.lrp_edge_last_error(self.pointer)
        return said.decode()

    def info(self) -> Info:
        info = Info(ctypes.sizeof(Info))
        assert self.library.lrp_edge_get_info(self.pointer, ctypes.byref(info)) == OK
        return info

    def run(self, frames: Sequence[Frame]) -> tuple[int, list[Result]]:
        """Run frames in one call; they must be kept alive until it returns."""
        results = (Result * max(1, len(frames)))()
        for result in results:
            result.struct_size = ctypes.sizeof(Result)
        given = (Frame * max(1, len(frames)))(*frames)
        status = self.library.lrp_edge_run_batch(self.pointer, given, len(frames), results)
        return status, list(results[: len(frames)])
