"""Windows through all of serving: trained on, looked up, logged, the same as history's."""

import dataclasses
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import SecretBytes

from app.contracts.rows import TIMESTAMP, Contract
from app.contracts.times import micros_in, micros_of
from app.contracts.windows import Arrivals, Window
from app.data.derived import with_windows
from app.data.inputs import find_pieces
from app.data.retention import Needs, retain
from app.data.rowwise import FEW_ROWS
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import Tables, VersionGone
from app.ledger.clock import drive_clock
from app.ledger.database import open_ledger
from app.model.bundle import ModelBundle
from app.monitoring.performance import skewed_share
from app.registry.artifacts import Artifacts
from app.sections import CaptureConfig
from app.security.privacy import Pseudonymiser
from app.serving.desk import Desk
from app.serving.explain_messages import ExplainRequest
from app.serving.explaining import Explaining
from app.serving.messages import LabelsRequest, PredictRequest, Refused
from app.serving.predictor import Predictor
from app.serving.replica import Replica
from app.serving.residents import Generation, VersionUnfit, check_fit
from app.serving.rowpath import RowPath
from app.serving.scoring import Scoring, score_piece
from app.serving.upkeep import open_online
from app.training.assembly import fit_in_process
from tests import learning_world
from tests.learning_world import END, START, fill_tables, make_rows
from tests.serving_world import give_roles, register
from tests.unit.serving.conftest import wait_until

NAMES = ["driver_trips", "depot_late_share", "depot_weight", "driver_depots", "driver_idle"]


def windowed(contract: Contract) -> Contract:
    """The contract of orders, with a window of every kind."""
    return Contract.model_validate(
        contract.model_dump()
        | {
            "windows": (
                Window(name=NAMES[0], entity="driver", aggregate="count", window_days=5),
                Window(name=NAMES[1], entity="depot", aggregate="share", of="late", hours=60),
                Window(name=NAMES[2], entity="depot", aggregate="mean", of="weight", window_days=3),
                Window(
                    name=NAMES[3], entity="driver", aggregate="distinct", of="depot", window_days=9
                ),
                Window(name=NAMES[4], entity="driver", aggregate="time_since_last"),
            ),
            "arrivals": Arrivals(settle_seconds=60),
        }
    )


class World:
    """History in the tables, a model trained on it with its windows, a replica that serves it."""

    def __init__(self, workspace: Path, bundle: ModelBundle | None = None) -> None:
        settings = learning_world.make_config(workspace)
        capture = CaptureConfig(ship_in="thread")
        serving = settings.serving.model_copy(
            update={"ship_seconds": 60.0, "roles_poll_seconds": 0.02, "capture": capture}
        )
        changes = {"contract": windowed(settings.contract), "clock": "driven", "serving": serving}
        self.config = settings.model_copy(update=changes)
        rows = make_rows()
        self.tables = fill_tables(self.config, rows.filter(before(rows, LIVE_FROM)))
        self.live = rows.filter(pc.invert(before(rows, LIVE_FROM)))
        self.bundle = bundle or self.train()
        self.bundle.save(workspace / "bundle")
        self.config.artifacts_path.mkdir(parents=True, exist_ok=True)
        digest = Artifacts(self.config.artifacts_path).put(workspace / "bundle")
        self.ledger = open_ledger(self.config.ledger_url)
        drive_clock(self.ledger, self.config, LIVE_FROM)
        register(self.config, self.ledger, digest, "run-1")
        give_roles(self.ledger, self.config.name, digest)
        self.replica = Replica(self.config, wall=time.time, steady=time.monotonic)
        self.replica.start()
        wait_until(self.is_ready)

    def train(self) -> ModelBundle:
        dataset = take_snapshot(self.tables, self.config.contract, None, LIVE_FROM, LIVE_FROM)
        history = load_snapshot(self.tables, self.config.contract, dataset)
        return fit_in_process(self.config, history, LIVE_FROM).bundle

    def is_ready(self) -> bool:
        try:
            return bool(self.replica.predictor.readiness().version)
        except Refused:
            return False

    def serve(self, every: timedelta) -> None:
        """Send the live rows and the outcomes of earlier ones as they come, on a driven clock."""
        now = LIVE_FROM
        told = self.live.slice(0, 0)
        while now < END:
            drive_clock(self.ledger, self.config, now + every)
            recent = pc.and_(pc.invert(before(self.live, now)), before(self.live, now + every))
            asked, now = self.live.filter(recent), now + every
            if asked.num_rows:
                self.replica.predictor.predict(PredictRequest(rows=as_json(asked)))
            if outcomes := as_labels(told):
                self.replica.predictor.label(LabelsRequest(labels=outcomes))
            told = asked
            self.replica.ship()

    def close(self) -> None:
        self.replica.stop()
        self.ledger.close()


