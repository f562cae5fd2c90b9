"""Pictures of every form are the pixels that a person sees, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lrp_edge.errors import LrpEdgeError
from lrp_edge.options import PictureOptions
from lrp_edge.pictures import FORMATS, decode, read_header, read_picture
from tests.support.painted import EXACT_COLOURS, EXACT_GRAY, cv2_png, gray_scene, png_header, saved, scene


@pytest.mark.parametrize("form", EXACT_COLOURS)
def test_colours_are_kept_in_every_format(form: str) -> None:
    data = saved(scene(), **EXACT_COLOURS[form])
    assert np.array_equal(decode(data, "x", "RGB"), scene())
    assert np.array_equal(decode(data, "x", "BGR"), scene()[..., ::-1])
    luma = scene() @ (0.299, 0.587, 0.114)
    assert np.abs(decode(data, "x", "GRAY")[..., 0] - luma).max() <= 0.51


@pytest.mark.parametrize("form", EXACT_GRAY)
def test_gray_is_kept_in_every_format(form: str) -> None:
    data = saved(gray_scene(), **EXACT_GRAY[form])
    assert np.array_equal(decode(data, "x", "GRAY")[..., 0], gray_scene())
    assert np.array_equal(decode(data, "x", "BGR"), np.repeat(gray_scene()[..., None], 3, axis=2))


@pytest.mark.parametrize("order", ["GRAY", "RGB", "BGR"])
@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
def test_a_jpeg_is_what_opencv_makes_of_it(order: str, more: dict[str, Any]) -> None:
    data = saved(scene(), "JPEG", quality=90, **more)
    flag = cv2.IMREAD_GRAYSCALE if order == "GRAY" else cv2.IMREAD_COLOR
    expected: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    expected = expected[..., None] if order == "GRAY" else expected[..., :: -1 if order == "RGB" else 1]
    assert np.array_equal(decode(data, "x", order), expected)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_printed_colours_are_seen_as_colours(kind: str) -> None:
    more = {"quality": 95} if kind == "JPEG" else {}
    found = decode(saved(scene(), kind, mode="CMYK", **more), "x", "RGB")
    assert np.abs(found.astype(int) - scene()).mean() < 4


@given(orientation=st.integers(1, 8), kind=st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]), gray=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_picture_is_turned_as_its_orientation_says(orientation: int, kind: str, gray: bool) -> None:
    pixels = gray_scene() if gray else scene()
    exif = Image.Exif()
    exif[274] = orientation
    more = {"TIFF": {"tiffinfo": {274: orientation}}, "WEBP": {"exif": exif, "lossless": True}}.get(
        kind, {"exif": exif}
    )
    data = saved(pixels, kind, **more)
    # How Exif 2.3 describes it: where the first row and the first column are seen.
    turned = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: np.rot90(np.fliplr(a)),
        6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(np.flipud(a)), 8: np.rot90,
    }[orientation](pixels)  # fmt: skip
    found = decode(data, "x", "GRAY" if gray else "RGB")
    assert found.shape[:2] == turned.shape[:2]
    worst = np.abs(found.reshape(turned.shape).astype(int) - turned).max()
    assert worst <= (40 if kind == "JPEG" else 0)


@given(bits=st.integers(9, 16), colours=st.booleans(), tiff=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_deep_camera_is_read_by_its_bits_and_refused_without(bits: int, colours: bool, tiff: bool) -> None:
    pixels = scene() if colours else gray_scene()
    values = (pixels.astype(np.uint16) << (bits - 8)) + 1
    form: Any = cv2.imencode(".tif", values[..., ::-1] if colours else values)[1] if tiff else cv2_png(values)
    data, order = bytes(form), "RGB" if colours else "GRAY"
    found = decode(data, "x", order, PictureOptions(bits=bits))
    assert np.array_equal(found.reshape(pixels.shape), pixels)
    if bits <= 14:
        with pytest.raises(LrpEdgeError, match=rf"none above {values.max()}.*--bits"):
            decode(data, "x", order)
        with pytest.raises(LrpEdgeError, match="more than 8 bits hold"):
            decode(data, "x", order, PictureOptions(bits=8))
    if bits == 16:
        assert np.array_equal(decode(data, "x", order).reshape(pixels.shape), pixels)


def test_bits_are_no_matter_where_a_file_says_them_itself() -> None:
    values = gray_scene().astype(np.uint16) << 4
    pgm = b"P5 64 48 4095\n" + values.astype(">u2").tobytes()
    # 255 times 16 is 4080 of 4095.
    assert np.abs(decode(pgm, "x", "GRAY")[..., 0].astype(int) - gray_scene()).max() <= 1
    assert np.array_equal(decode(saved(scene(), "PNG"), "x", "RGB", PictureOptions(bits=12)), scene())
    dark = saved(Image.fromarray(np.zeros((40, 40), np.uint16)), "PNG")
    assert not decode(dark, "x", "GRAY").any()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (saved(gray_scene().astype(np.float32), "TIFF"), "floating-point numbers; save it with 8 or 16 bits"),
        (saved(gray_scene().astype(np.int32), "TIFF"), "32-bit numbers; save it"),
        (saved(scene(), "TIFF", mode="LAB"), "CIELAB colours; save it"),
        (saved(scene(), "TGA"), "not a picture in a format that is read .*PNG, JPEG"),
        (saved(np.dstack([scene(), gray_scene()]), "PNG"), "transparent in parts"),
        (saved(np.dstack([scene(), gray_scene()]), "WEBP"), "transparent in parts"),
        (cv2_png(np.dstack([scene(), gray_scene()]).astype(np.uint16) * 257), "transparent in parts"),
        (saved(gray_scene(), "TIFF", save_all=True, append_images=[Image.fromarray(gray_scene(1))]), "has 2 pages"),
        (b"", "not a picture"),
        (b"GIF", "not a picture|damaged"),
        (png_header(65535, 65535), "65535x65535, 4295 million pixels"),
        (png_header(20000, 20000), "20000x20000, 400 million pixels, of which at most 128"),
        (png_header(1, 200_000_000), "1x200000000"),
        (b"P5 60000 60000 255\n", "3600 million pixels"),
        (saved(gray_scene(), "JPEG").replace(b"\x00\x30\x00\x40", b"\xff\xff\xff\xff"), "65535x65535"),
        (saved(gray_scene(), "BMP")[:18] + (2**30).to_bytes(4, "little") * 2, "damaged|million"),
    ],
)  # fmt: skip
def test_what_would_not_be_read_as_it_is_seen_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=f"^camera.*({said})") as caught:
        decode(data, "camera")
    assert "\n" not in str(caught.value)


def test_more_pixels_are_allowed_by_an_option() -> None:
    data = saved(gray_scene(), "PNG")
    assert decode(data, "x", "GRAY", PictureOptions(max_megapixels=0.004)).shape == (48, 64, 1)
    with pytest.raises(LrpEdgeError, match=r"48x64.*--max-megapixels"):
        decode(data, "x", "GRAY", PictureOptions(max_megapixels=0.003))


def test_each_page_can_be_read_and_smaller_copies_are_no_pages(tmp_path: Path) -> None:
    pages = [Image.fromarray(gray_scene(seed)) for seed in range(3)]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    for page in range(3):
        assert np.array_equal(decode(data, "x", "GRAY", page=page)[..., 0], gray_scene(page))
    small = Image.fromarray(gray_scene(1)[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    data = saved(pages[0], "TIFF", save_all=True, append_images=[small])
    assert np.array_equal(decode(data, "x", "GRAY")[..., 0], gray_scene(0))
    assert np.array_equal(decode(saved(scene(), "MPO", save_all=True, append_images=pages), "x").shape, (48, 64, 3))


@given(
    name=st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
)
@settings(max_examples=60, deadline=None)
def test_a_file_is_read_by_any_name(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    folder = tmp_path_factory.mktemp("names")
    path = Path(str(folder.as_posix())) / name.decode("utf-8", "surrogateescape")
    path.write_bytes(saved(scene(), "PNG"))
    assert np.array_equal(read_picture(path, "RGB"), scene())
    assert read_header(path) == ((48, 64), 1, False)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError, match=r"x\.png cannot be read: No such file"):
        read_picture(tmp_path / "x.png")
    with pytest.raises(LrpEdgeError, match="cannot be read"):
        read_picture("a\0b.png")


@pytest.mark.parametrize("form", {**EXACT_GRAY, **EXACT_COLOURS})
def test_a_header_says_size_and_colours(form: str, tmp_path: Path) -> None:
    for pixels, forms, gray in ((scene(), EXACT_COLOURS, False), (gray_scene(), EXACT_GRAY, True)):
        if form in forms:
            (tmp_path / "x").write_bytes(saved(pixels, **forms[form]))
            found = read_header(tmp_path / "x")
            assert (found.size, found.pages) == ((48, 64), 1)
            # Formats that do not know gray say colours.
            assert found.gray == gray


def test_every_format_has_its_endings() -> None:
    Image.init()
    for kind, endings in FORMATS.items():
        # Pillow knows a bitmap without the header of its file apart.
        assert {Image.EXTENSION[ending] for ending in endings} <= {kind, "DIB"}
