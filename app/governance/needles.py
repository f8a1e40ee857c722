"""Search bytes for what should be gone: identities, pseudonyms, ids of rows.

Knows bytes and texts to look for; knows nothing of what a file is. A pseudonym counts wherever it
stands. An identity or an id counts where it is a word of its own: `P1` is not in `P12`. One that is
short or a number may be anything in raw bytes: it is looked for in columns, not here.
"""

import json
import mmap
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from app.security.privacy import PSEUDONYM
from app.security.tombstones import Tombstones

EDGE = rb"[0-9A-Za-z_\-]"
MIN_TELLING = 6
PSEUDONYM_BYTES = re.compile(PSEUDONYM.pattern.encode())


@dataclass(frozen=True)
class Needles:
    """What to look for. Tombstones find pseudonyms also when nobody knows the values any more."""

    erased: Tombstones
    values: frozenset[str] = frozenset()
    row_ids: frozenset[str] = frozenset()

    @cached_property
    def pattern(self) -> re.Pattern[bytes] | None:
        """A pattern of all values and ids as words; None without any."""
        telling = filter(is_telling, self.values | self.row_ids)
        words = {form for text in telling for form in written_forms(text)}
        if not words:
            return None
        edges = rb"(?<!%s)(?:%s)(?!%s)" % (EDGE, any_of(words), EDGE)
        return re.compile(edges, re.DOTALL)

    def are_in(self, content: bytes | mmap.mmap) -> bool:
        """Tell whether any of them is in some bytes."""
        if self.pattern is not None and self.pattern.search(content):
            return True
        found = {match.group() for match in PSEUDONYM_BYTES.finditer(content)}
        return any(self.erased.is_subject(pseudonym.decode()) for pseudonym in found)

    def are_in_file(self, path: Path) -> bool:
        """Tell whether any of them is in a file's raw bytes, read without loading the file."""
        if not path.stat().st_size:
            return False
        with (
            path.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return self.are_in(content)


def is_telling(text: str) -> bool:
    """Tell whether a text found in raw bytes is no accident.

    >>> is_telling("N14228"), is_telling("17"), is_telling("2013-0401")
    (True, False, False)
    """
    return len(text) >= MIN_TELLING and any(letter.isalpha() for letter in text)


def written_forms(text: str) -> set[bytes]:
    """Give the bytes of a text as files have it: plain, and as JSON in ASCII."""
    plain = text.encode(errors="surrogatepass")
    return {plain, json.dumps(text)[1:-1].encode()} - {b""}


def any_of(words: Iterable[bytes]) -> bytes:
    r"""Give a pattern that matches any of some words: alike beginnings are tried once.

    >>> any_of([b"row-1", b"row-12", b"row-2"])
    b'row\\-(?:1(?:2)?|2)'
    """
    return _branches(sorted(set(words)), 0)


def _branches(words: list[bytes], depth: int) -> bytes:
    """Give a pattern for sorted, distinct words whose first `depth` bytes are alike."""
    shared = depth
    first, last = words[0], words[-1]
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    prefix = re.escape(first[depth:shared])
    if len(words) == 1:
        return re.escape(first[depth:])
    ends_here = len(first) == shared
    rest = words[1:] if ends_here else words
    groups: dict[int, list[bytes]] = {}
    for word in rest:
        groups.setdefault(word[shared], []).append(word)
    options = b"|".join(_branches(group, shared) for group in groups.values())
    return prefix + b"(?:" + options + b")" + (b"?" if ends_here else b"")
