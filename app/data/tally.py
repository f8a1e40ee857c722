"""Count what became of rows, block by block: by delivery, by reason, by column.

Knows judged rows, their reasons and the contract; knows nothing of Ray, tables or files. Tallies
add up exactly, in any order and any division into blocks. An example of a reason says what was got
only where every column concerned shows its values.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.expressions import names_in
from app.contracts.rows import Column, Contract
from app.data.figures import ColumnFigures, collect_columns, merge_columns, shows_values
from app.data.intake import TIME
from app.data.pieces import DELIVERY

GOT = ", got "
RULE = re.compile(r"rule ([a-z][a-z0-9_]*): ", re.DOTALL)
WHAT_WAS_GOT = r"(?s), got .*$"
# Of a row as a whole, a client's or a file's own words may follow.
FOREIGN_WORDS = r"(?s)^(row [^:]*):.*$"
MAX_PROBLEMS = 200
MAX_EXAMPLES = 20


class Problem(NamedTuple):
    """A kind of reason: of a column, a rule or the row, and what was wrong."""

    subject: str
    of: str
    problem: str


OTHERS = Problem("", "row", "other problems")


class Example(NamedTuple):
    """Where a reason was met, and what was got if that may be shown."""

    position: int
    delivery: str
    got: str


@dataclass(frozen=True)
class Met:
    """How often a problem was met, and where first."""

    count: int
    examples: tuple[Example, ...]

    def merge(self, other: Self) -> Self:
        """Add two blocks."""
        examples = sorted({*self.examples, *other.examples})[:MAX_EXAMPLES]
        return type(self)(self.count + other.count, tuple(examples))


@dataclass(frozen=True)
class Tally:
    """Counts of some rows: by delivery, by problem, by column, and the newest time asked at.

    A row may have several problems. Times are microseconds since 1970.
    """

    accepted: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    problems: Mapping[Problem, Met] = field(default_factory=dict)
    columns: Mapping[str, ColumnFigures] = field(default_factory=dict)
    newest: int | None = None

    @classmethod
    def collect(
        cls,
        accepted: pa.Table,
        quarantined: pa.Table,
        contract: Contract,
        columns: Sequence[Column] | None = None,
    ) -> Self:
        """Count a block of rows, or of outcomes, that are judged and protected.

        Accepted rows carry `__delivery` and `__time` beside their own columns; quarantined ones are
        REFUSED. Values are summed up for all columns of the contract, or for those given.
        """
        return cls(
            _by_delivery(accepted),
            _by_delivery(quarantined),
            _cut(_problems(quarantined, contract)),
            collect_columns(accepted, contract.columns if columns is None else columns),
            pc.max(accepted[TIME].cast(pa.int64())).as_py(),
        )

    def merge(self, other: Self) -> Self:
        """Add two blocks."""
        problems = dict(self.problems)
        for problem, met in other.problems.items():
            problems[problem] = problems[problem].merge(met) if problem in problems else met
        times = [time for time in (self.newest, other.newest) if time is not None]
        return type(self)(
            self.accepted + other.accepted,
            self.quarantined + other.quarantined,
            _cut(problems),
            merge_columns([dict(self.columns), dict(other.columns)]),
            max(times, default=None),
        )

    @classmethod
    def merge_all(cls, parts: Iterable[Self]) -> Self:
        """Add the tallies of all blocks."""
        total = cls()
        for part in parts:
            total = total.merge(part)
        return total

    @property
    def num_accepted(self) -> int:
        """Rows accepted."""
        return self.accepted.total()

    @property
    def num_quarantined(self) -> int:
        """Rows quarantined."""
        return self.quarantined.total()


def _by_delivery(rows: pa.Table) -> Counter[str]:
    counted = pc.value_counts(rows[DELIVERY]).to_pylist()
    return Counter({item["values"]: item["counts"] for item in counted})


def _problems(quarantined: pa.Table, contract: Contract) -> dict[Problem, Met]:
    """Count the reasons of quarantined rows by what was wrong."""
    reasons = quarantined["reasons"].combine_chunks()
    texts, rows = pc.list_flatten(reasons), pc.list_parent_indices(reasons).to_numpy()
    if not len(texts):
        return {}
    plain = pc.replace_substring_regex(texts, WHAT_WAS_GOT, "")
    plain = pc.dictionary_encode(pc.replace_substring_regex(plain, FOREIGN_WORDS, r"\1"))
    codes = plain.indices.to_numpy()
    positions = quarantined["position"].to_numpy()[rows]
    deliveries = quarantined[DELIVERY].combine_chunks().take(pa.array(rows))
    order = np.lexsort((pc.rank(deliveries, tiebreaker="dense").to_numpy(), positions, codes))
    starts = np.searchsorted(codes[order], np.arange(len(plain.dictionary) + 1))
    found: dict[Problem, Met] = {}
    for code, text in enumerate(plain.dictionary.to_pylist()):
        problem, shows = _read(text, contract)
        first = order[starts[code] : starts[code + 1]][:MAX_EXAMPLES]
        examples = tuple(
            Example(int(positions[i]), deliveries[i].as_py(), _got(texts[i].as_py(), shows))
            for i in first.tolist()
        )
        met = Met(int(starts[code + 1] - starts[code]), examples)
        found[problem] = found[problem].merge(met) if problem in found else met
    return found


def _read(reason: str, contract: Contract) -> tuple[Problem, bool]:
    """Say what a reason is about, and whether what was got may be shown."""
    rule = RULE.match(reason)
    if rule and rule[1] in contract.conditions:
        named = [contract.by_name[name] for name in names_in(contract.conditions[rule[1]])]
        problem = Problem(rule[1], "rule", reason[rule.end() :])
        return problem, all(shows_values(column) for column in named)
    subject, _, problem_text = reason.partition(" ")
    column = contract.by_name.get(subject)
    if column is None and subject not in contract.forbidden_names:
        return Problem("row", "row", problem_text), False
    return Problem(subject, "column", problem_text), column is not None and shows_values(column)


def _got(reason: str, shows: bool) -> str:
    return reason.partition(GOT)[2] if shows else ""


def _cut(problems: dict[Problem, Met]) -> dict[Problem, Met]:
    """Keep the first MAX_PROBLEMS in their own order and count the rest as one.

    A problem among the first of all is among the first of each part, so this is exact to merge.
    """
    named = sorted(problem for problem in problems if problem != OTHERS)
    if len(named) <= MAX_PROBLEMS:
        return problems
    beyond = [
        problems[problem].count
        for problem in (*named[MAX_PROBLEMS:], OTHERS)
        if problem in problems
    ]
    kept = {problem: problems[problem] for problem in named[:MAX_PROBLEMS]}
    return {**kept, OTHERS: Met(sum(beyond), ())}
