"""Two versions answer at once: each its own rows, and no client sees a challenger fail."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.contracts.shares import Shares
from app.data.rowwise import FEW_ROWS
from app.model.bundle import ModelBundle
from app.serving.arms import Arms, salt_of
from app.serving.arrowstream import write_stream
from app.serving.residents import Generation
from app.serving.rowpath import prediction_id
from tests.serving_world import AT, give_roles, make_bundle, make_rows, make_table, put_version
from tests.unit.serving.conftest import World, wait_until
from tests.unit.serving.test_inference import tensors

NUM_ROWS = 40
HALF = Shares(challenger=0.4, holdout=0.2, exploration=0.2)


def contest(world: World, shares: Shares = HALF) -> str:
    """Let a second version answer beside the champion; give its digest."""
    challenger = put_version(world.config, world.ledger, 2)
    give_roles(world.ledger, "flights", world.champion, challenger=challenger, shares=shares)

    def ready() -> bool:
        return challenger in world.client.get("/v1/flights/metadata").json()["resident"]

    wait_until(ready)
    return challenger


def ask(world: World, rows: Sequence[Any]) -> dict[str, Any]:
    answer = world.client.post("/v1/flights/predict", json={"rows": [*rows]})
    assert answer.status_code == 200
    answered: dict[str, Any] = answer.json()
    return answered


@pytest.fixture(params=[FEW_ROWS, NUM_ROWS])
def at_once(request: pytest.FixtureRequest) -> int:
    """So many rows a request: one that is answered row by row, and one by column."""
    assert isinstance(request.param, int)
    return request.param


def ask_all(world: World, at_once: int) -> list[dict[str, Any]]:
    rows = make_rows(world.config.contract, NUM_ROWS)
    predictions: list[dict[str, Any]] = []
    for first in range(0, NUM_ROWS, at_once):
        answer = ask(world, rows[first : first + at_once])
        assert answer["version"] == world.champion
        predictions += answer["predictions"]
    return predictions


def test_each_version_answers_its_own_rows(world: World, at_once: int) -> None:
    challenger = contest(world)

    predictions = ask_all(world, at_once)

    table = make_table(world.config.contract, NUM_ROWS)
    of_champion = make_bundle(world.config.contract, 1).predict(table)
    of_challenger = make_bundle(world.config.contract, 2).predict(table)
    is_other = np.array(["version" in prediction for prediction in predictions])
    assert 0 < is_other.sum() < NUM_ROWS
    assert {p["version"] for p in predictions if "version" in p} == {challenger}
    expected = np.where(is_other, of_challenger, of_champion)
    assert [p["probability"] for p in predictions] == pytest.approx(expected, abs=1e-6)
    assert "challenger" not in str(predictions), "who is whose rival is nobody's business"


def test_every_record_says_who_answered_and_how_likely_that_was(world: World, at_once: int) -> None:
    challenger = contest(world)

    answered = {p["row_id"]: p for p in ask_all(world, at_once)}

    contract = world.config.contract
    events = world.logged("events").to_pylist()
    entities = {row[contract.id]: row[contract.entity] for row in events}
    arms = Arms(salt_of("flights", challenger), HALF, AT)
    records = world.logged("predictions").to_pylist()
    assert len(records) == NUM_ROWS
    for record in records:
        key = record["idempotency_key"]
        arm = arms.of(entities[record["row_id"]] or key, key)
        version = challenger if arm.part == "challenger" else world.champion
        assert (record["arm"], record["propensity"]) == (arm.name, arm.propensity)
        assert record["version"] == version
        assert record["prediction_id"] == prediction_id(version, key)
        answer = answered[record["row_id"]]
        assert answer["prediction_id"] == record["prediction_id"]
        assert answer["probability"] == record["probability"]
        assert answer.get("version", world.champion) == version
    assert {record["arm"] for record in records} >= {"champion", "challenger", "holdout"}


def test_tensors_say_who_answered_each_row(world: World) -> None:
    challenger = contest(world)
    contract = world.config.contract
    asked = {"inputs": tensors(contract, make_rows(contract, NUM_ROWS))}

    answer = world.client.post("/v2/models/flights/infer", json=asked).json()

    told = {output["name"]: output["data"] for output in answer["outputs"]}
    kept = {r["prediction_id"]: r["version"] for r in world.logged("predictions").to_pylist()}
    assert told["version"] == [kept[name] for name in told["prediction_id"]]
    assert set(told["version"]) == {world.champion, challenger}
    assert answer["model_version"] == world.champion


def test_row_by_row_and_by_column_the_arms_are_the_same(world: World) -> None:
    contest(world)

    ask_all(world, FEW_ROWS)
    ask_all(world, NUM_ROWS)

    names = ["idempotency_key", "version", "arm", "propensity"]
    records = [tuple(row.values()) for row in world.logged("predictions").select(names).to_pylist()]
    assert len(records) == 2 * NUM_ROWS
    assert len(set(records)) == NUM_ROWS


class Lame:
    """A challenger that fits and then, over live rows, has no answer."""

    def __init__(self, bundle: ModelBundle, gives: Any) -> None:
        self.contract, self._gives = bundle.contract, gives

    def predict(self, table: Any) -> Any:
        """Give what is no answer."""
        return self._given(table.num_rows)

    def predict_rows(self, rows: Sequence[Any], names: Sequence[str]) -> Any:
        """Give what is no answer."""
        return self._given(len(rows))

    def _given(self, number: int) -> Any:
        if isinstance(self._gives, Exception):
            raise self._gives
        return np.full(number + 1 if self._gives == "one too many" else number, self._gives)


@pytest.mark.parametrize("gives", [RuntimeError("out of order"), np.nan, 1.5, "one too many"])
def test_where_the_challenger_fails_the_champion_answers(
    world: World, at_once: int, gives: Any
) -> None:
    challenger = contest(world, Shares(challenger=0.5))
    residents = world.replica.predictor.residents
    current = residents.current
    assert current is not None
    lame = Lame(make_bundle(world.config.contract, 2), gives)
    held = {**current.bundles, challenger: lame}
    # As if the version had been admitted with this flaw: the follower leaves equal roles alone.
    residents._held = held
    residents.current = Generation(current.roles, held, residents.faults)

    predictions = ask_all(world, at_once)

    expected = make_bundle(world.config.contract, 1).predict(
        make_table(world.config.contract, NUM_ROWS)
    )
    assert [p["probability"] for p in predictions] == pytest.approx(expected, abs=1e-6)
    assert not any("version" in prediction for prediction in predictions)
    records = world.logged("predictions").to_pylist()
    assert {record["version"] for record in records} == {world.champion}
    counted = {record["arm"] for record in records}
    assert counted == {"champion", "fallback"}
    assert {record["propensity"] for record in records} == {0.5}
    problems = world.client.get("/v1/flights/metadata").json()["problems"]
    assert "no usable answer for live rows" in problems[challenger]


def test_who_asks_for_the_champion_by_name_gets_nobody_else(world: World) -> None:
    contest(world, Shares(challenger=1.0))
    table = make_table(world.config.contract, 3)

    scored = world.replica.predictor.predict_table(table, version=world.champion)

    assert scored.predictions["version"].to_pylist() == [world.champion] * 3
    assert scored.predictions["propensity"].to_pylist() == [1.0] * 3
    assert not any("version" in answer for answer in scored.answered())


def test_a_stream_names_who_answered_each_row_where_they_differ(world: World) -> None:
    challenger = contest(world, Shares(challenger=0.5))
    rows = make_table(world.config.contract, NUM_ROWS)

    answer = read(write_stream("flights", "r", world.replica.predictor.predict_table(rows)))
    give_roles(world.ledger, "flights", world.champion)
    wait_until(lambda: world.client.get("/readyz").json()["generation"] == 3)
    plain = read(write_stream("flights", "r", world.replica.predictor.predict_table(rows)))

    assert set(answer["version"].to_pylist()) == {world.champion, challenger}
    assert "version" not in plain.column_names


def read(stream: bytes) -> pa.Table:
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()


def test_a_challenger_without_a_share_answers_nothing(world: World, at_once: int) -> None:
    contest(world, Shares())

    predictions = ask_all(world, at_once)

    assert not any("version" in prediction for prediction in predictions)
    logged = world.logged("predictions")
    assert set(logged["arm"].to_pylist()) == {"champion"}
    assert set(logged["propensity"].to_pylist()) == {1.0}