LIVE_FROM = END - timedelta(days=6)


def before(rows: pa.Table, at: datetime) -> pa.ChunkedArray:
    return pc.less(rows["prediction_time"], pa.scalar(at, TIMESTAMP))


def as_json(rows: pa.Table) -> list[dict[str, object]]:
    names = [column.name for column in learning_world.CONTRACT.columns]
    found = rows.select(names).to_pylist()
    return [row | {"due": row["due"].isoformat()} for row in found]


def as_labels(rows: pa.Table) -> list[dict[str, object]]:
    return [
        {"row_id": row["order"], "label": row["label"], "void": row["state"] == "void"}
        for row in rows.to_pylist()
        if row["state"] != "pending"
    ]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelBundle]:
    first = World(tmp_path_factory.mktemp("first"))
    yield first.bundle
    first.close()


@pytest.fixture
def world(tmp_path: Path, bundle: ModelBundle) -> Iterator[World]:
    made = World(tmp_path / "workspace", bundle)
    yield made
    made.close()


def test_what_was_served_is_what_history_gives_bit_for_bit(world: World) -> None:
    assert [n.name for n in world.bundle.encoder.numbers][-5:] == NAMES
    world.serve(every=timedelta(hours=5))
    contract, tables = world.config.contract, world.tables
    dataset = take_snapshot(tables, contract, LIVE_FROM, END, END)
    history = load_snapshot(tables, contract, dataset)
    logged = tables.read("events", filters=pc.field("source") == "serving")
    logged = logged.take(pc.index_in(history["order"], value_set=logged["order"].combine_chunks()))
    assert history.num_rows == world.live.num_rows > 200
    for name in NAMES:
        assert bits(logged[name]) == bits(history[name]), name
        assert history[name].null_count < history.num_rows
    predictions = tables.read("predictions")
    place = pc.index_in(history["order"], value_set=predictions["row_id"].combine_chunks())
    served = predictions["probability"].take(place).to_numpy()
    np.testing.assert_allclose(served, world.bundle.predict(history), rtol=0, atol=1e-6)
    # What the monitor asks: does the bundle give the logged prediction from the logged row?
    assert skewed_share(served, world.bundle.predict(logged)) == 0.0
    assert world.replica.predictor.online is not None


