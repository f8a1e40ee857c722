"""A shadow scores after the answer, and whatever it does nobody who asks can tell."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from app.model.bundle import ModelBundle
from app.serving.residents import Generation
from app.serving.rowpath import prediction_id
from app.serving.shadowing import Shadowing
from tests.serving_world import give_roles, make_bundle, make_rows, make_table, put_version
from tests.unit.serving.conftest import World, wait_until

NUM_ROWS = 40
MOST_ROWS = 64


def shadow(world: World, seed: int = 3) -> str:
    """Let a version be the shadow and wait until it is resident; give its digest."""
    digest = put_version(world.config, world.ledger, seed)
    give_roles(world.ledger, "flights", world.champion, shadow=digest)
    wait_until(lambda: digest in metadata(world)["resident"])
    return digest


def metadata(world: World) -> dict[str, Any]:
    told: dict[str, Any] = world.client.get("/v1/flights/metadata").json()
    return told


def counts(world: World) -> dict[str, int]:
    told = metadata(world)["shadow"]
    return {name: told[name] for name in ("scored", "dropped", "failed", "waiting")}


def ask(world: World, number: int, first: int = 0) -> list[dict[str, Any]]:
    rows = make_rows(world.config.contract, number, first)
    answer = world.client.post("/v1/flights/predict", json={"rows": rows})
    assert answer.status_code == 200
    assert answer.json()["version"] == world.champion
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


@pytest.mark.parametrize("number", [1, NUM_ROWS])
def test_a_shadow_scores_what_the_champion_answered(world: World, number: int) -> None:
    digest = shadow(world)

    answered = ask(world, number)
    wait_until(lambda: counts(world)["scored"] == number)

    made = world.logged("predictions").to_pylist()
    assert {row["version"] for row in made} == {world.champion}
    kept = {row["row_id"]: row for row in world.logged("shadows").to_pylist()}
    table = make_table(world.config.contract, number)
    expected = make_bundle(world.config.contract, 3).predict(table)
    assert [kept[p["row_id"]]["probability"] for p in answered] == pytest.approx(expected, abs=1e-6)
    for row in made:
        beside = kept[row["row_id"]]
        assert beside["version"] == digest
        assert beside["prediction_id"] == prediction_id(digest, row["idempotency_key"])
        same = set(beside) - {"prediction_id", "version", "probability"}
        assert {name: beside[name] for name in same} == {name: row[name] for name in same}


class Strange:
    """A shadow that fits, and then does as it likes."""

    def __init__(self, bundle: ModelBundle, gives: Any, until: threading.Event) -> None:
        self.contract, self._gives, self._until = bundle.contract, gives, until

    def predict(self, table: Any) -> Any:
        """Do as it likes."""
        return self._given(table.num_rows)

    def predict_rows(self, rows: Sequence[Any], names: Sequence[str]) -> Any:
        """Do as it likes."""
        return self._given(len(rows))

    def _given(self, number: int) -> Any:
        if self._gives == "nothing, ever":
            assert self._until.wait(300)
        if isinstance(self._gives, Exception):
            raise self._gives
        return np.full(number, 0.5 if isinstance(self._gives, str) else self._gives)


@pytest.fixture
def end() -> Iterator[threading.Event]:
    """What a hanging shadow waits for: the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def stand_in(world: World, digest: str, strange: Strange) -> None:
    """Put another bundle in a shadow's place, as if it had been admitted with its flaw."""
    residents = world.replica.predictor.residents
    current = residents.current
    assert current is not None
    held = {**current.bundles, digest: strange}
    residents._held = held
    residents.current = Generation(current.roles, held, residents.faults)


def with_room(world: World, most_rows: int) -> None:
    """Give the shadow another queue."""
    predictor = world.replica.predictor
    names = world.config.contract.schema.names
    predictor.__dict__["shadowing"] = Shadowing(names, predictor.spool, most_rows)


def test_a_shadow_that_hangs_changes_no_answer_and_sheds_what_has_no_room(
    world: World, end: threading.Event
) -> None:
    plain = [ask(world, 1, i) for i in range(100)]
    digest = shadow(world)
    with_room(world, MOST_ROWS)
    bundle = make_bundle(world.config.contract, 3)
    stand_in(world, digest, Strange(bundle, "nothing, ever", end))

    shadowed = [ask(world, 1, i) for i in range(100)]

    assert shadowed == plain
    assert counts(world) == {
        "scored": 0, "dropped": 100 - MOST_ROWS, "failed": 0, "waiting": MOST_ROWS,
    }  # fmt: skip
    # It returns although the shadow does not.
    world.replica.predictor.shadowing.stop()
    assert not end.is_set()
    assert world.logged("shadows").num_rows == 0


@pytest.mark.parametrize("gives", [RuntimeError("Jane Doe"), np.nan, 2.0])
@pytest.mark.parametrize("number", [1, NUM_ROWS])
def test_a_shadow_that_fails_is_a_problem_and_nothing_else(
    world: World, end: threading.Event, gives: Any, number: int
) -> None:
    plain = ask(world, number)
    digest = shadow(world)
    stand_in(world, digest, Strange(make_bundle(world.config.contract, 3), gives, end))

    assert ask(world, number) == plain
    wait_until(lambda: counts(world)["failed"] == number)

    assert counts(world) == {"scored": 0, "dropped": 0, "failed": number, "waiting": 0}
    problem = metadata(world)["problems"][digest]
    assert problem.startswith("no usable answer for live rows")
    assert "Jane" not in problem
    assert world.logged("shadows").num_rows == 0


def test_where_the_disk_is_nearly_full_the_shadow_keeps_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.serving.shadowing.RESERVE_BYTES", 2**62)
    shadow(world)

    ask(world, 3)
    wait_until(lambda: counts(world)["dropped"] == 3)

    assert world.logged("predictions").num_rows == 3
    assert world.logged("shadows").num_rows == 0


def test_a_new_shadow_is_scored_although_the_old_one_hangs(
    world: World, end: threading.Event
) -> None:
    old = shadow(world)
    stand_in(world, old, Strange(make_bundle(world.config.contract, 3), "nothing, ever", end))
    ask(world, 2)

    new = shadow(world, seed=4)
    ask(world, 3)
    wait_until(lambda: counts(world)["scored"] == 3)

    assert metadata(world)["shadow"]["version"] == new
    assert set(world.logged("shadows")["version"].to_pylist()) == {new}


def test_without_a_shadow_nothing_is_kept_or_told(world: World) -> None:
    ask(world, 2)

    assert metadata(world)["shadow"] is None
    assert world.logged("shadows").num_rows == 0


def test_a_shadow_that_left_scores_no_more(world: World) -> None:
    digest = shadow(world)
    ask(world, 1)
    wait_until(lambda: counts(world)["scored"] == 1)

    give_roles(world.ledger, "flights", world.champion)
    wait_until(lambda: digest not in metadata(world)["resident"])
    ask(world, 5)

    assert metadata(world)["shadow"] is None
    assert world.logged("shadows").num_rows == 1
