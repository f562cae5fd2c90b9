"""Networks that return scores instead of logits, or a single logit."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrp_edge import ModelCard
from lrp_edge.card import InputSpec
from lrp_edge.errors import LrpEdgeError
from lrp_edge.export import to_onnx
from lrp_edge.relevance import Assignment, composite_from, unroll
from lrp_edge.relevance.layers import Kind
from lrp_edge.relevance.rules import ZPlus
from lrp_edge.runtime import Segmenter
from tests.relevance.test_operators import Of

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def classifier(classes, *after):
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *head, *after).eval()


LAST = {
    "sigmoid": (nn.Sigmoid(), "sigmoid", identity := (lambda scores: scores)),
    "softmax": (nn.Softmax(1), "softmax", identity),
    "softmax of the last axis": (nn.Softmax(-1), "softmax", identity),
    "log softmax": (nn.LogSoftmax(1), "softmax", torch.exp),
    "log sigmoid": (nn.LogSigmoid(), "sigmoid", torch.exp),
}


@pytest.mark.parametrize("name", LAST)
def test_a_last_activation_is_taken_off_and_scores_stay(name, tmp_path):
    last, activation, probability = LAST[name]
    model, without = classifier(3, last), classifier(3)
    unrolled = unroll(model, X, any_size=False)
    assert unrolled.activation == activation
    expected = unroll(without, X, any_size=False)(X)
    assert all(torch.equal(found, wanted) for found, wanted in zip(unrolled(X), expected, strict=True))
    card = ModelCard(("ok", "a", "b"), ("a", "b"), InputSpec(order="RGB", size=(16, 16)))
    segmenter = Segmenter(to_onnx(model, tmp_path, card=card))
    assert segmenter.card.activation == activation
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image = torch.from_numpy(frame[None]).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (card.input.mean, card.input.std))
    wanted = probability(model((image / 255 - mean) / std))[0]
    np.testing.assert_allclose(segmenter(frame).scores, wanted.detach().numpy(), atol=1e-5)


SINGLE = {
    "logit": (),
    "sigmoid": (nn.Sigmoid(),),
    "no axis of classes": (nn.Flatten(0),),
    "sigmoid without axis": (nn.Flatten(0), nn.Sigmoid()),
    "squeezed": (Of(lambda s, x: x.squeeze(1)),),
}


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_logit_is_that_of_the_second_of_two_classes(name):
    logit = classifier(1)(X)
    logits, relevance = unroll(classifier(1, *SINGLE[name]), X, target=1, any_size=False)(X)
    expected = unroll(classifier(1), X, target=1, any_size=False)(X)[1]
    torch.testing.assert_close(logits, F.pad(logit, (1, 0)))
    torch.testing.assert_close(relevance, expected)
    torch.testing.assert_close(logits.softmax(1)[:, 1], logit.sigmoid()[:, 0])


@pytest.mark.parametrize(
    ("block", "place"),
    [
        (lambda s, x: torch.cat([1 - x.sigmoid(), x.sigmoid()], 1), "aten.sigmoid"),
        (lambda s, x: torch.stack([1 - x[:, 0].sigmoid(), x[:, 0].sigmoid()], 1), "aten.sigmoid"),
        (lambda s, x: F.pad(x, (1, 0)).softmax(1).clamp(1e-6, 1), "aten.softmax"),
    ],
)
def test_scores_made_in_another_way_are_refused(block, place):
    with pytest.raises(LrpEdgeError, match=rf"returns scores made of {place}\.\w+ at 5; let it return the logits"):
        unroll(classifier(1, Of(block)), X, any_size=False)


@pytest.mark.parametrize(
    ("target", "composite"),
    [("defect", "Segmentation"), (1, "Segmentation"), ("defect", "zplus"), (1, "zplus"), ("evidence", "zplus")],
)
def test_relevance_speaks_for_a_class_whatever_the_sign_of_its_logit(target, composite):
    """A bias that is alike in all classes changes no evidence, by rules that divide by the logit and by others."""
    chosen = composite_from("Segmentation", {})
    if composite == "zplus":
        chosen = chosen.override(Assignment(ZPlus(), frozenset({Kind.LINEAR})))
    found = []
    for shift in (-30.0, 30.0):
        model = classifier(3)
        model[-1].bias.data += shift
        with torch.no_grad():
            found.append(unroll(model, X, chosen, target, defects=[1, 2], any_size=False)(X)[1])
    assert float((found[0] * found[1]).sum()) > 0.9 * float(found[0].norm() * found[1].norm())
    if composite == "zplus":
        assert min(float(relevance.min()) for relevance in found) >= 0
