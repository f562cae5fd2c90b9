"""A picture's pixels, 8 bits a channel, as a person sees them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrp_edge.errors import LrpEdgeError, needs_extra
from lrp_edge.options import PictureOptions
from lrp_edge.pictures.files import check_data, opened, pages_of, refusing

with needs_extra("cpu"):
    import cv2
    import simplejpeg
    from PIL import ImageOps

UInt8 = NDArray[np.uint8]

_GRAY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_JPEG, _JPEG_END, _MOST_PADDING = ("JPEG", "MPO"), b"\xff\xd9", 64
_REFUSED = {"F": "floating-point numbers", "I": "32-bit numbers", "LAB": "CIELAB colours", "HSV": "HSV colours"}
#: Where a 16-bit picture has no value of this or more, it may be of a camera with 8 to 14 bits.
_DARK = 1 << 14
_ORIENTATION, _BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 274, 258, 262, 0
#: How pixels [H, W, ...] are turned, by what Exif and TIFF call orientation.
_TURNS: dict[int, Callable[[Any], Any]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


class Header(NamedTuple):
    """What a picture says of itself.

    Attributes
    ----------
    size : (height, width)
        In pixels, turned as it is to be seen.
    pages : int
        Pictures in the file.
    gray : bool
        Whether it has no colours.
    """

    size: tuple[int, int]
    pages: int
    gray: bool


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file, by any name that the system allows.

    Raises
    ------
    LrpEdgeError
        If it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise LrpEdgeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def read_picture(
    path: str | os.PathLike[str],
    order: str = "BGR",
    options: PictureOptions = PictureOptions(),
    page: int | None = None,
) -> UInt8:
    """Read a picture as a camera's frame.

    Parameters
    ----------
    path : path
        The file.
    order : {"BGR", "RGB", "GRAY"}
        Channel order that is wanted. Gray is repeated in three channels; colours become gray as the luma of a JPEG
        does, 0.299, 0.587 and 0.114 of red, green and blue.
    options : PictureOptions
        What the file does not say itself.
    page : int, optional
        Which of several pages. Without it a file of several is refused.

    Returns
    -------
    ndarray, uint8 [H, W, 3] or [H, W, 1]
        Turned as its orientation says. Of 16 bits the upper 8 of those in use are kept.

    Raises
    ------
    LrpEdgeError
        If the file is missing, in none of the formats that are read, cut short, damaged as far as its format shows it
        (by checksums, or by data that no encoder writes), too large, transparent, or of values whose range is unknown.
    """
    return decode(read_bytes(path), str(path), order, options, page)


def decode(
    data: bytes,
    name: str,
    order: str = "BGR",
    options: PictureOptions = PictureOptions(),
    page: int | None = None,
) -> UInt8:
    """Decode a picture in memory, which errors call `name`; all else as for :func:`read_picture`."""
    with refusing(name):
        image = opened(data, name, options.max_megapixels)
        own = pages_of(image)
        if page is None and len(own) > 1:
            raise LrpEdgeError(f"{name} has {len(own)} pages; save each as a file of its own")
        if image.format in _JPEG:
            plain = image.mode in ("L", "RGB")
            pixels = _jpeg(data, order if plain else "CMYK")
            if plain:
                return np.ascontiguousarray(_turned(pixels, image))
        image.seek(own[page or 0])
        check_data(image, data)
        return _in_order(_pixels(image, data, name, options), order)


def _jpeg(data: bytes, colours: str) -> UInt8:
    """Decode with what alone among the decoders takes for an error what libjpeg fills in."""
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colours))
    except ValueError:
        # Some cameras pad the data with zeros to a whole number of words, which is no damage.
        end = data.rfind(_JPEG_END)
        padding = len(data[:end]) - len(data[:end].rstrip(b"\0"))
        if end < 0 or not 0 < padding <= _MOST_PADDING:
            raise
        return np.asarray(simplejpeg.decode_jpeg(data[: end - padding] + data[end:], colours))


def read_header(path: str | os.PathLike[str], options: PictureOptions = PictureOptions()) -> Header:
    """Say what a picture is, and look for its end and its checksums, without decoding it.

    Raises
    ------
    LrpEdgeError
        As for :func:`read_picture`, but for what only its pixels show.
    """
    data, name = read_bytes(path), str(path)
    with refusing(name):
        image = opened(data, name, options.max_megapixels)
        check_data(image, data)
        height, width = image.height, image.width
        # Pillow gives the size of a TIFF as it is to be seen.
        if image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) > 4:
            height, width = width, height
        return Header((height, width), len(pages_of(image)), is_gray(image))


def _pixels(image: Any, data: bytes, name: str, options: PictureOptions) -> UInt8:
    """Decode to uint8 [H, W] or, red first, [H, W, 3]."""
    depth, scaled = _depth(image, data), _is_scaled(image)
    if depth > 8 and image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise LrpEdgeError(f"{name} has {depth} bits of which 0 is white; save it with 0 as black")
    if depth > 8 and image.mode in ("RGB", "RGBA"):
        return _deep_colours(image, data, name, options)
    if image.mode in _REFUSED and image.format != "PPM":
        raise LrpEdgeError(f"{name} has {_REFUSED[image.mode]}; save it with 8 or 16 bits a channel")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image, np.int32)
        return (values >> 8).astype(np.uint8) if scaled else _upper(values, name, options, depth)
    if has_alpha(image) and image.convert("RGBA").getextrema()[3][0] < 255:
        raise LrpEdgeError(_transparent(name))
    return np.array(image.convert("L" if is_gray(image) else "RGB"), np.uint8)


def _deep_colours(image: Any, data: bytes, name: str, options: PictureOptions) -> UInt8:
    """Decode with OpenCV, since Pillow drops the lower bits of colours."""
    if image.format == "TIFF" and image.tag_v2.get(_ORIENTATION, 1) != 1:
        raise LrpEdgeError(f"{name} has 16-bit colours and is to be turned; save it as it is to be seen")
    found, decoded = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    pixels: Any = decoded[image.tell()] if found else np.empty(0)
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise LrpEdgeError(f"{name} has 16-bit colours in a form that OpenCV does not decode; save it as PNG")
    if pixels.shape[2] == 4 and pixels[..., 3].min() < 65535:
        raise LrpEdgeError(_transparent(name))
    upper = _upper(pixels[..., 2::-1], name, options, 16)
    return np.ascontiguousarray(upper if image.format == "TIFF" else _turned(upper, image))


def _upper(values: Any, name: str, options: PictureOptions, depth: int) -> UInt8:
    """Keep the upper 8 of the bits in use, and do not guess how many of 16 these are."""
    most, bits = int(values.max()), depth if depth < 16 else options.bits
    if bits is None and 0 < most < _DARK:
        raise LrpEdgeError(
            f"{name} has 16 bits a value but none above {most}: it may be of a camera with "
            f"{max(8, most.bit_length())} to 14 bits; say how many with --bits, 16 if it is only dark"
        )
    if most >> (bits or 16):
        raise LrpEdgeError(f"{name} has a value of {most}, more than {bits} bits hold; correct --bits")
    return np.asarray(values >> ((bits or 16) - 8), np.uint8)


def _depth(image: Any, data: bytes) -> int:
    """Return the bits of each value in the file."""
    if image.format == "PNG":
        # Behind its signature of 8 bytes a PNG has length, name, width and height of its first chunk, 4 bytes each.
        return data[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_BITS, (1,))))
    return 16 if image.mode.startswith("I") or _is_scaled(image, above=255) else 8


def _is_scaled(image: Any, above: int = 0) -> bool:
    """Whether Pillow scales a PPM's values from a maximum that its header names."""
    if image.format != "PPM":
        return False
    codec, *_, arguments = image.tile[0]
    return bool(codec == "ppm" and arguments[1] > above)


def _transparent(name: str) -> str:
    return f"{name} is transparent in parts, and what is behind is not known; save it without transparency"


def has_alpha(image: Any) -> bool:
    """Whether a picture can be transparent."""
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def is_gray(image: Any) -> bool:
    """Whether a picture has no colours; a palette may have none either."""
    if image.mode in ("P", "PA"):
        return all(red == green == blue for red, green, blue in _palette(image))
    return image.mode in _GRAY


def _palette(image: Any) -> Iterator[tuple[int, int, int]]:
    values = image.getpalette("RGB") or []
    return zip(values[::3], values[1::3], values[2::3], strict=True)


def _turned(pixels: Any, image: Any) -> Any:
    """Turn decoded pixels [H, W, ...] as a picture's orientation says."""
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    return turn(pixels) if turn else pixels


def _in_order(pixels: UInt8, order: str) -> UInt8:
    """Convert uint8 [H, W] or, red first, [H, W, 3] to a channel order, with a channel axis."""
    if pixels.ndim == 2:
        return pixels[..., None] if order == "GRAY" else np.repeat(pixels[..., None], 3, axis=2)
    if order == "GRAY":
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None])
    return pixels if order == "RGB" else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
