import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.governance.needles import Needles, any_of
from app.security.tombstones import Tombstones

NOBODY = Tombstones(SecretBytes(b"k" * 32))
ADA = NOBODY.having([("subject", NOBODY.subject("Ada Adams"))])
NEEDLES = Needles(ADA, frozenset({"Ada Adams", "Zoë Quinn"}), frozenset({"order-1"}))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"written by Ada Adams.", True),
        (b'{"name":"Zo\\u00eb Quinn"}', True),
        ("Zoë Quinn".encode(), True),
        (b"order-1,0.5", True),
        (b"order-12,0.5", False),
        (b"reorder-1", False),
        (b"x" + NOBODY.pseudonym("Ada Adams").encode() + b"y", True),
        (NOBODY.pseudonym("Bob").encode(), False),
        (b"", False),
    ],
)
def test_values_ids_and_pseudonyms_are_found_as_words(
    tmp_path: Path, content: bytes, found: bool
) -> None:
    assert NEEDLES.are_in(content) == found
    file = tmp_path / "file"
    file.write_bytes(b"\0" * 100_000 + content if content else content)
    assert NEEDLES.are_in_file(file) == found


def test_short_texts_and_numbers_are_not_looked_for_in_bytes() -> None:
    assert Needles(NOBODY, frozenset({"17", "123456789", "Ada"})).pattern is None


@given(
    st.lists(st.binary(min_size=1, max_size=6), min_size=1, max_size=30),
    st.lists(st.binary(max_size=6), max_size=30),
)
def test_the_pattern_of_many_words_matches_just_those(
    words: list[bytes], others: list[bytes]
) -> None:
    pattern = re.compile(any_of(words), re.DOTALL)
    for text in [*words, *others]:
        assert bool(pattern.fullmatch(text)) == (text in words)
