"""Weights under the names that wrappers and trainings give them, and factories that fail."""

import importlib
import string
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from lrp_edge.errors import LrpEdgeError
from lrp_edge.factory import fitting_weights, load_factory, load_weights, named_as, read_weights


def network(classes=2):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def drawn(seed=3):
    torch.manual_seed(seed)
    return network()


def alike(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


WORD = st.text(string.ascii_lowercase, min_size=1, max_size=6)


@given(st.lists(WORD, max_size=2), st.lists(st.sampled_from(["module", "_orig_mod"]), max_size=2), st.booleans())
def test_prefixes_and_wrappers_do_not_matter(prefix, wrappers, others):
    own = network().state_dict()
    given_names = {".".join([*wrappers, *prefix, *wrappers, name]): value for name, value in own.items()}
    if others and prefix:
        given_names |= {"loss.weight": torch.ones(3), "step": torch.tensor(1)}
    found = named_as(own, given_names)
    assert {name: id(value) for name, value in found.items()} == {name: id(value) for name, value in own.items()}


def test_a_wrapper_inside_a_network_does_not_matter():
    own = network().state_dict()
    inside = {f"{name.partition('.')[0]}._orig_mod.{name.partition('.')[2]}": value for name, value in own.items()}
    assert named_as(own, inside).keys() == own.keys()


def test_a_model_of_compiled_parts_takes_bare_weights():
    own = network().state_dict()
    compiled = {f"{name.partition('.')[0]}._orig_mod.{name.partition('.')[2]}": value for name, value in own.items()}
    for prefix in ("", "model.", "module.model."):
        assert named_as(compiled, {prefix + name: value for name, value in own.items()}) == compiled


def test_names_that_contain_a_wrapper_s_stay():
    own = {"module.weight": torch.ones(1), "head.weight": torch.ones(2)}
    assert named_as(own, own) == own
    assert named_as(own, {f"model.{name}": value for name, value in own.items()}) == own


SAVED = {
    "bare": lambda state: state,
    "Lightning": lambda state: {
        "state_dict": {f"model.{name}": value for name, value in state.items()} | {"loss.weight": torch.ones(2)},
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
        "pytorch-lightning_version": "2.5",
    },
    "DataParallel": lambda state: {"model_state_dict": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {"model": {f"_orig_mod.{name}": value for name, value in state.items()}, "args": [1]},
    "nested": lambda state: {"model": {"state_dict": state}},
    "without counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    "with weights of an average": lambda state: {
        "state_dict": state,
        "state_dict_ema": {k: v * 0 for k, v in state.items()},
    },
}


@pytest.mark.parametrize("kind", SAVED)
def test_files_of_trainings(kind, tmp_path):
    trained, model = drawn(), network()
    torch.save(SAVED[kind](trained.state_dict()), tmp_path / "run.ckpt")
    load_weights(model, tmp_path / "run.ckpt")
    assert alike(model, trained)
    fitting, missing = fitting_weights(network(5), read_weights(tmp_path / "run.ckpt"), "run.ckpt")
    assert missing == ["3.weight", "3.bias"]
    assert "0.weight" in fitting


def test_a_wrapped_model_takes_the_weights_of_a_bare_one(tmp_path):
    trained, wrapped = drawn(), nn.DataParallel(network())
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    load_weights(wrapped, tmp_path / "w.safetensors")
    assert alike(wrapped.module, trained)


def without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: without(state, "3.bias", "0.bias"), r"missing 0\.bias, 3\.bias; expected its state dict"),
        (lambda state: state | {"4.bias": torch.ones(1)}, r"not expected 4\.bias"),
        (lambda state: state | {"3.bias": torch.ones(7)}, r"3\.bias is \[7\] and not \[2\]"),
        (
            lambda state: {f"x{i}": torch.ones(1) for i in range(9)},
            r"missing 0\.weight, .* and 5 more; not expected x0, x1, x2 and 6",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(change, message, tmp_path):
    model = drawn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(change(model.state_dict()), tmp_path / "w.pt")
    with pytest.raises(LrpEdgeError, match=message) as caught:
        load_weights(model, tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Harmful:
    def __reduce__(self):
        return (print, ("this was run",))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (Harmful(), "holds other objects than tensors, which could run code"),
        (network(), "holds other objects than tensors, which could run code"),
        ({"state_dict": network().state_dict(), "hyper": Harmful()}, "holds other objects than tensors"),
        ({"epoch": 1, "lr": 0.1}, "not a state dict but a dict of epoch, lr"),
        ([torch.ones(1)], "not a state dict but list"),
        ({}, "not a state dict"),
    ],
)
def test_no_pickle_of_anything_else_is_read(stored, message, tmp_path, capsys):
    torch.save(stored, tmp_path / "w.pt")
    with pytest.raises(LrpEdgeError, match=message):
        read_weights(tmp_path / "w.pt")
    assert "this was run" not in capsys.readouterr().out


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:999], lambda whole: b"weights"])
def test_a_damaged_file_is_not_taken_for_a_harmful_one(damage, tmp_path):
    torch.save(network().state_dict(), tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes(damage((tmp_path / "w.pt").read_bytes()))
    with pytest.raises(LrpEdgeError, match="these weights cannot be loaded"):
        read_weights(tmp_path / "w.pt")


FAILING = {
    "import missing_one\n": r"user_code cannot be imported: ModuleNotFoundError: .*'missing_one'.*line 1\); install it",
    "x = 1\ny = x / 0\n": r"user_code cannot be imported: ZeroDivisionError: .*\(user_code\.py, line 2\); correct it",
    "def make(:\n": r"user_code cannot be imported: SyntaxError: .*\(user_code\.py, line 1\)",
    "def make():\n    return inner()\ndef inner():\n    return {}['lost']\n": r"user_code:make .*: KeyError: .*line 4",
    "import torch\ndef make():\n    return torch.nn.Linear(2, -1)\n": r".*: RuntimeError: .*user_code\.py, line 3",
    "def make():\n    assert False\n": r"fails when it is called: AssertionError \(user_code\.py, line 2\)",
    "other = 1\n": "user_code has no 'make'; expected module:factory",
    "def make():\n    return 3\n": "returned int; expected a torch.nn.Module",
}


@pytest.mark.parametrize("code", FAILING)
def test_a_factory_that_fails_says_where(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user_code.py").write_text(code)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "user_code", raising=False)
    with pytest.raises(LrpEdgeError, match=FAILING[code]) as caught:
        load_factory("user_code:make")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere:make", "nowhere.inner:make"])
def test_a_module_that_is_not_there(name):
    with pytest.raises(LrpEdgeError, match=f"cannot find '{name}': no module 'nowhere'; expected module:factory"):
        load_factory(name)


def test_a_factory_may_import_from_the_working_folder_when_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    before = list(sys.path)
    (tmp_path / "late_parts").mkdir()
    (tmp_path / "late_parts" / "net.py").write_text("from torch import nn\nNet = nn.Identity\n")
    (tmp_path / "late.py").write_text("def make():\n    from late_parts.net import Net\n    return Net()\n")
    assert isinstance(load_factory("late:make"), nn.Identity)
    assert sys.path == before
