from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.monitoring.state import FoldState, StateUnreadable, pack, unpack
from tests.unit.monitoring.logs import (
    CONFIG,
    CONTRACT,
    Logs,
    Run,
    day,
    joined,
    label,
    make_day,
    without_labels,
)

TABLES = ("events", "predictions", "labels", "quarantine")
NUM_DAYS = 16


def troubled_day(number: int, seed: int) -> Logs:
    """A day with repeats, contradictions, revisions, voids, unknown ids and shuffled labels."""
    version = "v1" if number < 9 else "v2"
    logs = make_day(number, 30, seed, shift=number / 4, version=version)
    draw = np.random.default_rng([seed, number, 1])
    again = pa.array(draw.integers(0, 30, 6))
    later = pa.array([day(number + 1)] * 6, pa.timestamp("us", tz="UTC"))
    repeated = logs.predictions.take(again)
    repeated = repeated.set_column(repeated.schema.get_field_index("served_at"), "served_at", later)
    repeated = repeated.set_column(
        repeated.schema.get_field_index("version"), "version", pa.array(["v7"] * 6)
    )
    rows = logs.labels.take(pa.array(draw.permutation(30)))
    wrong = [
        label(f"r{number:03d}-001", 1, number + 1.4, number + 1.5),
        label(f"r{number:03d}-001", 0, number + 1.4, number + 1.5),
        label(f"r{number:03d}-002", None, number + 1.5),
        label(f"r{number:03d}-003", 1, number + 5.0),
        label(f"r{max(number - 3, 0):03d}-004", None, number + 1.1),
        label(f"nobody-{number}", 1, number + 1.2),
        rows.slice(0, 5),
    ]
    return Logs(
        pa.concat_tables([logs.events, logs.events.take(again)]),
        pa.concat_tables([logs.predictions, repeated]),
        pa.concat_tables([rows, *wrong]),
        pa.table({"source": ["serving"], "ingested_at": later.slice(0, 1)}),
    )


def pieces(logs: Logs, cuts: list[int]) -> list[Logs]:
    """Cut each log at places of its own: a reader rarely finds all logs equally far."""
    parts: list[dict[str, pa.Table]] = [{} for _ in range(len(cuts) + 1)]
    for place, name in enumerate(TABLES):
        table = getattr(logs, name)
        edges = sorted((cut * (place + 1)) % (table.num_rows + 1) for cut in cuts)
        for part, (low, high) in enumerate(zip([0, *edges], [*edges, table.num_rows], strict=True)):
            parts[part][name] = table.slice(low, high - low)
    return [Logs(**part) for part in parts]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.lists(st.integers(0, 60), max_size=4), min_size=NUM_DAYS, max_size=NUM_DAYS),
    killed_after=st.sets(st.integers(0, NUM_DAYS - 1)),
)
def test_any_batching_and_any_restart_give_the_same_evidence_byte_for_byte(
    seed: int, cuts: list[list[int]], killed_after: set[int]
) -> None:
    days = [troubled_day(number, seed) for number in range(NUM_DAYS)]
    whole, cut = Run(), Run()
    for number, logs in enumerate(days):
        whole.fold(logs).judge(day(number + 1.5))
        for piece in pieces(logs, cuts[number]):
            cut.fold(piece)
        cut.judge(day(number + 1.5))
        if number in killed_after:
            cut.state = unpack(pack(cut.state))
    at_once = Run().fold(joined(*days)).judge(day(NUM_DAYS + 0.5))

    assert len(whole.evidence) >= 6
    assert {item.version for item in whole.evidence} == {"v1", "v2"}
    assert cut.written == whole.written
    assert at_once.written == whole.written


def test_the_order_of_arrival_within_a_batch_does_not_change_the_evidence() -> None:
    days = [make_day(number) for number in range(6)]
    backwards = []
    for logs in days:
        order = pa.array(np.arange(40)[::-1])
        backwards.append(
            replace(
                logs,
                events=logs.events.take(order),
                predictions=logs.predictions.take(order),
                labels=logs.labels.take(order),
            )
        )

    assert (
        Run().fold(joined(*backwards)).judge(day(6)).written
        == Run().fold(joined(*days)).judge(day(6)).written
    )


