"""The table of networks, on a tiny network and a head: what is measured, kept, resumed and written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tools.families import deployed, oracles
from tools.families.__main__ import DOCS
from tools.families.catalogue import SUBJECTS, Subject
from tools.families.deployed import Deployed
from tools.families.drawn import drawn, without_biases
from tools.families.heads.parts import Calls
from tools.families.page import page
from tools.families.rival import NotComparableError, as_modules
from tools.families.runs import Limits, drop, measure_all, measure_one
from tools.families.steps import STEPS, missing
from tools.families.store import Store


class Tiny(nn.Module):
    """Convolutions, BatchNorm, a residual sum, a mean and a head: what zennit knows once it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)
        # The strongest class is OK, which is still less likely than the others together: a defect is explained.
        self.head.bias.data[0] = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = nn.functional.relu(x + self.branch(x))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


TINY = Subject("timm/tiny~short", Tiny, 24, 32)
REFUSED = Subject("timm/refused", lambda: Calls(lambda x: torch.fft.fft2(x).real.mean((2, 3))), 24, 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "families").mkdir()
    shutil.copy(DOCS / "families" / "page.md", tmp_path / "families")
    return Store(tmp_path)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_each_has_a_file_of_its_own() -> None:
    assert len({subject.slug for subject in SUBJECTS.values()}) == len(SUBJECTS)
    assert sum(not subject.is_head for subject in SUBJECTS.values()) >= 77
    assert sum(subject.is_head for subject in SUBJECTS.values()) >= 107


def test_a_network_is_measured_step_by_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployed, "ROUNDS", 2)
    steps = [name for name in STEPS if name != "dynamic" and not name.startswith("rtx")]
    measure_one(store, Deployed(TINY), steps)
    found = store.steps(TINY)
    assert list(found) == steps
    assert not any("error" in figures for figures in found.values()), found
    assert found["network"]["parameters"] == 3 * 6 * 9 + 12 + 6 * 6 * 9 + 6 + 35
    assert found["relevance"]["unlike_gradient"] == []
    assert found["relevance"]["lrp_0"] < 1e-8
    assert found["relevance"]["conservation"] == pytest.approx([1, 1], abs=1e-6)
    assert found["zennit"]["difference"] < 1e-10
    for name in ("onnx", "openvino"):
        assert 0 < found[name]["relevance_max"] < 1e-4
    assert found["onnx"]["classifier_macs"] == 16 * 16 * (3 * 6 * 9 + 6 * 6 * 9) + 30
    assert found["cost"]["both_ms"] > found["cost"]["classifier_ms"] > 0
    text = page(store)
    assert "1 of 1 networks unroll, 1 of 1 that were tried export" in text
    assert f"| {found['zennit']['difference']:.1e} | 1.0000 | {found['onnx']['relevance_max']:.1e} |" in text

    # What is stored is not measured again, and what is missing is.
    before = store.path_of(TINY).read_text()
    measure_all(store, [TINY], steps, Limits())
    assert store.path_of(TINY).read_text() == before
    drop(store, [TINY], ["zennit", "cost"], only_failed=True)
    assert list(missing(TINY, store.steps(TINY), steps)) == []
    drop(store, [TINY], ["zennit", "cost"], only_failed=False)
    assert list(missing(TINY, store.steps(TINY), steps)) == ["zennit", "cost"]


@pytest.mark.thorough
def test_sizes_and_engines(store: Store) -> None:
    pytest.importorskip("tensorrt_rtx")
    steps = [name for name in STEPS if name == "dynamic" or name.startswith("rtx")]
    measure_one(store, Deployed(TINY), steps)
    found = store.steps(TINY)
    assert found["dynamic"]["size"] == [24, 40]
    assert 0 < found["dynamic"]["relevance_max"] < 1e-4
    assert all(figures["mb"] > 0.01 for name, figures in found.items() if name != "dynamic")
    assert "| all | yes, " in page(store)


