from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lrp_edge.card import METADATA_KEY, InputSpec, ModelCard
from lrp_edge.checkpoint import load_checkpoint, save_checkpoint
from lrp_edge.classifiers import Classifier, build
from lrp_edge.errors import LrpEdgeError

ARCHITECTURE = {"family": "vgg", "width": 0.05, "channels": 1, "classes": 2}


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        classes=("ok", "crack"),
        defects=("crack",),
        input=InputSpec(order="GRAY", network_order="GRAY", mean=(0.4,), std=(0.2,)),
        architecture=dict(ARCHITECTURE),
        provenance={"seed": 3},
    )


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    model = build(ARCHITECTURE)
    model(torch.rand(4, 1, 64, 64))
    return model.eval()


def test_model_and_card_come_back_as_they_were(tmp_path: Path, model: Classifier, card: ModelCard) -> None:
    path = save_checkpoint(tmp_path / "m.safetensors", model, card)
    loaded, found = load_checkpoint(path)
    image = torch.rand(2, 1, 40, 56)
    assert torch.equal(loaded(image), model(image))
    assert found == card
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.safetensors"])
@pytest.mark.parametrize("kind", ["torch", "legacy", "bare"])
def test_a_pickle_is_refused_under_any_name(tmp_path: Path, model: Classifier, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "bare":
        path.write_bytes(pickle.dumps({"weights": [1.0]}))
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(LrpEdgeError, match="pickle"):
        load_checkpoint(path)


def test_a_file_cut_short_at_any_place_is_refused(tmp_path: Path, model: Classifier, card: ModelCard) -> None:
    whole = save_checkpoint(tmp_path / "m.safetensors", model, card).read_bytes()
    short = tmp_path / "short.safetensors"
    for length in (0, 4, 9, 500, len(whole) // 2, len(whole) - 1):
        short.write_bytes(whole[:length])
        with pytest.raises(LrpEdgeError, match="cut short") as caught:
            load_checkpoint(short)
        assert "\n" not in str(caught.value)


def test_a_file_without_card_and_a_missing_one_are_refused(tmp_path: Path, model: Classifier) -> None:
    save_file(model.state_dict(), tmp_path / "bare.safetensors")
    with pytest.raises(LrpEdgeError, match="no model card"):
        load_checkpoint(tmp_path / "bare.safetensors")
    with pytest.raises(LrpEdgeError, match="cannot be read"):
        load_checkpoint(tmp_path / "missing.safetensors")
    with pytest.raises(LrpEdgeError, match="cannot be read"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, model: Classifier, card: ModelCard, value: float) -> None:
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["head.weight"][0, 1] = value
    path = tmp_path / "m.safetensors"
    save_file(weights, path, metadata={METADATA_KEY: card.to_json()})
    with pytest.raises(LrpEdgeError, match=r"head\.weight has 1 NaN or infinite"):
        load_checkpoint(path)
    path.unlink()
    with torch.no_grad():
        model.head.weight[0, 1] = value
    with pytest.raises(LrpEdgeError, match=r"head\.weight has 1 NaN or infinite"):
        save_checkpoint(path, model, card)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "type"])
def test_weights_that_do_not_fit_the_card_are_refused(
    tmp_path: Path, model: Classifier, card: ModelCard, change: str
) -> None:
    path = save_checkpoint(tmp_path / "m.safetensors", model, card)
    weights = load_file(path)
    if change == "missing":
        del weights["head.bias"]
    elif change == "unknown":
        weights["head.bias2"] = torch.zeros(2)
    elif change == "shape":
        weights["head.bias"] = torch.zeros(3)
    else:
        weights["head.bias"] = weights["head.bias"].half()
    save_file(weights, path, metadata={METADATA_KEY: card.to_json()})
    with pytest.raises(LrpEdgeError, match=r"head\.bias2? is .* but the architecture"):
        load_checkpoint(path)


def test_a_folder_that_cannot_be_written_leaves_nothing(model: Classifier, card: ModelCard) -> None:
    with pytest.raises(LrpEdgeError, match="cannot be written"):
        save_checkpoint("/proc/nowhere/m.safetensors", model, card)
