"""Cards that somebody or something has altered: values of other types and ranges, other fields, other bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from lrp_edge.card import DecisionSpec
from tests.support.runtime_graphs import brightness_card

ENGINE = {
    "profile": {"min": [1, 2, 2], "opt": [1, 4, 5], "max": [3, 9, 9]},
    "engine": {"product": "rtx", "version": "1.4", "gpus": ["sm86"], "options": ["--batch", "1,1,3"]},
    "usable": {"unusable": ["mask"], "auroc": 0.5},
    "receptive_field": [31, 31],
}
#: Literals of JSON, and of what Python takes for it.
_NUMBERS = """
0 -0 -1 1 2 3.5 1.0 0.5 1e308 1e999 -1e400 1e-400 NaN Infinity -Infinity 2147483647 2147483648 -2147483649
"""
_WIDE = [str(2**63 - 1), str(2**63), str(2**64), str(10**40), "9" * 320, "9" * 5000]
_TEXTS = ["", "x", "ok", "stain", "it's", 'say "a"', "both ' and \"", "a\nb\t\x7f\x1b", "\0", "\\", "z" * 300]
_FOREIGN = ["Prüfung", "\u00a0\u200b😀", "\u0085"]
_ODD = [r'"\ud800"', r'"\udc00x"', r'"\ud83d\ude00"', '"\t"', "nul", "'x'", "+1", "01", ".5", "1.", "[1,]", '{"a":1,}']
_NESTED = """
null true false [] {} [[]] ["ok","ok"] ["ok","stain"] ["a",1] [1,2] [0,0] [-1,-1] [1.5,2.5] [NaN,1] [1,2,3] [0,0,0]
[2147483648,1] {"a":1} {"a":NaN} {"a":null} {"max":[]} {"min":[1,1,1]} {"min":[1,1,1],"opt":[1,1,1],"max":[0,1,1]}
{"unusable":1} {"unusable":["x"]} {"gpus":[1]} {"threshold":1} "BGR" "GRAY" "fp16" "sigmoid" "defect"
"""
_VALUES = [json.dumps(text, ensure_ascii=ascii) for text in _TEXTS + _FOREIGN for ascii in (True, False)]


def card_mutants(count: int, seed: int = 0) -> Iterator[str]:
    """Yield altered cards, and some that are only odd."""
    draw = random.Random(seed)
    plain = json.loads(brightness_card().to_json())
    decided = json.loads(brightness_card().replace(decision=DecisionSpec(0.5, 20, 0.1, None, 0.05)).to_json())
    whole = json.dumps(plain)
    for depth in range(95, 106):
        yield whole[:-1] + f', "parity": {{"a": {"[" * depth}{"]" * depth}}}}}'
        yield whole[:-1] + f', "parity": {{"a": {"[" * depth}1{"]" * depth}}}}}'
    yield from (
        "",
        "null",
        "[]",
        "1e999",
        "[" * 100_000,
        '{"a":' * 50_000,
        "\ufeff" + whole,
        whole + " x",
        whole + "\0",
    )
    yield whole[:-1] + ', "classes": ["a", "b"], "defects": []}'
    for _ in range(count):
        text = _mutant(draw, draw.choice([plain, decided, plain | ENGINE]))
        yield _with_bytes_changed(draw, text) if draw.random() < 0.2 else text


def _mutant(draw: random.Random, card: dict[str, Any]) -> str:
    card, marks = copy.deepcopy(card), {}
    for number in range(draw.choice([1, 1, 1, 2, 3])):
        group = draw.choice([card, *(each for each in card.values() if isinstance(each, dict))])
        name = draw.choice([*group, draw.choice(["x", "classes", "size", "é", ""])])
        if draw.random() < 0.15:
            group.pop(name, None)
            continue
        # Literals that json.dumps does not write are put in where it has written their mark.
        marks[f'"mark {number}"'] = draw.choice(
            [*_NUMBERS.split(), *_NESTED.split(), *_VALUES, *draw.choice([_WIDE, _ODD])]
        )
        inner = group.get(name)
        if isinstance(inner, list) and inner and draw.random() < 0.5:
            inner[draw.randrange(len(inner))] = f"mark {number}"
        else:
            group[name] = f"mark {number}"
    text = json.dumps(card, ensure_ascii=draw.random() < 0.5)
    for mark, literal in marks.items():
        text = text.replace(mark, literal)
    return text


def _with_bytes_changed(draw: random.Random, text: str) -> str:
    data = bytearray(text.encode())
    for _ in range(draw.randint(1, 4)):
        data[draw.randrange(len(data))] = draw.choice(b'{}[]",:0e\\- \x00')
    return data.decode(errors="replace")
