"""A few good rows, value by value: the answers and the records of whole tables."""

from typing import Any

import pyarrow as pa
import pytest

from app.data.rowwise import FEW_ROWS
from app.ledger.clock import drive_clock
from app.serving.messages import PredictRequest
from app.serving.predictor import validate_rows
from app.serving.rowpath import RowPath
from tests.serving_world import AT, make_rows
from tests.unit.serving.conftest import World


def both_ways(
    world: World, request: PredictRequest, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """Answer a request value by value, then by column."""
    drive_clock(world.ledger, world.config, now=AT)
    short = world.replica.predictor.predict(request)
    monkeypatch.setattr(RowPath, "read", lambda *given: None)
    return [short, world.replica.predictor.predict(request)]


@pytest.mark.parametrize("number", [1, 2, FEW_ROWS])
@pytest.mark.parametrize("with_keys", [False, True])
def test_answers_and_records_are_those_of_tables(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int, with_keys: bool
) -> None:
    rows = make_rows(world.config.contract, number, first=2)
    keys = [f"key-{i}" for i in range(number)] if with_keys else None
    request = PredictRequest(rows=rows, request_id="r", idempotency_keys=keys)

    short, long = both_ways(world, request, monkeypatch)

    close = pytest.approx([p["probability"] for p in short["predictions"]], abs=1e-6)
    assert [p["probability"] for p in long["predictions"]] == close
    for answer in (short, long):
        for prediction in answer["predictions"]:
            del prediction["probability"]
    assert short == long
    for name in ("events", "predictions"):
        logged = world.logged(name)
        assert logged.num_rows == 2 * number
        names = [column for column in logged.column_names if column != "probability"]
        first, second = (_rows(logged.select(names).slice(i * number, number)) for i in range(2))
        assert first == second


def test_many_rows_are_judged_by_column(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def unused(path: RowPath, rows: object, erased: object) -> None:
        pytest.fail(f"asked for {rows}")

    monkeypatch.setattr(RowPath, "read", unused)
    rows = make_rows(world.config.contract, FEW_ROWS + 1)
    answer = world.client.post("/v1/flights/predict", json={"rows": rows})
    assert len(answer.json()["predictions"]) == len(rows)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=repr)


def test_a_row_that_is_not_plainly_good_goes_the_longer_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []

    def judge(rows: list[object], *given: Any, **more: Any) -> Any:
        judged.append(len(rows))
        return validate_rows(rows, *given, **more)

    monkeypatch.setattr("app.serving.predictor.validate_rows", judge)
    good, bad = make_rows(world.config.contract, 2)
    bad["distance"] = "far"

    world.client.post("/v1/flights/predict", json={"rows": [good]})
    answer = world.client.post("/v1/flights/predict", json={"rows": [good, bad]})

    assert judged == [2]
    assert [rejected["row"] for rejected in answer.json()["rejected"]] == [1]
