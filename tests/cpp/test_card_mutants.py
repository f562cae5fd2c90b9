"""A card is read or refused by C++ as by Python, in the same words."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from lrp_edge.card import ModelCard
from lrp_edge.errors import LrpEdgeError
from tests.support import cpp_build
from tests.support.card_mutants import card_mutants


def said_by_python(text: str) -> str:
    try:
        return f"{len(ModelCard.from_json(text, 'card').classes)} classes"
    except LrpEdgeError as error:
        return str(error).replace("\n", "\\n")


def without_reason(said: str) -> str:
    """Leave out what the reader of JSON says of what is none, in its own words."""
    return re.sub(r"^(card: the model card is not JSON) \(.*\); export", r"\1; export", said)


@pytest.mark.parametrize("seed", range(3))
def test_altered_cards_are_read_or_refused_in_the_same_words(release: Path, tmp_path: Path, seed: int) -> None:
    texts = list(card_mutants(2000, seed))
    with (tmp_path / "cards").open("wb") as file:
        for text in texts:
            data = text.encode()
            file.write(struct.pack("=I", len(data)) + data)
    answers = cpp_build.command(release / "tests/lrp_edge_cards", tmp_path / "cards").split("\n")[:-1]
    expected = [said_by_python(text) for text in texts]
    differences = [
        (text[:3000], mine, theirs)
        for text, mine, theirs in zip(texts, expected, answers, strict=True)
        if without_reason(mine) != without_reason(theirs)
    ]
    assert not differences, (len(differences), differences[:3])
    # The cards are neither all good nor all bad, nor all bad for one reason.
    assert sum(said.split()[-1] == "classes" for said in expected) > 100
    assert len(set(expected)) > 300
