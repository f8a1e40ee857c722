"""Arrow IPC streams over HTTP: the same predictions as rows in JSON get, and what is refused."""

from typing import Any

import numpy as np
import orjson
import polars
import pyarrow as pa
import pytest

from app.security.privacy import PSEUDONYM
from app.serving.messages import ErrorResponse
from tests.serving_world import make_rows, make_table
from tests.unit.serving.conftest import World

PREDICT = "/v1/flights/predict"
ARROW = {"content-type": "application/vnd.apache.arrow.stream"}


def stream(table: pa.Table, metadata: dict[str, str] | None = None, **options: Any) -> bytes:
    if metadata is not None:
        table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=100)
    return sink.getvalue().to_pybytes()


def post(world: World, body: bytes) -> Any:
    return world.client.post(PREDICT, content=body, headers=ARROW)


def read(answer: Any) -> tuple[dict[str, str], pa.Table]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == ARROW["content-type"]
    table = pa.ipc.open_stream(answer.content).read_all()
    told = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    return told, table


def test_a_stream_gets_the_same_predictions_as_rows_to_the_bit(world: World) -> None:
    contract = world.config.contract
    rows = make_rows(contract, 250)
    plain = world.client.post(PREDICT, json={"rows": rows}).json()["predictions"]

    told, table = read(post(world, stream(make_table(contract, 250), {"request_id": "bulk-1"})))

    assert table.to_pylist() == plain
    assert told == {
        "model": "flights",
        "version": world.champion,
        "generation": "1",
        "request_id": "bulk-1",
        "rejected": "[]",
    }
    predictions = world.logged("predictions")
    assert len(set(predictions["prediction_id"].to_pylist())) == 250
    assert all(PSEUDONYM.fullmatch(t) for t in predictions["entity"].drop_null().to_pylist())


def test_rows_that_are_not_acceptable_are_told_in_the_schema_and_quarantined(world: World) -> None:
    table = make_table(world.config.contract, 5)
    distances = pa.array([100.0, -1.0, float("nan"), None, 200.0])
    place = table.schema.get_field_index("distance")
    told, answered = read(post(world, stream(table.set_column(place, "distance", distances))))

    assert answered["row_id"].to_pylist() == ["row-0", "row-4"]
    rejected = orjson.loads(told["rejected"])
    assert [item["row"] for item in rejected] == [1, 2, 3]
    assert [item["reasons"] for item in rejected] == [
        ["distance must be in 10..6000, got -1.0"],
        ["distance is NaN; send null for an unknown value, got nan"],
        ["distance is needed and absent or null"],
    ]
    assert world.logged("quarantine")["position"].to_pylist() == [1, 2, 3]
    assert world.logged("events").num_rows == 2


def test_when_no_row_is_acceptable_the_answer_is_422_in_json(world: World) -> None:
    table = make_table(world.config.contract, 2)
    place = table.schema.get_field_index("origin")
    answer = post(world, stream(table.set_column(place, "origin", pa.array(["SFO", "LAX"]))))

    assert answer.status_code == 422
    refusal = ErrorResponse.model_validate(answer.json())
    assert [item.row for item in refusal.rejected or ()] == [0, 1]
    assert world.logged("quarantine").num_rows == 2


def test_the_keys_of_a_stream_are_a_column_and_a_retry_is_one_prediction(world: World) -> None:
    table = make_table(world.config.contract, 3)
    keyed = table.append_column("_idempotency_key", pa.array(["a", "b", "c"]))
    first, second = (read(post(world, stream(keyed)))[1] for _ in range(2))
    assert first.equals(second)
    assert set(world.logged("predictions")["idempotency_key"].to_pylist()) == {"a", "b", "c"}

    doubled = table.append_column("_idempotency_key", pa.array(["a", "b", "a"]))
    answer = post(world, stream(doubled))
    assert (answer.status_code, answer.json()["error"]["got"]) == (
        400,
        "a key given more than once",
    )


def cast(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, table[name].cast(kind))


