"""What the monitor remembers between two batches of log, and how it is written down.

Knows Arrow tables and counts; knows nothing of Ray, SQL or what the numbers mean. The state is a
value: folding returns a new one. Its bytes are a JSON head and Arrow IPC streams; no pickle.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.times import day_numbers
from app.data.profile import Profile
from app.monitoring.distinct import whole

STATE_FORMAT = 1

PREDICTIONS = pa.schema(
    [
        ("key", pa.string()),
        ("row_id", pa.string()),
        ("version", pa.string()),
        ("generation", pa.int64()),
        ("arm", pa.string()),
        ("probability", pa.float64()),
        ("prediction_time", TIMESTAMP),
        ("served_at", TIMESTAMP),
    ]
)
LABELS = pa.schema(
    [
        ("row_id", pa.string()),
        ("label", pa.int8()),
        ("void", pa.bool_()),
        ("known_at", TIMESTAMP),
        ("received_at", TIMESTAMP),
    ]
)
EVENTS = pa.schema([("row_id", pa.string()), ("prediction_time", TIMESTAMP)])


class StateUnreadable(ValueError):
    """Bytes that are no state of this software."""


@dataclass(frozen=True)
class Counts:
    """What went through the fold since the log began. Distinct means: a repeat is counted apart."""

    num_predictions: int = 0
    num_repeated_predictions: int = 0
    num_labels: int = 0
    num_repeated_labels: int = 0
    num_revised_labels: int = 0
    num_events: int = 0
    num_repeated_events: int = 0
    num_quarantined: int = 0
    num_expired: int = 0
    num_unknown_forgotten: int = 0
    num_windows: int = 0

    def plus(self, **amounts: int) -> Self:
        """Add to some counts."""
        return replace(self, **{name: getattr(self, name) + more for name, more in amounts.items()})


@dataclass(frozen=True)
class DailyProfiles:
    """Profiles of live rows by day of prediction, on the edges of one version's reference."""

    edges: Profile
    days: dict[int, Profile] = field(default_factory=dict)

    @classmethod
    def on(cls, reference: Profile) -> Self:
        """Count nothing yet, on the edges of a reference."""
        return cls(reference.empty_like())

    def add(self, rows: pa.Table) -> Self:
        """Count rows into the profile of their day; returns the new profiles."""
        days = dict(self.days)
        numbers = day_numbers(rows["prediction_time"])
        for day in np.unique(numbers).tolist():
            days[day] = days.get(day, self.edges).add(rows.filter(pa.array(numbers == day)))
        return replace(self, days=days)

    def since(self, first_day: int) -> Self:
        """Drop the days before."""
        kept = {day: profile for day, profile in self.days.items() if day >= first_day}
        return replace(self, days=kept)

    def total(self, days: range) -> Profile:
        """Add up some days."""
        inside = (self.days[day] for day in days if day in self.days)
        return reduce(Profile.merge, inside, self.edges)


@dataclass(frozen=True)
class FoldState:
    """The monitor's memory: rows of the window and a margin, daily profiles, counts.

    Days are whole numbers: UTC days since 1970. Times inside are microseconds since 1970, UTC.
    """

    predictions: pa.Table
    labels: pa.Table
    events: pa.Table
    samples: pa.Table
    counts: Counts = Counts()
    horizon: int = 0
    judged_until: int | None = None
    quarantined: dict[int, int] = field(default_factory=dict)
    settled: dict[int, int] = field(default_factory=dict)
    profiles: dict[str, DailyProfiles] = field(default_factory=dict)

    @classmethod
    def empty(cls, contract: Contract) -> Self:
        """Remember nothing yet."""
        return cls(
            predictions=PREDICTIONS.empty_table(),
            labels=LABELS.empty_table(),
            events=EVENTS.empty_table(),
            samples=sample_schema(contract).empty_table(),
        )

    @property
    def num_unknown_labels(self) -> int:
        """Count labelled row ids that no remembered prediction has, and those already forgotten."""
        labelled = self.labels["row_id"].unique()
        matched = pc.sum(pc.is_in(labelled, value_set=whole(self.predictions["row_id"]))).as_py()
        return len(labelled) - (matched or 0) + self.counts.num_unknown_forgotten


