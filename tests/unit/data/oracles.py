"""What labels and joins must answer, worked out row by row in plain Python, and random worlds.

Nothing here imports the code that is judged. Times are small whole numbers of hours, so that they
often agree.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from typing import NamedTuple

import pyarrow as pa

from app.contracts.rows import TIMESTAMP

START = datetime(2024, 3, 2, tzinfo=UTC)


class Report(NamedTuple):
    """One report of an outcome; no label means void."""

    row_id: str
    label: int | None
    known_at: int
    received_at: int


class Fact(NamedTuple):
    """One fact about an entity."""

    entity: str
    event_time: int
    known_at: int
    received_at: int
    number: float | None
    word: str | None


class Question(NamedTuple):
    """A row that asks about an entity, or about none."""

    entity: str | None
    as_of: int


def at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


def known_then(
    reports: Sequence[Report], known_by: int, received_by: int | None
) -> dict[str, tuple[int | None, bool, int]]:
    """Say for every known row its label, whether it is void, and since when that is known."""
    answer: dict[str, Report] = {}
    for report in reports:
        if report.known_at > known_by:
            continue
        if received_by is not None and report.received_at > received_by:
            continue
        before = answer.get(report.row_id)
        if before is None or _strength(report) > _strength(before):
            answer[report.row_id] = report
    return {
        row: (report.label, report.label is None, report.known_at) for row, report in answer.items()
    }


def _strength(report: Report) -> tuple[int, int, bool, int]:
    label = -1 if report.label is None else report.label
    return report.known_at, report.received_at, report.label is None, label


def told_then(
    question: Question, facts: Sequence[Fact], *, arrival: bool, max_age: int | None
) -> Fact | None:
    """Say which fact a question may be told."""
    best: Fact | None = None
    for fact in facts:
        if fact.entity != question.entity or fact.event_time > question.as_of:
            continue
        if fact.known_at > question.as_of or (arrival and fact.received_at > question.as_of):
            continue
        if best is None or _order(fact) > _order(best):
            best = fact
    if best is None or (max_age is not None and best.event_time < question.as_of - max_age):
        return None
    return best


def _order(fact: Fact) -> tuple[object, ...]:
    number = (fact.number is not None, fact.number or 0.0)
    word = (fact.word is not None, fact.word or "")
    return fact.event_time, fact.known_at, fact.received_at, number, word


def random_reports(draw: Random) -> list[Report]:
    """Up to a dozen reports of up to four rows, some of them given twice."""
    reports = [
        Report(draw.choice("abcd"), draw.choice((0, 1, None)), draw.randrange(6), draw.randrange(6))
        for _ in range(draw.randrange(13))
    ]
    return reports + draw.sample(reports, draw.randrange(len(reports) + 1))


def random_facts(draw: Random) -> list[Fact]:
    """Up to fifteen facts about up to three entities, some of them given twice."""
    facts = [
        Fact(
            draw.choice("xyz"),
            draw.randrange(5),
            draw.randrange(6),
            draw.randrange(7),
            draw.choice((-2.5, -1.0, 0.0, 3.5, None)),
            draw.choice(("left", "right", None)),
        )
        for _ in range(draw.randrange(16))
    ]
    return facts + draw.sample(facts, draw.randrange(len(facts) + 1))


def random_questions(draw: Random) -> list[Question]:
    """Up to six questions, some about entities without facts."""
    return [
        Question(draw.choice(("x", "y", "z", "nobody", None)), draw.randrange(8))
        for _ in range(draw.randrange(7))
    ]


def table_of_reports(reports: Sequence[Report]) -> pa.Table:
    return pa.table(
        {
            "row_id": pa.array([r.row_id for r in reports], pa.string()),
            "label": pa.array([r.label for r in reports], pa.int8()),
            "void": pa.array([r.label is None for r in reports], pa.bool_()),
            "known_at": pa.array([at(r.known_at) for r in reports], TIMESTAMP),
            "received_at": pa.array([at(r.received_at) for r in reports], TIMESTAMP),
        }
    )


def table_of_facts(facts: Sequence[Fact]) -> pa.Table:
    return pa.table(
        {
            "entity": pa.array([f.entity for f in facts], pa.string()),
            "event_time": pa.array([at(f.event_time) for f in facts], TIMESTAMP),
            "known_at": pa.array([at(f.known_at) for f in facts], TIMESTAMP),
            "received_at": pa.array([at(f.received_at) for f in facts], TIMESTAMP),
            "number": pa.array([f.number for f in facts], pa.float64()),
            "word": pa.array([f.word for f in facts], pa.string()),
        }
    )


def table_of_questions(questions: Sequence[Question]) -> pa.Table:
    return pa.table(
        {
            "who": pa.array([q.entity for q in questions], pa.string()),
            "asked_at": pa.array([at(q.as_of) for q in questions], TIMESTAMP),
        }
    )


def in_pieces(table: pa.Table, draw: Random) -> pa.Table:
    """Cut a table into pieces, as commits would."""
    cuts = sorted(draw.randrange(table.num_rows + 1) for _ in range(draw.randrange(4)))
    edges = [0, *cuts, table.num_rows]
    pieces = [table.slice(low, high - low) for low, high in pairwise(edges)]
    return pa.concat_tables(pieces)
