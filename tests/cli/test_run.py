from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from lrp_edge.cli import app
from lrp_edge.errors import LrpEdgeError
from tests.support.runtime_graphs import brightness_card, brightness_graph, expected
from tests.support.scripted import lines


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Frames of two sizes, two of them of one name in different folders."""
    folder = tmp_path / "frames"
    rng = np.random.default_rng(0)
    for name, size, low in (("a/x", (20, 30), 0), ("b/x", (24, 16), 150), ("b/y", (24, 16), 0)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(low, low + 106, (*size, 3), dtype=np.uint8))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


@pytest.mark.parametrize("batch", [1, 4])
def test_results_are_what_numpy_says(model: Path, frames: Path, tmp_path: Path, batch: int) -> None:
    done = run(model, "--source", frames, "-o", tmp_path / "out", "--batch", batch)
    assert done.exit_code == 0, done.output
    assert "3 frames" in done.output
    found = lines(tmp_path / "out")
    assert [Path(line["source"]).relative_to(frames).as_posix() for line in found] == [
        "a/x.png",
        "b/x.png",
        "b/y.png",
    ]
    for line in found:
        image = cv2.imread(line["source"])
        scores, label, mask, _ = expected(image)
        np.testing.assert_allclose(line["scores"], scores, atol=2e-6)
        assert (line["label"], line["defect"]) == (label, label == 1)
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / line["mask"]), 0), mask)
        assert line["mask_fraction"] == pytest.approx((mask > 0).mean(), abs=1e-6)
        assert cv2.imread(str(tmp_path / "out" / line["overlay"])).shape[1] >= image.shape[1]
    assert len({line["mask"] for line in found}) == 3


def test_what_is_not_usable_is_one_line_at_the_start(
    model: Path, frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(model, "--source", frames, "-o", tmp_path / "out").exit_code == 0
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    useless = tmp_path / "useless.onnx"
    card = brightness_card().replace(usable={"unusable": ["class: AUROC 0.52", "mask: chance"]})
    onnx.save(brightness_graph(card, 3, None), useless)
    assert run(useless, "--source", frames, "-o", tmp_path / "more").exit_code == 0
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == f"{useless} is not usable: class: AUROC 0.52; mask: chance"


def test_no_overlays(model: Path, frames: Path, tmp_path: Path) -> None:
    assert run(model, "--source", frames, "-o", tmp_path / "out", "--no-overlays").exit_code == 0
    assert not (tmp_path / "out" / "overlays").exists()


def cut_short(frames: Path, suffix: str) -> Path:
    path = frames / f"z{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_cut_image_stops_the_run_or_gets_a_line(model: Path, frames: Path, tmp_path: Path, suffix: str) -> None:
    bad = cut_short(frames, suffix)
    done = run(model, "--source", frames, "-o", tmp_path / "out")
    assert isinstance(done.exception, LrpEdgeError)
    assert str(bad) in str(done.exception)
    done = run(model, "--source", frames, "-o", tmp_path / "more", "--skip-bad")
    assert done.exit_code == 0
    assert "1 skipped" in done.output
    found = lines(tmp_path / "more")
    assert [bool(line.get("error")) for line in found] == [False, False, False, True]
    assert str(bad) in found[-1]["error"]


def test_jpeg_with_bytes_behind_its_end_is_whole(model: Path, tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.full((32, 32, 3), 40, np.uint8))[1].tobytes()
    (tmp_path / "camera.jpg").write_bytes(data + bytes(500))
    assert run(model, "--source", tmp_path / "camera.jpg", "-o", tmp_path / "out").exit_code == 0


def test_video_frames_come_in_order(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for level in (20, 140, 240):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    assert run(model, "--source", path, "-o", tmp_path / "out").exit_code == 0
    assert [line["name"] for line in lines(tmp_path / "out")] == ["ok", "stain", "stain"]
    assert [line["frame"] for line in lines(tmp_path / "out")] == [0, 1, 2]


def test_results_are_not_replaced_unasked(model: Path, frames: Path, tmp_path: Path) -> None:
    assert run(model, "--source", frames, "-o", tmp_path / "out").exit_code == 0
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    done = run(model, "--source", frames / "a", "-o", tmp_path / "out")
    assert isinstance(done.exception, LrpEdgeError)
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before
    assert run(model, "--source", frames / "a", "-o", tmp_path / "out", "--overwrite").exit_code == 0
    assert len(lines(tmp_path / "out")) == 1


def test_sources_that_are_none_write_nothing(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "missing.png", tmp_path / "*.gif"):
        done = run(model, "--source", source, "-o", tmp_path / "out")
        assert isinstance(done.exception, LrpEdgeError), source
        assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_a_folder(model: Path, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(model, "--source", frames, "-o", tmp_path / "file" / "out")
    assert isinstance(done.exception, LrpEdgeError)
    assert "cannot write" in str(done.exception)


def test_lossless_over_five_thousand_frames_of_a_video(model: Path, tmp_path: Path) -> None:
    path, count = tmp_path / "long.avi", 5000
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 24))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for index in range(count):
        writer.write(np.full((24, 32, 3), 30 + index % 10 * 20, np.uint8))
    writer.release()
    done = run(
        model, "--source", path, "-o", tmp_path / "out", "--images", "none", "--batch", 3, "--policy", "lossless"
    )
    assert done.exit_code == 0, done.output
    found = lines(tmp_path / "out")
    assert [line["frame"] for line in found] == list(range(count))
    assert [line["source"] for line in found] == [f"{path}#{index}" for index in range(count)]
    assert [line["label"] for line in found] == [int(30 + index % 10 * 20 > 80) for index in range(count)]
    assert ", 0 dropped" in done.output


def test_regions_and_the_rule_in_millimetres(model: Path, tmp_path: Path) -> None:
    image = np.full((40, 60, 3), 90, np.uint8)
    image[5:10, 10:30] = 250
    image[20:22, 40:42] = 250
    cv2.imwrite(str(tmp_path / "part.png"), image)
    scale = ("--mm-per-px", 0.5, "--min-area", 5)
    for rule, reject in (("any region > 24 mm2", True), ("any region > 25 mm2", False), ("regions > 1", False)):
        out = tmp_path / rule[-6:].replace(" ", "")
        done = run(model, "--source", tmp_path / "part.png", "-o", out, *scale, "--reject-if", rule)
        assert done.exit_code == 0, done.output
        (line,) = lines(out)
        assert (line["reject"], bool(line["reason"])) == (reject, reject)
        (region,) = line["regions"]
        assert (region["box"], region["area_px"], region["area_mm2"]) == ([10, 5, 20, 5], 100, 25.0)


def test_a_configuration_and_options_that_go_before_it(model: Path, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "line.toml").write_text(
        f'model = "{model}"\n[source]\nuri = "frames"\nsize = [24, 16]\n[output]\nfolder = "out"\nimages = "none"\n'
    )
    done = run("--config", tmp_path / "line.toml", "-o", tmp_path / "other", "--images", "all")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "out").exists()
    assert [cv2.imread(str(tmp_path / "other" / line["mask"]), 0).shape for line in lines(tmp_path / "other")] == [
        (24, 16)
    ] * 3


def test_the_source_is_cut_turned_and_resized(model: Path, frames: Path, tmp_path: Path) -> None:
    shape = ("--roi", "1,2,8,10", "--rotate", 90, "--size", "16x20")
    assert run(model, "--source", frames / "b" / "x.png", "-o", tmp_path / "out", *shape).exit_code == 0
    image = cv2.rotate(cv2.imread(str(frames / "b" / "x.png"))[2:12, 1:9], cv2.ROTATE_90_CLOCKWISE)
    _, label, mask, _ = expected(cv2.resize(image, (20, 16)))
    (line,) = lines(tmp_path / "out")
    assert line["label"] == label
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / line["mask"]), 0), mask)
