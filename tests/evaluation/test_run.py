"""Figures against scikit-learn and NumPy, on masks and scores that are known."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.measure import label
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score, roc_auc_score, roc_curve

from lrp_edge.card import InputSpec, ModelCard
from lrp_edge.errors import LrpEdgeError
from lrp_edge.evaluation import evaluate
from lrp_edge.runtime import Segmentation, Segmenter

CARD = ModelCard(
    ("crack", "ok", "scratch"), ("crack", "scratch"), InputSpec("GRAY", (0.0,), (1.0,), network_order="GRAY")
)


class Known(Segmenter):
    """Answers with what each frame's brightness says, so that every figure can be computed apart."""

    def __init__(self):
        self.card = CARD
        self.known = {}

    @property
    def answers(self):
        return list(self.known.values())

    def __call__(self, frame):
        draw = np.random.default_rng(round(frame.mean() / 8))
        scores = draw.dirichlet(np.ones(3)).astype(np.float32)
        relevance = draw.normal(size=frame.shape[:2]).astype(np.float32)
        decided = int(scores.argmax())
        mask = np.where(relevance > 1, 255, 0).astype(np.uint8)
        # A frame with a place filled, as the proof of location asks for, has the answer of the frame.
        answer = SimpleNamespace(label=decided, scores=scores, mask=mask > 0, relevance=relevance)
        self.known.setdefault(round(frame.mean() / 8), answer)
        return Segmentation(decided, CARD.classes[decided], decided != 1, scores, mask, relevance, 1.0)


@pytest.fixture
def line(tmp_path):
    draw = np.random.default_rng(0)
    truths = []
    for number in range(30):
        kind = CARD.classes[number // 10]
        image = np.full((40, 50), 8 * number, np.uint8)
        truth = (draw.random((40, 50)) < 0.2).astype(np.uint8) * (255 if kind != "ok" else 0)
        for part, pixels in (("images", image), ("masks", truth)):
            path = tmp_path / part / kind / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), pixels)
        truths.append((kind, truth > 0))
    return tmp_path, truths


def test_figures(line):
    folder, truths = line
    model = Known()
    result = evaluate(model, folder / "images", masks=folder / "masks")
    labels = [CARD.classes.index(kind) for kind, _ in truths]
    scores = [1 - answer.scores[1] for answer in model.answers]
    decided = [answer.label for answer in model.answers]
    assert result.auroc == pytest.approx(roc_auc_score([label != 1 for label in labels], scores))
    assert result.accuracy == pytest.approx(np.mean(np.equal(labels, decided)))
    recalls = recall_score(labels, decided, average=None)
    assert [result.recall[name] for name in CARD.classes] == pytest.approx(list(recalls))
    assert np.sum(result.confusion) == 30
    for name, kinds in (
        ("crack", {"crack"}),
        ("scratch", {"scratch"}),
        ("all defects", {"crack", "scratch"}),
        ("all images", {"crack", "ok", "scratch"}),
    ):
        chosen = [i for i, (kind, _) in enumerate(truths) if kind in kinds]
        truth = np.concatenate([truths[i][1].ravel() for i in chosen])
        mask = np.concatenate([model.answers[i].mask.ravel() for i in chosen])
        relevance = np.concatenate([model.answers[i].relevance.ravel() for i in chosen])
        bad = [i for i in chosen if truths[i][1].any()]
        own = np.mean([roc_auc_score(truths[i][1].ravel(), model.answers[i].relevance.ravel()) for i in bad])
        ious = np.mean([jaccard_score(truths[i][1].ravel(), model.answers[i].mask.ravel()) for i in bad])
        part = result.pixels[name]
        assert part.images == len(chosen)
        got = (part.auroc, part.auroc_per_image, part.iou, part.f1, part.precision, part.recall)
        measures = (jaccard_score, f1_score, precision_score, recall_score)
        assert got == pytest.approx((roc_auc_score(truth, relevance), own, *(f(truth, mask) for f in measures)))
        assert part.iou_per_image == pytest.approx(ious)
    false, true, _ = roc_curve([label != 1 for label in labels], scores)
    assert result.recall_at_rate == max(true[false <= 0.05])
    stored = json.loads(result.to_json())
    assert (stored["images"], len(stored["cases"])) == (30, 30)
    assert f"| all defects | 20 | {result.pixels['all defects'].auroc:.3f} |" in result.to_markdown()
    usability = result.usability
    assert usability.auroc.value == pytest.approx(result.auroc)
    assert usability.pixel_auroc.value == pytest.approx(result.pixels["all defects"].auroc_per_image)
    rights = np.array([(label != 1) == (which != 1) for label, which in zip(labels, decided, strict=True)])
    assert usability.found["ok"].value == pytest.approx(rights[np.equal(labels, 1)].mean())
    assert usability.location.removed.value == 0  # No filling changes what this model says.
    assert any(said.startswith("mask: with what the mask covers filled, 0.00 (") for said in usability.unusable)
    assert stored["usability"]["unusable"] == usability.unusable
    assert f"- {usability.lines()[-1]}" in result.to_markdown()


def test_severity_correlates_over_defect_images(line):
    folder, truths = line
    model = Known()
    result = evaluate(model, folder / "images", masks=folder / "masks")
    bad = [i for i, (kind, _) in enumerate(truths) if kind != "ok"]
    areas = [[truths[i][1].sum() for i in bad], [model.answers[i].mask.sum() for i in bad]]
    counts = [
        [label(truths[i][1], connectivity=2).max() for i in bad],
        [label(model.answers[i].mask, connectivity=2).max() for i in bad],
    ]
    assert result.severity["area"] == pytest.approx(spearmanr(*areas).statistic)
    assert result.severity["count"] == pytest.approx(spearmanr(*counts).statistic)
    case = next(case for case in result.cases if case.label == "scratch")
    assert case.truth.area == truths[20][1].sum()


def test_only_the_part_of_a_split_is_run(line):
    folder, _ = line
    names = ["crack/03.png", "ok/11.png", "ok/12.png", "scratch/29.png"]
    split = folder / "split.json"
    split.write_text(json.dumps({"train": ["ok/10.png"], "val": [], "test": names}))
    model = Known()
    result = evaluate(model, folder / "images", split=split)
    assert (result.images, result.pixels, len(model.answers)) == (4, {}, 4)
    with pytest.raises(LrpEdgeError, match="no images of a part 'val'"):
        evaluate(model, folder / "images", split=split, part="val")
    split.write_text(json.dumps({"train": [], "val": [], "test": ["ok/99.png"]}))
    with pytest.raises(LrpEdgeError, match="1 of 1 images are not in the data"):
        evaluate(model, folder / "images", split=split)


def test_masks_that_do_not_fit(line):
    folder, _ = line
    cv2.imwrite(str(folder / "masks" / "crack" / "00.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(LrpEdgeError, match="expected the same size"):
        evaluate(Known(), folder / "images", masks=folder / "masks")
    (folder / "masks" / "crack" / "00.png").unlink()
    assert evaluate(Known(), folder / "images", masks=folder / "masks").pixels["crack"].images == 9


def test_classes_that_the_model_does_not_know(line):
    folder, _ = line
    (folder / "images" / "crack").rename(folder / "images" / "dent")
    with pytest.raises(LrpEdgeError, match="class 'dent' of the data"):
        evaluate(Known(), folder / "images")
