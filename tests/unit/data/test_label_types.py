"""Labels that are no 0 or 1: judged, joined, pinned, revised and taken up again like any other."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.windows import Window
from app.data.facts import event_facts, label_facts
from app.data.files import Rows
from app.data.inline import Inline
from app.data.intake import FOREVER
from app.data.intake import Window as Taken
from app.data.judging import Judging, stage_outcomes
from app.data.labels import known_labels
from app.data.seen import SeenIds, hash_ids
from app.data.settling import Ids, settle_outcomes
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.stagedfiles import StagedFiles
from app.data.tables import Tables
from app.data.validation import validate_labels, validate_rows
from app.data.windows import window_values
from app.sections import InlineConfig
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones
from tests.unit.data.test_readmission import LATER, World

NOON = datetime(2024, 4, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = SecretBytes(b"k" * 32)
TARGETS: dict[str, dict[str, Any]] = {
    "multiclass": {"task": "multiclass", "classes": ("early", "on time", "late")},
    "regression": {"task": "regression", "label_maximum": 500},
    "ranking": {"task": "ranking", "group": "sender"},
}
Make = Callable[..., dict[str, object]]


def of_task(contract: Contract, task: str, **more: Any) -> Contract:
    return Contract.model_validate({**contract.model_dump(), **TARGETS[task], **more})


def given(*labels: object, kind: pa.DataType | None = None) -> pa.Table:
    size = len(labels)
    return pa.table(
        {
            "row_id": [f"P{i}" for i in range(size)],
            "label": pa.array(labels, kind),
            "void": [False] * size,
            "known_at": pa.array([NOON] * size, TIMESTAMP),
        }
    )


@pytest.mark.parametrize(
    ("task", "labels", "accepted", "refused"),
    [
        ("multiclass", ["late", " early ", "never", ""], [2, 0],
         ["label must be one of early, on time, late, got 'never'",
          "label must be one of early, on time, late, got ''"]),
        ("regression", [1.5, -3.0, float("nan"), float("inf"), 501.0, -0.0], [1.5, -3.0, 0.0],
         ["label is NaN; send null for an unknown value, got nan", "label must be finite, got inf",
          "label must be in -inf..500, got 501.0"]),
        ("regression", ["1e2", "many", "NaN"], [100.0],
         ["label must be a number, got 'many'", "label must be a number, got 'NaN'"]),
        ("ranking", [0, 3, -1], [0.0, 3.0], ["label must be in 0..inf, got -1.0"]),
        ("ranking", [1.5, None], [1.5], ["label is needed unless the outcome is void"]),
    ],
)  # fmt: skip
def test_every_label_is_accepted_as_its_type_or_quarantined_with_its_reason(
    parcels: Contract, task: str, labels: list[object], accepted: list[float], refused: list[str]
) -> None:
    contract = of_task(parcels, task)
    judged = validate_labels(given(*labels), contract=contract)
    assert judged.accepted["label"].to_pylist() == accepted
    assert judged.accepted.schema.field("label").type == contract.label_type
    assert [reason for (reason,) in judged.quarantined["reasons"].to_pylist()] == refused
    # One zero only: contradicting reports must not differ by a sign.
    assert "-0.0" not in map(str, judged.accepted["label"].to_pylist())


def test_a_class_that_is_a_number_may_come_as_one(parcels: Contract) -> None:
    contract = of_task(parcels, "multiclass", classes=("3", "5", "8"))
    for kind in (pa.int64(), pa.float64(), pa.string()):
        labels = pa.array([8, 3]).cast(kind)
        judged = validate_labels(given(*labels.to_pylist(), kind=kind), contract=contract)
        assert judged.accepted["label"].to_pylist() == [2, 0]


@pytest.mark.parametrize(
    ("task", "low", "high"), [("regression", -7.5, 2.25), ("multiclass", 0, 2)]
)
def test_contradicting_labels_are_settled_to_the_larger_whatever_their_order(
    parcels: Contract, task: str, low: float, high: float
) -> None:
    kind = of_task(parcels, task).label_type
    reports = [(low, False), (high, False)]
    answers = set()
    for order in (reports, reports[::-1]):
        table = revisions(order, kind)
        answers.add(known_labels(table, NOON)["label"][0].as_py())
        assert known_labels(table, NOON).schema.field("label").type == kind
        voided = revisions([*order, (None, True)], kind)
        assert known_labels(voided, NOON)["void"].to_pylist() == [True]
    assert answers == {high}
    assert known_labels(revisions([], kind), NOON).schema.field("label").type == kind


def revisions(reports: list[tuple[float | None, bool]], kind: pa.DataType) -> pa.Table:
    size = len(reports)
    moments = pa.array([NOON] * size, TIMESTAMP)
    return pa.table(
        {
            "row_id": pa.array(["P0"] * size, pa.string()),
            "label": pa.array([label for label, _ in reports], kind),
            "void": pa.array([void for _, void in reports], pa.bool_()),
            "known_at": moments,
            "received_at": moments,
            "source": pa.array(["test"] * size, pa.string()),
        }
    )


@pytest.mark.parametrize(
    ("task", "labels", "held"),
    [
        ("multiclass", ["late", "early"], [2, 0]),
        ("regression", [0.1 + 0.2, -1e-300], [0.30000000000000004, -1e-300]),
        ("ranking", [4, 0.5], [4.0, 0.5]),
    ],
)
def test_a_snapshot_gives_labels_back_bit_by_bit_and_notices_another_one(
    tmp_path: Path, parcels: Contract, parcel: Make, task: str, labels: list[object],
    held: list[float],
) -> None:  # fmt: skip
    contract = of_task(parcels, task)
    tables = Tables(tmp_path / "tables", contract)
    rows = validate_rows([parcel(i) for i in range(3)], contract).accepted
    tables.append("events", tables.complete("events", rows, NOON, "test"))
    outcomes = validate_labels(given(*labels), contract=contract).accepted
    tables.append("labels", tables.complete("labels", outcomes, NOON, "test"))
    tables.compact("labels")

    dataset = take_snapshot(tables, contract, None, NOON, NOON)
    found = load_snapshot(tables, contract, dataset)

    assert found["label"].type == contract.label_type
    assert found["label"].to_pylist() == [*held, None]
    assert found["state"].to_pylist() == ["known", "known", "pending"]
    later = outcomes.slice(0, 1).set_column(1, "label", outcomes["label"].slice(1, 1))
    tables.append("labels", tables.complete("labels", later, NOON + HOUR, "test"))
    assert take_snapshot(tables, contract, None, NOON, NOON).digest != dataset.digest
    assert load_snapshot(tables, contract, dataset).equals(found)


def test_another_task_neither_reads_nor_adds_to_labels_that_are_there(
    tmp_path: Path, parcels: Contract
) -> None:
    numbers = of_task(parcels, "regression")
    before = Tables(tmp_path, numbers)
    accepted = validate_labels(given(1.0), contract=numbers).accepted
    before.append("labels", before.complete("labels", accepted, NOON, "test"))

    after = Tables(tmp_path, parcels)
    accepted = validate_labels(given(1)).accepted
    rows = after.complete("labels", accepted, NOON, "test")
    with pytest.raises(ValueError, match=r"label is held as double.*asks for int8; set"):
        after.append("labels", rows)
    with pytest.raises(ValueError, match="label is held as double"):
        after.read("labels")
    assert before.read("labels")["label"].to_pylist() == [1.0]


def test_an_outcome_that_comes_twice_is_quarantined_under_the_name_of_its_class(
    tmp_path: Path, parcels: Contract
) -> None:
    contract = of_task(parcels, "multiclass")
    files = StagedFiles(tmp_path)
    judging = Judging(contract, Pseudonymiser(KEY), Tombstones(KEY), files)
    seen, ids = SeenIds(), Ids()
    ids.before.add(hash_ids(pa.array(["P0"])))
    for first, label in enumerate(["on time", "late"]):
        rows = Rows(given(label), np.array([first]), [], "digest")
        staged = stage_outcomes(rows, judging, Taken(FOREVER, {}), ids)
        settled = settle_outcomes(staged, seen, files, contract)
    assert (settled.num_accepted, settled.num_refused) == (0, 1)
    (row,) = files.read(settled.refused[-1])["row"].to_pylist()
    assert '"label":"late"' in row


@pytest.mark.parametrize(
    ("task", "early", "late"), [("multiclass", "early", "late"), ("regression", 2.5, 3.0)]
)
def test_a_label_that_came_before_its_row_is_taken_up_as_it_was_delivered(
    tmp_path: Path, parcels: Contract, parcel: Make, parcel_table: Callable[..., pa.Table],
    task: str, early: object, late: object,
) -> None:  # fmt: skip
    contract = of_task(parcels, task, label_maximum=None)
    world = World(tmp_path, contract, parcel, parcel_table)
    world.rows(0)
    world.deliver(given(early, late))  # The second names a row that is not there yet.
    world.rows(1)
    assert world.look() == 1
    held = world.tables.read("labels").sort_by("row_id")["label"]
    delivered = validate_labels(given(early, late), contract=contract).accepted
    assert held.to_pylist() == delivered["label"].to_pylist()


def test_classes_that_change_places_are_refused_and_new_ones_go_to_the_end(
    tmp_path: Path, parcels: Contract, parcel: Make, parcel_table: Callable[..., pa.Table]
) -> None:
    def world(*classes: str) -> World:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        contract = of_task(parcels, "multiclass", classes=classes)
        made = World(folder, contract, parcel, parcel_table)
        made.tables = Tables(tmp_path / "tables", contract)
        return made

    first = world("early", "late")
    first.rows(0)
    first.deliver(given("late"), "one")
    grown = world("early", "late", "never")
    grown.now = first.now
    grown.rows(1)
    grown.deliver(given("early", "never"), "two")
    pinned = take_snapshot(grown.tables, grown.contract, None, LATER, LATER)
    assert load_snapshot(grown.tables, grown.contract, pinned)["label"].to_pylist() == [0, 2]

    for classes in (("late", "early", "never"), ("early", "late"), ("early", "late", "x", "never")):
        turned = world(*classes)
        with pytest.raises(ValueError, match=r"contract\.classes: .* is class \d in .*, now it is"):
            turned.deliver(given("late"), "three")
        with pytest.raises(ValueError, match=r"add others at the end"):
            take_snapshot(turned.tables, turned.contract, None, LATER, LATER)


def shaped(contract: Contract, column: pa.Array, **config: object) -> pa.Table:
    ids = [f"P{i}" for i in range(len(column))]
    table = pa.table({"parcel": ids, "lost": column})
    for field in [contract.schema.field(name) for name in contract.schema.names[1:]]:
        value = NOON if field.name == "promised" else None
        table = table.append_column(field.name, pa.array([value] * len(ids), field.type))
    inline = Inline(
        contract, InlineConfig.model_validate({"label_column": "lost", **config}), lambda: KEY, NOON
    )
    rows = Rows(table, np.arange(len(column), dtype=np.int64), [], "digest")
    return inline.outcomes(rows, "a.csv").table


def test_classes_in_the_rows_are_read_by_name_or_as_the_file_spells_them(parcels: Contract) -> None:
    contract = of_task(parcels, "multiclass")
    column = pa.array(["E", "late", "ON TIME", "?", "NA", None])
    spelled = {"early": ["E"], "on time": ["ON TIME", "ok"]}
    outcomes = shaped(contract, column, classes=spelled, nulls=["NA"])
    judged = validate_labels(outcomes, contract=contract)
    assert judged.accepted["row_id"].to_pylist() == ["P0", "P1", "P2"]
    assert judged.accepted["label"].to_pylist() == [0, 2, 1]
    assert judged.quarantined["reasons"].to_pylist() == [
        ["label must be one of early, on time, late, got '?'"]
    ]


def test_numbers_in_the_rows_are_read_as_the_file_writes_them(parcels: Contract) -> None:
    contract = of_task(parcels, "regression", label_maximum=None)
    column = pa.array(["1.234,5", "-2", "x", None])
    outcomes = shaped(contract, column, numbers={"lost": "1.234,5"})
    judged = validate_labels(outcomes, contract=contract)
    assert judged.accepted["label"].to_pylist() == [1234.5, -2.0]
    assert judged.quarantined.num_rows == 1
    plain = shaped(contract, pa.array([0.1, None, float("nan")], pa.float32()))
    judged = validate_labels(plain, contract=contract)
    assert judged.accepted["label"].to_pylist() == [float(np.float32(0.1))]
    assert judged.quarantined.num_rows == 1


def test_outcomes_of_other_classes_are_a_new_delivery(parcels: Contract) -> None:
    config = InlineConfig(label_column="lost")

    def digest(contract: Contract) -> str:
        return Inline(contract, config, lambda: KEY, NOON).outcome_digest("delivery")

    more = of_task(parcels, "multiclass", classes=("early", "on time", "late", "never"))
    assert digest(of_task(parcels, "multiclass")) != digest(more)
    assert "classes" not in config.model_dump_json()
    with pytest.raises(ValueError, match="a spells two classes"):
        InlineConfig(label_column="y", classes={"x": ("a",), "z": ("a",)})


def test_windows_over_numbers_add_up_what_was_known(parcels: Contract, parcel: Make) -> None:
    window = Window(name="past", aggregate="mean", of="lost", entity="depot", window_days=30)
    contract = of_task(parcels, "regression", windows=[window.model_dump()])
    rows = validate_rows([parcel(i) for i in range(4)], contract).accepted
    times = pa.array([NOON + i * HOUR for i in range(4)], TIMESTAMP)
    events = rows.append_column("prediction_time", times).append_column("ingested_at", times)
    events = events.append_column("source", pa.array(["test"] * 4))
    reports = [(0.25, NOON + HOUR / 2), (-7.5, NOON + 1.5 * HOUR), (100.0, NOON + 9 * HOUR)]
    moments = pa.array([known for _, known in reports], TIMESTAMP)
    labels = pa.table(
        {
            "row_id": ["P0", "P1", "P2"],
            "label": [label for label, _ in reports],
            "void": [False] * 3,
            "known_at": moments,
            "received_at": moments,
            "source": ["test"] * 3,
        }
    )
    facts, told = event_facts(events, contract), label_facts(labels, contract.arrivals)
    values = window_values(contract, facts, told, events, times.cast(pa.int64()).to_numpy())
    assert values["past"].to_pylist() == [None, 0.25, -3.625, -3.625]
