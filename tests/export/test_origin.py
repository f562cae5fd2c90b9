"""Networks of libraries by name, with weights as trainings leave them: loaded, exported, verified."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from lrp_edge.errors import LrpEdgeError
from lrp_edge.export.origin import load_model
from lrp_edge.export.read import card_of
from lrp_edge.runtime import Segmenter
from tests.support.command import lrp_edge

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
# A network of timm's own tests, of half a million weights.
NAME = "timm:test_resnet"


def trained(classes, prefix="model."):
    """A network with random weights, and a file of a training that holds them."""
    from lrp_edge.backbones.library import library_network

    torch.manual_seed(0)
    network = library_network("timm", "test_resnet", classes=classes).eval()
    return network, {"state_dict": {prefix + name: value for name, value in network.state_dict().items()}, "epoch": 1}


@pytest.mark.parametrize(("outputs", "classes"), [(3, 3), (2, 2), (1, 2)])
def test_a_library_s_network_has_the_outputs_of_its_weights(outputs, classes, tmp_path):
    network, stored = trained(outputs)
    torch.save(stored, tmp_path / "run.ckpt")
    model, card, origin = load_model(NAME, tmp_path / "run.ckpt", classes)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.eval()(image), network(image))
    assert card is None
    assert origin["model"] == NAME
    assert origin["checkpoint"] == "run.ckpt"


def test_a_library_s_network_without_weights_is_refused(tmp_path):
    with pytest.raises(LrpEdgeError, match=r"timm:test_resnet has no weights yet; give .* --weights FILE, or imagenet"):
        load_model(NAME)
    torch.save(trained(4)[1], tmp_path / "run.ckpt")
    with pytest.raises(LrpEdgeError, match=r"fc\.weight is \[4, .* and not \[2, "):
        load_model(NAME, tmp_path / "run.ckpt", 2)
    with pytest.raises(LrpEdgeError, match="torchvision has no network 'resnet81'"):
        load_model("torchvision:resnet81", tmp_path / "run.ckpt", 2)


def test_one_logit_is_exported_and_verified(tmp_path):
    network, stored = trained(1, "module.")
    torch.save(stored, tmp_path / "run.ckpt")
    given = ("--weights", tmp_path / "run.ckpt")
    exported = lrp_edge("export", NAME, *given, "--classes", "ok,defect", "--size", "48x64", "-o", tmp_path)
    assert exported.returncode == 0, exported.stderr
    card = card_of(tmp_path / "model.onnx")
    assert card.provenance["model"] == NAME
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    mean, std = (np.array(values, np.float32) for values in (card.input.mean, card.input.std))
    image = torch.from_numpy(((frame[..., ::-1] if card.input.order != "RGB" else frame) / 255 - mean) / std)
    with torch.no_grad():
        probability = float(network(image.permute(2, 0, 1)[None].float()).sigmoid())
    found = Segmenter(tmp_path / "model.onnx")(frame)
    np.testing.assert_allclose(found.scores, [1 - probability, probability], atol=1e-5)
    verified = lrp_edge("verify", tmp_path / "model.onnx", "--against", NAME, *given)
    assert verified.returncode == 0, verified.stdout + verified.stderr
