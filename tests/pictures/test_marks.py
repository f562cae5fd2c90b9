"""A mask is the same mask in every form in which labelling tools write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from lrp_edge.errors import LrpEdgeError
from lrp_edge.pictures import read_marks
from tests.support.painted import saved


def blobs(seed: int) -> NDArray[np.bool_]:
    """Return a mask of two rectangles."""
    generator, mask = np.random.default_rng(seed), np.zeros((60, 80), bool)
    for _ in range(2):
        top, left = generator.integers(2, 30), generator.integers(2, 50)
        mask[top : top + generator.integers(5, 20), left : left + generator.integers(5, 25)] = True
    return mask


def palette(mask: Any, colours: list[int], index: int) -> Image.Image:
    """Return a picture whose marked pixels have an index of a palette."""
    image = Image.fromarray((mask * index).astype(np.uint8), "P")
    image.putpalette(colours)
    return image


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 64, 0, 0]
FORMS: dict[str, Any] = {
    "black and white": lambda mask: saved((mask * 255).astype(np.uint8), "PNG"),
    "one bit": lambda mask: saved((mask * 255).astype(np.uint8), "PNG", mode="1"),
    "zero and one": lambda mask: saved(mask.astype(np.uint8), "PNG"),
    "a label id": lambda mask: saved((mask * 7).astype(np.uint8), "BMP"),
    "an id of 16 bits": lambda mask: saved(Image.fromarray((mask * 300).astype(np.uint16)), "PNG"),
    "16 bits": lambda mask: saved(Image.fromarray((mask * 65535).astype(np.uint16)), "TIFF"),
    "float": lambda mask: saved(mask.astype(np.float32), "TIFF"),
    "a palette of VOC": lambda mask: saved(palette(mask, VOC, 5), "PNG"),
    "a palette of black and white": lambda mask: saved(palette(mask, [0, 0, 0, 255, 255, 255], 1), "PNG"),
    "colours": lambda mask: saved((mask[..., None] * np.array([0, 60, 120])).astype(np.uint8), "PNG"),
    "gray in three channels": lambda mask: saved((mask[..., None] * np.full(3, 255)).astype(np.uint8), "PNG"),
    "a layer": lambda mask: saved(np.dstack([np.full((*mask.shape, 3), 255), mask * 255]).astype(np.uint8), "PNG"),
    "a thin layer": lambda mask: saved(np.dstack([np.zeros((*mask.shape, 3)), mask * 100]).astype(np.uint8), "PNG"),
    "opaque": lambda mask: saved((mask * 255).astype(np.uint8), "PNG", mode="LA"),
    "JPEG": lambda mask: saved((mask * 255).astype(np.uint8), "JPEG", quality=95),
    "colours in JPEG": lambda mask: saved(
        (mask[..., None] * np.array([255, 0, 0])).astype(np.uint8), "JPEG", quality=95, subsampling=0
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_every_form_of_a_mask_is_the_same(form: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("masks") / "mask"
    path.write_bytes(FORMS[form](blobs(seed)))
    assert np.array_equal(read_marks(path), blobs(seed))


@pytest.mark.parametrize("form", ["black and white", "a palette of VOC", "a layer", "float"])
def test_nothing_marked_is_nothing(form: str, tmp_path: Path) -> None:
    (tmp_path / "mask").write_bytes(FORMS[form](np.zeros((60, 80), bool)))
    assert not read_marks(tmp_path / "mask").any()


def test_soft_edges_are_cut_in_their_middle(tmp_path: Path) -> None:
    sharp = Image.fromarray((blobs(3) * 255).astype(np.uint8))
    sharp.filter(ImageFilter.GaussianBlur(1.5)).save(tmp_path / "mask.png")
    found = read_marks(tmp_path / "mask.png")
    assert (found != blobs(3)).mean() < 0.01


@pytest.mark.parametrize("values", [(3, 255), (40, 90, 200), (1, 128)])
def test_what_may_be_ids_or_shades_is_not_guessed(values: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.zeros((60, 80), np.uint8)
    for number, value in enumerate(values):
        pixels[5:20, 20 * number : 20 * number + 15] = value
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(LrpEdgeError, match=r"mask .*mask\.png has values up to .* ids of at most 127; save"):
        read_marks(tmp_path / "mask.png")


def test_a_mask_is_turned_as_its_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray((blobs(1) * 255).astype(np.uint8)).save(tmp_path / "mask.png", exif=exif)
    assert np.array_equal(read_marks(tmp_path / "mask.png"), np.rot90(blobs(1), -1))


def test_several_pages_and_damage_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(np.zeros((40, 40), np.uint8))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(LrpEdgeError, match="has 2 pages; expected a mask in a file of its own"):
        read_marks(tmp_path / "pages.tif")
    (tmp_path / "cut.png").write_bytes(FORMS["black and white"](blobs(0))[:-20])
    with pytest.raises(LrpEdgeError, match="damaged or cut short"):
        read_marks(tmp_path / "cut.png")
