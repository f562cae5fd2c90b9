"""What the container of a video file says of its own size: whether the file was cut, and whether it was trimmed.

Decoders take what there is and do not say. Layouts: ISO/IEC 14496-12 for mp4 and mov, RFC 8794 and RFC 9559 for mkv and
webm, the RIFF of AVI with its OpenDML extension. MPEG streams do not tell their size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
#: Boxes that an mp4 or mov can begin with.
_ISO = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


def is_iso(path: Path) -> bool:
    """Say whether it is an mp4 or mov, whose count of frames is exact."""
    with path.open("rb") as file:
        return file.read(8)[4:] in _ISO


def is_cut(path: Path) -> bool:
    """Say whether a file is shorter than its container says; False where that cannot be known."""
    with path.open("rb") as file:
        head, size = file.read(8), file.seek(0, os.SEEK_END)
        ends = _iso_ends if head[4:] in _ISO else _riff_ends if head[:4] == b"RIFF" else _segment_end
        return any(end > size for end in ends(file, size))


def is_trimmed(path: Path) -> bool:
    """Say whether an mp4 or mov has frames that it does not show: an edit list that is shorter than its video."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for kind, begin, end in _boxes(file, 0, size):
            if kind == b"moov":
                return _edits_are_shorter(file, begin, min(end, size))
    return False


def _iso_ends(file: BinaryIO, size: int) -> Iterator[int]:
    return (end for _, _, end in _boxes(file, 0, size))


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind of each box in a part of a file, and where its content begins and ends."""
    while begin + 8 <= end:
        length, kind, header = _number(file, begin, 4), _bytes(file, begin + 4, 4), 8
        if length == 1:
            length, header = _number(file, begin + 8, 8), 16
        elif length == 0:
            length = end - begin
        if length < header or not kind.isascii():
            return
        yield kind, begin + header, begin + length
        begin += length


def _edits_are_shorter(file: BinaryIO, begin: int, end: int) -> bool:
    scale = 0
    for kind, inside, after in _boxes(file, begin, end):
        if kind == b"mvhd":
            scale = _number(file, inside + (20 if _number(file, inside, 1) else 12), 4)
        elif kind == b"trak" and scale:
            frame, video, shown = _track(file, inside, min(after, end), scale)
            # A frame of B-frames' delay may stand before the first that is shown.
            if shown is not None and video - shown > 1.5 * frame:
                return True
    return False


def _track(file: BinaryIO, begin: int, end: int, scale: int) -> tuple[float, float, float | None]:
    """Return the seconds of a frame, of a track, and of what its edit list shows; None where there is no such list."""
    frame, length, shown, is_video = 0.0, 0.0, None, False
    for kind, inside, after in _nested(file, begin, end):
        wide = _number(file, inside, 1) == 1
        if kind == b"hdlr":
            is_video = _bytes(file, inside + 8, 4) == b"vide"
        elif kind == b"mdhd":
            units = _number(file, inside + (20 if wide else 12), 4)
            length = _number(file, inside + (24 if wide else 16), 8 if wide else 4) / max(units, 1)
        elif kind == b"stsz":
            frame = length / max(_number(file, inside + 8, 4), 1)
        elif kind == b"elst":
            width, entries = (8, 20) if wide else (4, 12)
            places = range(inside + 8, min(after, end, inside + 8 + entries * _number(file, inside + 4, 4)), entries)
            # A media time of -1 is a pause.
            shown = (
                sum(
                    _number(file, place, width)
                    for place in places
                    if _bytes(file, place + width, width) != b"\xff" * width
                )
                / scale
            )
    return (frame, length, shown) if is_video else (0.0, 0.0, None)


def _nested(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for kind, inside, after in _boxes(file, begin, end):
        yield kind, inside, after
        if kind in (b"edts", b"mdia", b"minf", b"stbl"):
            yield from _nested(file, inside, min(after, end))


def _riff_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the ends of the parts of an AVI; none for one that was never finished, which has no sizes."""
    begin = 0
    while _bytes(file, begin, 4) == b"RIFF" and (length := int.from_bytes(_bytes(file, begin + 4, 4), "little")):
        yield begin + 8 + length
        begin += 8 + length + length % 2


def _segment_end(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the end of the segment of an mkv or webm, where it has a size."""
    if _bytes(file, 0, 4) != _EBML:
        return
    length, begin = _variable(file, 4)
    if length is None:
        return
    begin += length
    length, inside = _variable(file, begin + 4)
    if _bytes(file, begin, 4) == _SEGMENT and length is not None:
        yield inside + length


def _variable(file: BinaryIO, place: int) -> tuple[int | None, int]:
    """Read a size of EBML; return it, None where it is unknown, and the place behind it."""
    first = _number(file, place, 1)
    width = 9 - first.bit_length()
    size = _number(file, place, width) & ((1 << 7 * width) - 1)
    return (None if not first or size == (1 << 7 * width) - 1 else size), place + width


def _number(file: BinaryIO, place: int, count: int) -> int:
    return int.from_bytes(_bytes(file, place, count), "big")


def _bytes(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
