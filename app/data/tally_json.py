"""Write the tally of a block as JSON, and read it again: it travels from who counts to who adds.

Knows tallies and figures; knows nothing of rows, files or Ray. What is read is what was written, to
the bit.
"""

from collections import Counter
from typing import Any

import numpy as np
import orjson

from app.data.figures import ColumnFigures, Known, Numbers, Times, Values
from app.data.tally import Example, Met, Problem, Tally


def tally_to_json(tally: Tally) -> bytes:
    """Write a tally."""
    content = {
        "accepted": tally.accepted,
        "quarantined": tally.quarantined,
        "problems": [
            [*problem, met.count, [list(each) for each in met.examples]]
            for problem, met in tally.problems.items()
        ],
        "columns": {name: _written(figures) for name, figures in tally.columns.items()},
        "newest": tally.newest,
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def tally_from_json(content: bytes) -> Tally:
    """Read what tally_to_json wrote."""
    read = orjson.loads(content)
    problems = {
        Problem(*named): Met(count, tuple(Example(*each) for each in examples))
        for *named, count, examples in read["problems"]
    }
    return Tally(
        Counter(read["accepted"]),
        Counter(read["quarantined"]),
        problems,
        {name: _read(*figures) for name, figures in read["columns"].items()},
        read["newest"],
    )


def _written(figures: ColumnFigures) -> list[object]:
    known = figures.known
    if isinstance(known, Numbers):
        told: object = [known.values, known.counts, known.minimum, known.maximum]
    elif isinstance(known, Values):
        told = [known.counts, known.shortfall]
    elif isinstance(known, Times):
        told = [known.minimum, known.maximum]
    else:
        told = None
    return [figures.num_rows, figures.num_nulls, type(known).__name__, told]


def _read(num_rows: int, num_nulls: int, kind: str, told: list[Any] | None) -> ColumnFigures:
    known: Known | None = None
    if kind == "Numbers" and told:
        values, counts, *limits = told
        known = Numbers(np.array(values, np.float64), np.array(counts, np.int64), *limits)
    elif kind == "Values" and told:
        known = Values(Counter(told[0]), told[1])
    elif kind == "Times" and told:
        known = Times(*told)
    return ColumnFigures(num_rows, num_nulls, known)