def test_a_repeated_idempotency_key_counts_once_and_the_first_served_stands() -> None:
    logs = make_day(0)
    later = logs.predictions.slice(0, 10)
    column = later.schema.get_field_index("probability")
    later = later.set_column(column, "probability", pa.array([0.123] * 10))
    served = pa.array([day(0.9)] * 10, pa.timestamp("us", tz="UTC"))
    later = later.set_column(later.schema.get_field_index("served_at"), "served_at", served)

    # The repeat reaches the log first: a spool of a dead replica was shipped late.
    run = Run().fold(replace(logs, predictions=later)).fold(replace(logs))

    assert run.state.counts.num_predictions == 40
    assert run.state.counts.num_repeated_predictions == 10
    assert 0.123 not in run.state.predictions["probability"].to_pylist()


def test_labels_twice_are_counted_once_and_revisions_apart() -> None:
    logs = make_day(0)
    run = Run().fold(logs).fold(replace(without_labels(logs), labels=logs.labels))
    revision = label("r000-000", 1, 3.0)
    run.fold(replace(without_labels(logs), labels=revision, events=logs.events.slice(0, 0)))

    counts = run.state.counts
    assert (counts.num_labels, counts.num_repeated_labels, counts.num_revised_labels) == (41, 40, 1)
    assert counts.num_predictions == 40


def test_labels_of_unknown_ids_are_counted_and_found_when_their_prediction_comes() -> None:
    logs = make_day(0)
    run = Run().fold(
        replace(logs, events=logs.events.slice(0, 0), predictions=logs.predictions.slice(0, 0))
    )
    assert run.state.num_unknown_labels == 40

    run.fold(without_labels(logs))

    assert run.state.num_unknown_labels == 0


def test_an_unknown_label_is_still_counted_after_it_was_forgotten() -> None:
    run = Run().fold(replace(make_day(0), labels=label("nobody", 1, 1.0)))
    for number in range(1, 40):
        run.fold(make_day(number)).judge(day(number + 1))

    assert "nobody" not in run.state.labels["row_id"].to_pylist()
    assert run.state.num_unknown_labels == 1


def test_memory_stays_bounded_while_counts_go_on() -> None:
    run = Run()
    sizes = []
    for number in range(60):
        run.fold(make_day(number)).judge(day(number + 1))
        sizes.append(len(pack(run.state)))

    assert run.state.counts.num_predictions == 60 * 40
    assert run.state.predictions.num_rows <= 40 * (CONFIG.window_days + 14 + 2)
    assert run.state.events.num_rows == run.state.predictions.num_rows
    assert max(sizes[30:]) < 1.1 * sizes[30]


def test_rows_older_than_the_memory_are_counted_as_expired() -> None:
    run = Run()
    for number in range(40):
        run.fold(make_day(number)).judge(day(number + 1))
    before = run.written

    run.fold(make_day(2, seed=5))

    assert run.state.counts.num_expired >= 40
    assert run.written == before


def test_new_labels_include_those_of_forgotten_days() -> None:
    run = Run()
    for number in range(40):
        run.fold(make_day(number)).judge(day(number + 1))
    known = sum(make_day(number).labels["void"].to_pylist().count(False) for number in range(39))

    # The evidence at the end of day 39 knows the labels of the days before day 38.
    last = run.evidence[-1]
    late = [n for n in range(40) if day(n + 1) + timedelta(hours=10) > last.known_at]
    missing = sum(make_day(n).labels["void"].to_pylist().count(False) for n in late if n < 39)
    assert last.num_new_labels == known - missing


def test_historic_rows_are_no_live_traffic() -> None:
    logs = make_day(0)
    column = logs.events.schema.get_field_index("source")
    field = logs.events.schema.field(column)
    history = logs.events.set_column(column, field, pa.array(["ingest:abc"] * 40))

    run = Run().fold(replace(logs, events=history))

    assert run.state.counts.num_events == 0
    assert run.state.samples.num_rows == 0


def test_a_state_is_read_back_as_it_was() -> None:
    run = Run()
    for number in range(5):
        run.fold(make_day(number)).judge(day(number + 1))

    again = unpack(pack(run.state))

    assert pack(again) == pack(run.state)
    assert again.predictions.equals(run.state.predictions)
    assert again.profiles["v1"].days.keys() == run.state.profiles["v1"].days.keys()


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 40, b"{}"])
def test_bytes_that_are_no_state_are_refused(content: bytes) -> None:
    with pytest.raises(StateUnreadable, match="monitor state"):
        unpack(content)


def test_a_cut_state_is_refused() -> None:
    content = pack(FoldState.empty(CONTRACT))
    with pytest.raises(StateUnreadable):
        unpack(content[: len(content) // 2])