def test_a_network_that_is_refused_has_its_reason(store: Store) -> None:
    measure_one(store, Deployed(REFUSED), list(STEPS))
    found = store.steps(REFUSED)
    assert list(found) == ["network", "relevance"]
    assert found["relevance"]["error"].startswith("no rule for operator aten.view_as_real")
    assert "compute it" not in found["relevance"]["error"]
    row = next(line for line in page(store).splitlines() if line.startswith("| timm/refused"))
    assert "| no: no rule for operator aten.view_as_real" in row
    assert row.endswith("|" + " – |" * 10)
    drop(store, [REFUSED], list(STEPS), only_failed=True)
    assert list(store.steps(REFUSED)) == ["network"]


def test_a_head_is_measured_in_a_process_of_its_own(store: Store) -> None:
    head = SUBJECTS["head/mean((2, 3))"]
    measure_all(store, [head], ["network", "relevance"], Limits())
    found = store.steps(head)
    assert found["relevance"]["lrp_0"] < 1e-8
    assert f"| mean((2, 3)) | yes | {found['relevance']['lrp_0']:.1e} | 1.0000 | – | – |" in page(store)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(minutes=0.01), "not done within 0.01 minutes"),
        (Limits(gigabytes=0.02), "needs more than 0.02 GB of memory"),
    ],
)
def test_limits_are_reasons(store: Store, limits: Limits, reason: str) -> None:
    head = SUBJECTS["head/mean((2, 3))"]
    measure_all(store, [head], list(STEPS), limits)
    assert {name: figures["error"] for name, figures in store.steps(head).items()} == {"network": reason}


def test_the_page_marks_what_is_off(store: Store) -> None:
    figures = {
        "network": {"parameters": 2_000_000},
        "relevance": {"unlike_gradient": [], "lrp_0": 0.5, "conservation": [1.0, 0.9]},
        "zennit": {"not_compared": "cannot be traced"},
        "onnx": {"error": "not | what PyTorch computes"},
        "dynamic": {"fixed_by_network": "64 expected"},
        "rtx-fp32-sm86": {"mb": 1.0},
        "rtx-fp16-sm86": {"error": "no kernel"},
    }
    for step, figure in figures.items():
        store.keep(TINY, step, figure)
    lines = page(store).splitlines()
    row = "| timm/tiny~short | 2.0 M | yes | **5.0e-01** | n/a [1] | **0.9000** | no [2] | – | 1 of 2 [3] | fixed [4] |"
    assert any(line.startswith(row) for line in lines)
    for note in (
        "1. cannot be traced",
        r"2. not \| what PyTorch computes",
        "3. no kernel",
        "4. the network itself: 64 expected",
    ):
        assert note in lines


def test_what_starts_at_nothing_is_drawn() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.LayerNorm(4))
    model.register_parameter("gamma", nn.Parameter(torch.full((4,), 1e-6)))
    model.register_parameter("cls_token", nn.Parameter(torch.zeros(1, 1, 4)))
    weight = model[0].weight.clone()
    first = {name: value.clone() for name, value in drawn(model).state_dict().items()}
    assert torch.equal(first["0.weight"], weight)
    for name in ("1.running_mean", "1.weight", "2.bias", "gamma", "cls_token"):
        assert float(first[name].abs().min()) > 0
    assert float(first["gamma"].min()) >= 0.1
    bare = without_biases(model).state_dict()
    zeros = {name for name, value in bare.items() if not value.any()} - {"1.num_batches_tracked"}
    assert zeros == {"0.bias", "1.bias", "1.running_mean", "2.bias", "cls_token"}
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())


def test_zennit_gets_the_same_network_or_none() -> None:
    model, x = drawn(Tiny()).double(), torch.randn(2, 3, 24, 24, dtype=torch.float64)
    rival = as_modules(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in rival.modules())
    assert oracles.difference(rival(x).detach(), model(x).detach()) < 1e-12
    for layer, reason in ((nn.Softmax(1), "no rule for Softmax"), (Calls(torch.special.erf), "do not see")):
        with pytest.raises(NotComparableError, match=reason):
            as_modules(nn.Sequential(nn.Conv2d(3, 4, 1), layer))


def test_the_page_in_the_project_is_that_of_its_figures() -> None:
    if not any((DOCS / "families").glob("*.json")):
        pytest.skip("no figures are stored")
    assert page(Store(DOCS)) == (DOCS / "families.md").read_text()
    for path in (DOCS / "families").glob("*.json"):
        content = json.loads(path.read_text())
        assert SUBJECTS[content["name"]].slug == path.stem