def sample_schema(contract: Contract) -> pa.Schema:
    """Give the columns of a kept row: those that a prediction needs, and its time."""
    fields = [pa.field(c.name, c.arrow_type) for c in (*contract.columns, *contract.derived)]
    return pa.schema([*fields, pa.field("prediction_time", TIMESTAMP)])


def pack(state: FoldState) -> bytes:
    """Write a state as bytes."""
    tables = [state.predictions, state.labels, state.events, state.samples]
    head = {
        "format": STATE_FORMAT,
        "counts": vars(state.counts),
        "horizon": state.horizon,
        "judged_until": state.judged_until,
        "quarantined": {str(day): count for day, count in state.quarantined.items()},
        "settled": {str(day): count for day, count in state.settled.items()},
        "profiles": {version: _dump_daily(daily) for version, daily in state.profiles.items()},
    }
    parts = [orjson.dumps(head, option=orjson.OPT_SORT_KEYS), *(_ipc(table) for table in tables)]
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)


def unpack(content: bytes) -> FoldState:
    """Read a state back. Raises StateUnreadable for bytes of another format."""
    try:
        parts = _parts(content)
        head = orjson.loads(parts[0])
        if head["format"] != STATE_FORMAT:
            raise StateUnreadable(
                f"monitor state: format {head['format']}, expected {STATE_FORMAT}"
            )
        predictions, labels, events, samples = (
            pa.ipc.open_stream(part).read_all() for part in parts[1:]
        )
    except (struct.error, orjson.JSONDecodeError, pa.ArrowInvalid, KeyError, IndexError) as error:
        problem = f"monitor state: {len(content)} bytes cannot be read: {error}"
        raise StateUnreadable(problem) from error
    return FoldState(
        predictions=predictions,
        labels=labels,
        events=events,
        samples=samples,
        counts=Counts(**head["counts"]),
        horizon=head["horizon"],
        judged_until=head["judged_until"],
        quarantined={int(day): count for day, count in head["quarantined"].items()},
        settled={int(day): count for day, count in head["settled"].items()},
        profiles={version: _load_daily(daily) for version, daily in head["profiles"].items()},
    )


def _dump_daily(daily: DailyProfiles) -> dict[str, object]:
    """Write the edges once, and a list of counts a day."""
    days = {str(day): _flat(profile) for day, profile in daily.days.items()}
    return {"edges": daily.edges.to_json().decode(), "days": days}


def _load_daily(content: Mapping[str, Any]) -> DailyProfiles:
    edges = Profile.from_json(content["edges"].encode())
    days = {int(day): _filled(edges, counts) for day, counts in content["days"].items()}
    return DailyProfiles(edges, days)


def _flat(profile: Profile) -> list[int]:
    histograms = [*(profile.columns[name] for name in sorted(profile.columns)), profile.scores]
    return [profile.num_rows, *np.concatenate([each.counts for each in histograms]).tolist()]


def _filled(edges: Profile, flat: list[int]) -> Profile:
    """Give a profile on these edges its counts back."""
    names = sorted(edges.columns)
    sizes = [*(edges.columns[name].bins.size for name in names), edges.scores.bins.size]
    *columns, scores = np.split(np.array(flat[1:], np.int64), np.cumsum(sizes)[:-1])
    by_name = {
        name: replace(edges.columns[name], counts=counts)
        for name, counts in zip(names, columns, strict=True)
    }
    ordered = {name: by_name[name] for name in edges.columns}
    return replace(
        edges, num_rows=flat[0], columns=ordered, scores=replace(edges.scores, counts=scores)
    )


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _parts(content: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        parts.append(content[at + 8 : at + 8 + length])
        at += 8 + length
    return parts
