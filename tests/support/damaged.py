"""Model files that are damaged, or made to harm."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from tests.support.runtime_graphs import brightness_card, brightness_graph


def bytes_changed(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield a file with a few of its bytes changed, and with its end cut off."""
    draw = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 6)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        yield bytes(changed[: draw.randrange(len(changed))] if draw.random() < 0.1 else changed)


def with_external_data(location: str) -> bytes:
    """Return a model one of whose constants is in another file."""
    model = brightness_graph(brightness_card(), 3, None)
    tensor = next(each for each in model.graph.initializer if each.name == "limit")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return bytes(model.SerializeToString())


def with_functions(count: int) -> bytes:
    """Return a model that calls a function that calls a function, and so on."""
    model = brightness_graph(brightness_card(), 3, None)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("deep", 1)]
    for index in range(count):
        call = ("Identity", "") if index == count - 1 else (f"f{index + 1}", "deep")
        node = helper.make_node(call[0], ["x"], ["y"], domain=call[1])
        model.functions.append(helper.make_function("deep", f"f{index}", ["x"], ["y"], [node], opsets))
    model.opset_import.append(opsets[1])
    model.graph.node[0].input[0] = "called"
    model.graph.node.insert(0, helper.make_node("f0", ["image"], ["called"], domain="deep"))
    return bytes(model.SerializeToString())


def hostile(folder: Path) -> dict[str, bytes]:
    """Return files by what is wrong with them; next to the folder there is data that they point at."""
    (folder.parent / "outside.bin").write_bytes(b"\0\0\0\0")
    (folder / "link.bin").symlink_to("/etc/passwd")
    locations = ["/etc/passwd", "../outside.bin", "link.bin", "missing.bin", "/dev/zero", "*/_ORT_MEM_ADDR_/*", "a\0b"]
    return {
        **{f"external data {location!r}": with_external_data(location) for location in locations},
        **{f"{count} functions": with_functions(count) for count in (101, 3000, 20_000)},
        "name that is not UTF-8": renamed(b"relevance", b"rele\xffance"),
        "metadata that are not UTF-8": renamed(b'"otsu"', b'"ot\xffu"'),
        "nothing": b"",
        "text": b"no model",
    }


def renamed(old: bytes, new: bytes) -> bytes:
    """Return a model with some bytes in place of others as many."""
    data: bytes = brightness_graph(brightness_card(), 3, None).SerializeToString()
    assert old in data
    assert len(old) == len(new)
    return data.replace(old, new)


def whole() -> bytes:
    """Return a model that is not damaged."""
    model: onnx.ModelProto = brightness_graph(brightness_card(), 3, None)
    return bytes(model.SerializeToString())