@pytest.mark.parametrize("number", [1, FEW_ROWS])
def test_few_rows_are_answered_and_logged_as_tables_are(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    rows = world.live.slice(0, number)
    request = PredictRequest(rows=as_json(rows), request_id="r")

    short = world.replica.predictor.predict(request)
    monkeypatch.setattr(RowPath, "read", lambda *given: None)
    long = world.replica.predictor.predict(request)

    for one, other in zip(short["predictions"], long["predictions"], strict=True):
        assert abs(one.pop("probability") - other.pop("probability")) <= 1e-6
    assert short == long
    world.replica.ship()
    logged = world.tables.read("events", filters=pc.field("source") == "serving").to_pylist()
    assert len(logged) == 2 * number
    by_row: dict[str, list[dict[str, object]]] = {}
    for row in logged:
        by_row.setdefault(row["order"], []).append(row)
    assert all(first == second for first, second in by_row.values())
    for name in NAMES:
        assert number == 1 or any(row[name] is not None for row in logged), name


def test_few_rows_are_offered_to_a_shadow_with_their_windows(world: World, tmp_path: Path) -> None:
    predictor = world.replica.predictor
    shadow = dataclasses.replace(world.bundle, card={**world.bundle.card, "threshold": 0.4})
    shadow.save(tmp_path / "shadow")
    digest = Artifacts(world.config.artifacts_path).put(tmp_path / "shadow")
    register(world.config, world.ledger, digest, "run-2")
    give_roles(world.ledger, world.config.name, world.bundle.digest, shadow=digest)
    wait_until(lambda: has_shadow(predictor.residents.current, digest))

    answer = predictor.predict(PredictRequest(rows=as_json(world.live.slice(0, 3))))
    wait_until(lambda: num_shadowed(predictor) == 3)

    world.replica.ship()
    beside = {row["row_id"]: row["probability"] for row in world.tables.read("shadows").to_pylist()}
    assert beside == {p["row_id"]: p["probability"] for p in answer["predictions"]}


def has_shadow(generation: Generation | None, digest: str) -> bool:
    return generation is not None and generation.shadow is not None and digest in generation.bundles


def num_shadowed(predictor: Predictor) -> int:
    told = predictor.shadowing.told(predictor.residents.current)
    return 0 if told is None else told.scored


def test_windows_are_explained_by_what_was_looked_up(world: World) -> None:
    world.serve(every=timedelta(hours=40))
    rows = world.live.slice(world.live.num_rows - 8, 8)
    explaining = Explaining(world.replica.predictor, Desk(world.config.serving))
    answer = explaining.explain(ExplainRequest(rows=as_json(rows)))
    accepted, _ = world.replica.predictor.judge(as_json(rows))
    for place, one in enumerate(answer["explanations"]):
        told = {each["column"]: each for each in one["attributions"]}
        assert abs(one["residual"]) <= one["tolerance"]
        for name in NAMES:
            assert told[name]["value"] == accepted[name][place].as_py()
    shares = [each for one in answer["explanations"] for each in one["attributions"]]
    assert sum(each["column"] in NAMES and each["attribution"] != 0 for each in shares) > 8


def bits(values: pa.ChunkedArray) -> list[int | None]:
    return [
        None if value is None else int(np.float64(value).view(np.int64))
        for value in values.to_pylist()
    ]


def test_the_windows_matter_to_the_answer(world: World) -> None:
    world.serve(every=timedelta(hours=48))
    rows = world.tables.read("events", filters=pc.field("source") == "serving")
    without = rows
    for name in NAMES:
        nothing = pa.nulls(rows.num_rows, pa.float64())
        without = without.set_column(rows.schema.get_field_index(name), name, nothing)
    assert np.abs(world.bundle.predict(rows) - world.bundle.predict(without)).max() > 1e-3


def test_a_request_may_not_send_a_window(world: World) -> None:
    (row,) = as_json(world.live.slice(0, 1))
    with pytest.raises(Refused) as refusal:
        world.replica.predictor.predict(PredictRequest(rows=[row | {NAMES[0]: 3.0}]))
    assert refusal.value.rejected is not None
    assert refusal.value.rejected[0].reasons == [f"row has unknown columns: {NAMES[0]}"]


def test_no_answer_is_given_before_history_was_read(world: World) -> None:
    store = world.replica.predictor.online
    assert store is not None
    with store.file.transaction() as database:
        database.execute("DELETE FROM numbers")
    with pytest.raises(Refused, match="history is being read"):
        world.replica.predictor.predict(PredictRequest(rows=as_json(world.live.slice(0, 1))))
    world.replica.ship()
    world.replica.predictor.predict(PredictRequest(rows=as_json(world.live.slice(0, 1))))


def test_a_version_made_with_other_windows_does_not_serve(world: World) -> None:
    offered = world.config.contract
    check_fit(world.bundle, offered)
    longer = offered.windows[0].model_copy(update={"window_days": 6.0})
    changed = offered.model_copy(update={"windows": (longer, *offered.windows[1:])})
    with pytest.raises(VersionUnfit, match=f"window {NAMES[0]} is declared otherwise now"):
        check_fit(world.bundle, changed)
    more = longer.model_copy(update={"name": "driver_trips_6d"})
    check_fit(world.bundle, offered.model_copy(update={"windows": (*offered.windows, more)}))


def test_files_are_scored_with_the_windows_of_their_own_times(world: World, tmp_path: Path) -> None:
    world.serve(every=timedelta(hours=12))
    names = [column.name for column in world.config.contract.columns]
    pq.write_table(world.live.select(names), tmp_path / "rows.parquet")
    key = SecretBytes(b"0123456789abcdef")
    scoring = Scoring(
        world.config.contract, world.bundle, Pseudonymiser(key), "v" * 64, world.tables
    )
    (piece,) = find_pieces(str(tmp_path / "rows.parquet"), world.config.contract)
    scores = score_piece(piece, scoring)
    time = micros_in(world.live["prediction_time"]).to_numpy()
    rows = with_windows(world.tables, world.config.contract, world.live, time)
    expected = world.bundle.predict(rows)
    np.testing.assert_allclose(scores["probability"].to_numpy(), expected, rtol=0, atol=1e-6)


def test_windows_declared_later_find_the_rows_of_before(tmp_path: Path) -> None:
    plain = learning_world.make_config(tmp_path / "workspace")
    fill_tables(plain, make_rows(300))
    contract = windowed(plain.contract)
    tables = Tables(plain.tables_path, contract)
    dataset = take_snapshot(tables, contract, START, END, END)
    first = load_snapshot(tables, contract, dataset)
    assert first["driver_trips"].null_count == first["driver"].null_count
    accepted = first.select(contract.schema.names).slice(0, 1)
    values = accepted
    for name in NAMES:
        values = values.append_column(name, pa.array([1.5]))
    tables.append("events", tables.complete("events", values, END, "serving"))
    rows, _ = tables.read_since("events", -1)
    assert rows["driver_trips"].null_count == 300
    assert tables.read("events")["driver_trips"].drop_null().to_pylist() == [1.5]
    # And without the windows again, the rows are still there to read and to add to.
    back = Tables(plain.tables_path, plain.contract)
    back.append("events", back.complete("events", accepted, END, "serving"))
    assert back.read("events").num_rows == back.read_since("events", -1)[0].num_rows == 302


def test_files_that_retention_took_are_read_again_from_the_beginning(world: World) -> None:
    store, tables = world.replica.predictor.online, world.tables
    assert store is not None
    contract = world.config.contract
    for part in (world.live.slice(0, 100), world.live.slice(100)):
        tables.append(
            "events", tables.complete("events", part.select(contract.schema.names), END, "late")
        )
    tables.compact("events")
    assert retain(tables, "events", Needs()).num_files > 2
    with pytest.raises(VersionGone):
        tables.read_since("events", store.offset("events") or 0)
    drive_clock(world.ledger, world.config, END)
    world.replica.ship()
    asked = np.full(world.live.num_rows, micros_of(END))
    history = with_windows(tables, contract, world.live, asked).select(NAMES)
    online = store.values(world.live, asked)
    assert [bits(online[name]) for name in NAMES] == [bits(history[name]) for name in NAMES]
    assert max(online["driver_trips"].drop_null().to_pylist()) > 0
    assert store.offset("events") == tables.version("events")


def test_a_model_without_windows_has_no_store(tmp_path: Path) -> None:
    plain = learning_world.make_config(tmp_path)
    assert open_online(plain) is None
    assert not (tmp_path / "online").exists()
    assert b"windows" not in plain.contract.model_dump_json().encode()
