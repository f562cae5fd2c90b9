"""One scene in every form in which pictures come, with its true pixels."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def scene(seed: int = 0, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Return a smooth scene over the whole range, uint8 [H, W, 3], red first."""
    noise = np.random.default_rng(seed).normal(0, 1, (*size, 3))
    blurred: Any = cv2.GaussianBlur(noise, (0, 0), 3)
    low, high = blurred.min(axis=(0, 1)), blurred.max(axis=(0, 1))
    return ((blurred - low) / (high - low) * 255).astype(np.uint8)


def gray_scene(seed: int = 0, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """Return the first channel of :func:`scene`, uint8 [H, W]."""
    return np.ascontiguousarray(scene(seed, size)[..., 0])


def saved(pixels: Any, kind: str, mode: str = "", **more: Any) -> bytes:
    """Return a picture in a format of Pillow's, converted to another mode before."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **more)
    return file.getvalue()


def png_header(height: int, width: int) -> bytes:
    """Return a PNG of a size that has no pixels."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def cv2_png(pixels: Any) -> bytes:
    """Return a PNG of 8 or 16 bits a channel, red first."""
    return bytes(cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1])


#: Forms that keep every value, of colours and of gray.
EXACT_COLOURS: dict[str, dict[str, Any]] = {
    "png": {"kind": "PNG"},
    "png-opaque": {"kind": "PNG", "mode": "RGBA"},
    "bmp": {"kind": "BMP"},
    "ppm": {"kind": "PPM"},
    "webp": {"kind": "WEBP", "lossless": True},
    "jpeg2000": {"kind": "JPEG2000"},
    **{f"tiff-{name}": {"kind": "TIFF", "compression": name} for name in
       ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd", "lzma")},
}  # fmt: skip
EXACT_GRAY = EXACT_COLOURS | {
    "png-opaque": {"kind": "PNG", "mode": "LA"},
    "palette": {"kind": "PNG", "mode": "P"},
    "gif": {"kind": "GIF"},
    "webp": {"kind": "PNG"},
}
