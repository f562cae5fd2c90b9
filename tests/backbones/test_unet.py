"""The U-Net with a classifier's encoder: its levels, its start, how it is fine-tuned, and its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lrp_edge import synthetic
from lrp_edge.backbones.efficientnet_lite0 import efficientnet_lite0
from lrp_edge.backbones.unet import SKIPPED, EncodedUNet
from lrp_edge.backbones.weights import imagenet_lite0, start_lite0
from lrp_edge.card import InputSpec, ModelCard
from lrp_edge.checkpoint import load_checkpoint, save_checkpoint
from lrp_edge.classifiers import build
from lrp_edge.datasets import open_dataset
from lrp_edge.errors import LrpEdgeError
from lrp_edge.evaluation import evaluate, open_predictor
from lrp_edge.training import Options, train
from lrp_edge.training.options import UNET_LITE
from lrp_edge.training.start import network_of
from lrp_edge.training.unet import PixelModule, pixel_logits

CARD = ModelCard(
    ("hole", "ok"),
    ("hole",),
    InputSpec("GRAY", (0.5,), (0.2,), network_order="GRAY", standardise=True),
    architecture={"family": "unet", "encoder": "efficientnet_lite0", "channels": 1, "width": 1.0, "dropout": 0.0},
)


@pytest.fixture(scope="module")
def pretrained() -> EncodedUNet:
    torch.manual_seed(0)
    model, _ = network_of(CARD, Options(model=UNET_LITE))
    assert isinstance(model, EncodedUNet)
    return model.eval()


def test_the_decoder_is_handed_each_size_of_the_classifiers_features(pretrained: EncodedUNet) -> None:
    handed = []
    pretrained.decoder.register_forward_pre_hook(lambda _, given: handed.extend(given[0]))
    image = torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        logits = pretrained(image)
        assert logits.shape == image.shape
        assert [image.shape[2] // level.shape[2] for level in handed] == [1, 2, 4, 8, 16, 32]
        torch.testing.assert_close(handed[0], image)
        # Each is what the classifier's own extractor gives when it ends there.
        for stages, level in zip(SKIPPED, handed[2:], strict=True):
            part = efficientnet_lite0(channels=1, stages=stages, stride=32).eval()
            start_lite0(part, imagenet_lite0(), "imagenet")
            torch.testing.assert_close(level, part(image))


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (33, 250)])
def test_frames_of_any_size(pretrained: EncodedUNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert pixel_logits(pretrained, torch.randn(1, 1, *size)).shape == (1, 1, *size)


def test_before_it_learns_most_pixels_are_ok(pretrained: EncodedUNet) -> None:
    with torch.no_grad():
        assert (pretrained(torch.randn(2, 1, 64, 64)) < 0).float().mean() > 0.9


def test_statistics_of_the_encoder_stay_and_those_of_the_decoder_do_not(pretrained: EncodedUNet) -> None:
    options = Options(model=UNET_LITE)
    module = PixelModule(pretrained, CARD, options, None)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in pretrained.state_dict().items()}
    pretrained(torch.randn(2, 1, 64, 64))
    changed = {name for name, value in pretrained.state_dict().items() if not torch.equal(value, before[name])}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {name for name in before if name.startswith("decoder.") and name.endswith(statistics)}
    rates = {id(parameter): rate for parameter, rate in module._rates()}
    assert {rates[id(p)] for p in pretrained.features.parameters()} == {options.backbone_lr}
    assert {rates[id(p)] for part in (pretrained.decoder, pretrained.head) for p in part.parameters()} == {1.0}


def test_a_checkpoint_answers_as_the_network(pretrained: EncodedUNet, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "model.safetensors", pretrained, CARD)
    loaded, card = load_checkpoint(path)
    image = torch.randn(1, 1, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), pretrained.eval()(image))
    frame = (image[0, 0, :, :, None] * 40 + 128).clamp(0, 255).to(torch.uint8).numpy()
    result = open_predictor(path)(frame)
    assert result.mask.shape == (64, 96)
    assert card.architecture == CARD.architecture


def test_an_unknown_encoder_and_weights_of_another_network(tmp_path: Path) -> None:
    with pytest.raises(LrpEdgeError, match="encoder is 'resnet18'; expected efficientnet_lite0"):
        build({**CARD.architecture, "encoder": "resnet18"})
    save_file({"conv.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(LrpEdgeError, match="these are not weights of efficientnet_lite0"):
        network_of(CARD, Options(model=UNET_LITE, weights=str(tmp_path / "other.safetensors")))
    with pytest.raises(LrpEdgeError, match=r"model is 'unet:resnet18'; expected .* or unet:efficientnet_lite0"):
        Options(model="unet:resnet18")


def test_it_learns_masks_from_its_pretrained_start(tmp_path: Path) -> None:
    synthetic.write_dataset(tmp_path, 60, size=(96, 112))
    data = open_dataset(tmp_path / "images", masks=tmp_path / "masks")
    options = Options(
        model=UNET_LITE, epochs=10, patch=64, lr=1e-3, backbone_lr=0.5, val_every=5, val=0.2, test=0.2, ema=0.8
    )
    result = train(data, tmp_path / "run", options, progress=False)
    history = json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"]
    assert history[-1]["val_iou"] > 0.4
    assert result.card.provenance["supervision"] == "pixel"
    evaluation = evaluate(result.checkpoint, data, split=tmp_path / "run" / "split.json", part="val")
    assert evaluation.pixels["all images"].iou == pytest.approx(history[-1]["val_iou"], abs=0.03)
