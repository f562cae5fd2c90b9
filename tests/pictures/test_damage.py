"""A damaged picture is unreadable, as far as its format can show it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures import decode
from tests.support.painted import saved, scene

FORMS: dict[str, dict[str, Any]] = {
    "PNG": {"kind": "PNG"},
    "JPEG": {"kind": "JPEG", "quality": 90},
    "progressive JPEG": {"kind": "JPEG", "quality": 90, "progressive": True},
    "TIFF": {"kind": "TIFF"},
    "LZW TIFF": {"kind": "TIFF", "compression": "tiff_lzw"},
    "deflated TIFF": {"kind": "TIFF", "compression": "tiff_adobe_deflate"},
    "BMP": {"kind": "BMP"},
    "WebP": {"kind": "WEBP"},
    "PPM": {"kind": "PPM"},
    "JPEG 2000": {"kind": "JPEG2000"},
}
PICTURES = {name: saved(scene(size=(240, 320)), **form) for name, form in FORMS.items()}
PIXELS = {name: decode(data, name) for name, data in PICTURES.items()}


def read(data: bytes) -> Any:
    """Return the pixels, or None where they are refused; any other error is a fault."""
    try:
        return decode(data, "x")
    except LrpEdgeError as error:
        return None if len(str(error).splitlines()) == 1 else error


@pytest.mark.parametrize("form", PICTURES)
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None)
def test_cut_anywhere(form: str, share: float) -> None:
    data = PICTURES[form]
    found = read(data[: int(share * len(data))])
    # What is behind the pixels may be missing.
    assert found is None or np.array_equal(found, PIXELS[form])


@pytest.mark.parametrize("form", PICTURES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_damage_ends_in_pixels_or_in_one_line(form: str, data: st.DataObject) -> None:
    damaged = bytearray(PICTURES[form])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(1, 64))] = data.draw(st.binary(max_size=64))
    read(bytes(damaged))


@pytest.mark.parametrize("form", ["PNG", "deflated TIFF"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_checksums_show_every_changed_pixel(form: str, data: st.DataObject) -> None:
    damaged = bytearray(PICTURES[form])
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    found = read(bytes(damaged))
    if form == "deflated TIFF" and found is not None and found.shape != PIXELS[form].shape:
        # Its header has no checksum.
        return
    header = 400 if form == "deflated TIFF" else 0
    assert found is None or np.array_equal(found, PIXELS[form]) or at < header or at > len(damaged) - header


@pytest.mark.parametrize("form", ["JPEG", "progressive JPEG"])
@given(seed=st.integers(0, 10_000), fill=st.sampled_from(["zeros", "ones", "noise"]), to_end=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_jpeg_with_a_hole_is_unreadable(form: str, seed: int, fill: str, to_end: bool) -> None:
    data, generator = bytearray(PICTURES[form]), np.random.default_rng(seed)
    start = int(generator.integers(len(data) // 3, 2 * len(data) // 3))
    end = len(data) - 2 if to_end else start + len(data) // 4
    filled = {
        "zeros": bytes,
        "ones": lambda n: b"\xff" * n,
        "noise": lambda n: generator.bytes(n).replace(b"\xff", b"\0"),
    }
    data[start:end] = filled[fill](end - start)
    assert read(bytes(data)) is None


@pytest.mark.parametrize("form", ["JPEG", "progressive JPEG"])
@pytest.mark.parametrize("count", [1, 3, 8, 64])
def test_zeros_that_a_camera_pads_with_are_no_damage(form: str, count: int) -> None:
    data = PICTURES[form]
    assert np.array_equal(read(data[:-2] + bytes(count) + data[-2:]), PIXELS[form])
    assert np.array_equal(read(data + bytes(count)), PIXELS[form])
    # libjpeg does not look at the last few bytes.
    assert read(data[:-2] + b"\x37" * (count + 16) + data[-2:]) is None
