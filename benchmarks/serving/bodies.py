"""Write the requests that callers send: rows of the world, each under an id never sent before.

An idempotent server answers a known id at another price than a new one.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ID = "flight_id"
# As long as any number written below, so that all bodies of a row are of one length.
MARK = "row-#########"


class Asked(NamedTuple):
    """One request, whole, and the probabilities that its answer must hold."""

    content: bytes
    probabilities: Sequence[float]


@dataclass(frozen=True)
class Form:
    """How a contender wants its rows."""

    path: str
    headers: Mapping[str, str]
    before: str = ""
    after: str = ""


def requests_of(file: Path, form: Form, rows_per_request: int, first_id: int) -> Iterator[Asked]:
    """Give requests without end, going round the rows of a file of the world."""
    document = json.loads(file.read_text())
    pieces = [_around_the_id(row) for row in document["rows"]]
    probabilities = document["probabilities"]
    ids = itertools.count(first_id)
    places = itertools.cycle(range(0, len(pieces) - rows_per_request + 1, rows_per_request))
    before, after = form.before.encode(), form.after.encode()
    for place in places:
        chosen = pieces[place : place + rows_per_request]
        rows = b",".join(b"%srow-%09d%s" % (head, next(ids), tail) for head, tail in chosen)
        body = before + rows + after
        yield Asked(_head(form, len(body)) + body, probabilities[place : place + rows_per_request])


def _around_the_id(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    head, tail = json.dumps({**row, ID: MARK}).split(MARK)
    return head.encode(), tail.encode()


def _head(form: Form, length: int) -> bytes:
    headers = {"host": "benchmark", "content-type": "application/json", **form.headers}
    lines = [f"POST {form.path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, f"content-length: {length}", "", ""]).encode()
