"""What of a folder is its pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lrp_edge.pictures.folders import LOCK, RECORDS, REPORTS, Left, pictures_in


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def found(folder: Path) -> tuple[list[str], dict[str, int]]:
    left = Left()
    paths = pictures_in(folder, left)
    return [path.relative_to(folder).as_posix() for path in paths], dict(left)


def test_pictures_are_known_by_their_ending_in_any_case(tmp_path: Path) -> None:
    write(tmp_path, "b.PNG", "a.JpEg", "c/d.tif", "e.webp", "f.bmp", "g.pgm", "h.jp2", "i.jfif", "j.gif", "k.DIB")
    names, left = found(tmp_path)
    assert names == ["a.JpEg", "b.PNG", "c/d.tif", "e.webp", "f.bmp", "g.pgm", "h.jp2", "i.jfif", "j.gif", "k.DIB"]
    assert not left


def test_what_is_no_picture_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "a.json", "b.JSON", "a.txt", "README", "Thumbs.db", "desktop.ini", "._a.png", ".DS_Store")
    write(tmp_path, "__MACOSX/a.png", ".git/b.png", "sub/@eaDir/c.png")
    names, left = found(tmp_path)
    assert names == ["a.png"]
    assert left == {"hidden": 7, "files .json": 2, "files .txt": 1, "files without an ending": 1}


@pytest.mark.parametrize("written", REPORTS)
def test_reports_of_lrp_edge_are_left_out(tmp_path: Path, written: str) -> None:
    write(tmp_path, "a.png", "out/curve.png", "out/sub/b.png", f"out/{written}", "other/b.png")
    assert found(tmp_path) == (["a.png", "other/b.png"], {"outputs of lrp-edge": 1})
    # Who asks for such a folder itself gets its pictures.
    assert found(tmp_path / "out")[0] == ["curve.png", "sub/b.png"]


@pytest.mark.parametrize("record", [LOCK, *RECORDS])
@pytest.mark.parametrize("place", ["", "out/"])
def test_masks_and_overlays_of_a_run_are_left_out(tmp_path: Path, record: str, place: str) -> None:
    write(tmp_path, "a.png", f"{place}masks/000001_a.png", f"{place}overlays/000001_a.png", f"{place}masks/b.png")
    assert len(found(tmp_path)[0]) == 4
    write(tmp_path, f"{place}{record}")
    names, left = found(tmp_path)
    assert (names, left["outputs of lrp-edge"]) == (["a.png", f"{place}masks/b.png"], 2)
    assert "000001_a.png" in found(tmp_path / place / "masks")[0]


def test_links_are_followed_once_and_never_up(tmp_path: Path) -> None:
    write(tmp_path, "lots/7/a.png", "lots/8/b.png", "set/ok/c.png", "set/bad/d.png")
    bad = tmp_path / "set" / "bad"
    os.symlink(tmp_path / "lots" / "7", bad / "lot")
    os.symlink(tmp_path / "lots" / "7", bad / "lot again")
    os.symlink(tmp_path / "lots" / "8" / "b.png", bad / "b.png")
    os.symlink(bad, bad / "lot" / "back")
    os.symlink(tmp_path / "set", bad / "up")
    os.symlink(tmp_path, bad / "further up")
    assert found(bad) == (["b.png", "d.png", "lot/a.png"], {"folders linked twice": 4})
