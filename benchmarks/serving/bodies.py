"""Write the requests that callers send: rows of the world, each under an id never sent before.

An idempotent server answers a known id at another price than a new one.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

ARROW = "application/vnd.apache.arrow.stream"
# One row, rows as JSON, or rows as an Arrow stream.
Kind = Literal["row", "json", "arrow"]
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
    kind: Kind = "row"


def requests_of(file: Path, form: Form, rows_per_request: int, first_id: int) -> Iterator[Asked]:
    """Give requests without end, going round the rows of a file of the world."""
    if form.kind == "arrow":
        yield from _streams(file, form, rows_per_request, first_id)
        return
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


def table_file(file: Path) -> Path:
    """Name the Arrow file of the same rows."""
    return file.with_suffix(".arrow")


def _streams(file: Path, form: Form, size: int, first_id: int) -> Iterator[Asked]:
    with pa.OSFile(str(table_file(file))) as source:
        table = pa.ipc.open_stream(source).read_all()
    place = table.column_names.index(ID)
    probabilities = json.loads(file.read_text())["probabilities"]
    firsts = itertools.cycle(range(0, table.num_rows - size + 1, size))
    for first, first_new in zip(firsts, itertools.count(first_id, size), strict=False):
        ids = pa.array([f"row-{number:09}" for number in range(first_new, first_new + size)])
        body = stream_of(table.slice(first, size).set_column(place, ID, ids))
        yield Asked(_head(form, len(body)) + body, probabilities[first : first + size])


def stream_of(table: pa.Table) -> bytes:
    """Write a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _around_the_id(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    head, tail = json.dumps({**row, ID: MARK}).split(MARK)
    return head.encode(), tail.encode()


def _head(form: Form, length: int) -> bytes:
    kind = ARROW if form.kind == "arrow" else "application/json"
    headers = {"host": "benchmark", "content-type": kind, **form.headers}
    lines = [f"POST {form.path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, f"content-length: {length}", "", ""]).encode()