def test_types_that_say_the_same_are_read_the_same(world: World) -> None:
    contract = world.config.contract
    table = make_table(contract, 20)
    place = table.schema.get_field_index("distance")
    table = table.set_column(place, "distance", pa.array(np.arange(20, 40), pa.float64()))
    _, expected = read(post(world, stream(table)))
    others = cast(table, "distance", pa.int16())
    others = cast(others, "origin", pa.dictionary(pa.int8(), pa.string()))
    others = cast(others, "carrier", pa.large_string())
    others = cast(others, "destination", pa.string_view())
    others = cast(others, "flight_id", pa.dictionary(pa.uint32(), pa.large_string()))
    others = cast(others, "scheduled_departure", pa.timestamp("ns", "America/New_York"))

    assert read(post(world, stream(others)))[1].equals(expected)
    seconds = cast(table, "scheduled_departure", pa.timestamp("s", "UTC"))
    assert read(post(world, stream(seconds)))[1].equals(expected)


def test_a_data_frame_of_polars_is_read(world: World) -> None:
    table = make_table(world.config.contract, 50)
    _, expected = read(post(world, stream(table)))
    sink = pa.BufferOutputStream()
    frame = polars.from_arrow(table)
    assert isinstance(frame, polars.DataFrame)
    frame.write_ipc_stream(sink)
    assert read(post(world, sink.getvalue().to_pybytes()))[1].equals(expected)


def test_columns_may_be_in_any_order_and_nullable_ones_absent(world: World) -> None:
    table = make_table(world.config.contract, 3)
    names = [name for name in reversed(table.column_names) if name != "temperature"]
    _, answered = read(post(world, stream(table.select(names))))
    assert answered.num_rows == 3
    assert world.logged("events")["temperature"].null_count == 3


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda t: t.drop_columns(["origin", "carrier"]), "missing: carrier, origin"),
        (lambda t: t.append_column("shoes", t["origin"]), "unknown: shoes"),
        (lambda t: t.append_column("origin", t["origin"]), "origin given more than once"),
        (lambda t: cast(t, "distance", pa.string()), "type string"),
        (lambda t: cast(t, "flight_id", pa.binary()), "type binary"),
        (lambda t: cast(t, "scheduled_departure", pa.timestamp("us")), "type timestamp[us]"),
        (lambda t: t.slice(0, 0), "none"),
    ],
)
def test_a_table_that_is_none_of_the_models_is_400_and_leaves_nothing(
    world: World, change: Any, got: str
) -> None:
    answer = post(world, stream(change(make_table(world.config.contract, 3))))
    assert answer.status_code == 400
    assert ErrorResponse.model_validate(answer.json()).error.got == got
    assert world.logged("quarantine").num_rows == 0
    assert world.logged("events").num_rows == 0


def test_too_many_rows_are_413_before_they_are_decoded(world: World) -> None:
    answer = post(world, stream(make_table(world.config.contract, 501)))
    assert answer.status_code == 413
    assert world.logged("events").num_rows == 0


def test_a_forbidden_column_is_refused_and_its_values_are_nowhere(strict_world: World) -> None:
    table = make_table(strict_world.config.contract, 2)
    table = table.append_column("crew_names", pa.array(["SECRET Ada", "SECRET Bob"]))
    answer = post(strict_world, stream(table))
    assert answer.status_code == 400
    assert "crew_names is forbidden" in answer.json()["error"]["got"]
    strict_world.replica.ship()
    files = [path for path in strict_world.config.workspace.rglob("*") if path.is_file()]
    assert not [path for path in files if b"SECRET" in path.read_bytes()]


def test_the_answer_is_documented_in_both_forms(world: World) -> None:
    predict = world.client.get("/openapi.json").json()["paths"]["/v1/{model}/predict"]["post"]
    kinds = {"application/json", ARROW["content-type"]}
    assert set(predict["requestBody"]["content"]) == kinds
    assert set(predict["responses"]["200"]["content"]) == kinds
    assert (
        world.client.post(PREDICT, content=b"a,b", headers={"content-type": "text/csv"})
        .json()["error"]["change"]
        .endswith("application/vnd.apache.arrow.stream")
    )
