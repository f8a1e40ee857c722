"""A receipt says what one prediction was made with."""

from sqlalchemy import text

from app.config import Config
from app.contracts.receipts import Receipt, digest_of_inputs
from app.ledger.clock import drive_clock
from app.registry.store import find_version, read_roles
from tests.serving_world import AT, make_rows, make_table
from tests.unit.serving.conftest import World, open_world

PREDICT = "/v1/flights/predict"


def predicted(world: World, number: int = 1) -> list[dict[str, object]]:
    drive_clock(world.ledger, world.config, now=AT)
    rows = make_rows(world.config.contract, number)
    answer = world.client.post(PREDICT, json={"rows": rows})
    world.replica.ship()
    predictions: list[dict[str, object]] = answer.json()["predictions"]
    return predictions


def test_a_receipt_names_model_data_code_configuration_arm_and_inputs(world: World) -> None:
    for number, prediction in enumerate(predicted(world, 3)):
        answer = world.client.get(f"/v1/flights/predictions/{prediction['prediction_id']}")

        assert answer.status_code == 200, answer.text
        receipt = Receipt.model_validate_json(answer.content)
        version = find_version(world.ledger, world.champion)
        assert receipt.model_dump(include=set(prediction)) == prediction
        assert (receipt.model, receipt.version, receipt.generation) == (
            "flights",
            version.digest,
            1,
        )
        assert receipt.decision == read_roles(world.ledger, "flights").decision
        assert (receipt.run, receipt.code_version) == (version.run, version.code_version)
        assert receipt.config_digest == version.config_digest
        assert receipt.data_digest == version.dataset.digest
        assert (receipt.arm, receipt.propensity, receipt.served_at) == ("champion", 1.0, AT)
        [row] = make_table(world.config.contract, 1, first=number).to_pylist()
        row = world.tables.read("events").to_pylist()[number] | {"flight_id": row["flight_id"]}
        named = {name: row[name] for name in world.config.contract.complete_schema.names}
        assert receipt.inputs_digest == digest_of_inputs(named)


def test_a_request_that_was_sent_again_has_the_receipt_of_the_first(world: World) -> None:
    [first] = predicted(world)
    drive_clock(world.ledger, world.config, now=AT.replace(hour=9))
    world.client.post(PREDICT, json={"rows": make_rows(world.config.contract, 1)})
    assert world.logged("predictions").num_rows == 2

    answer = world.client.get(f"/v1/flights/predictions/{first['prediction_id']}")
    assert Receipt.model_validate_json(answer.content).served_at == AT


def test_a_name_of_no_prediction_is_404_and_says_that_it_may_be_too_early(world: World) -> None:
    predicted(world)
    for name in ("0" * 32, "x", "%27%20or%201=1", "ü" * 200):
        answer = world.client.get(f"/v1/flights/predictions/{name}")
        assert answer.status_code == 404, answer.text
    assert "after their answer" in answer.json()["error"]["change"]


def test_with_the_ledger_away_a_receipt_is_503_and_predictions_go_on(
    flights: Config,
) -> None:
    with open_world(flights.model_copy(update={"clock": "wall"})) as world:
        world.promote(seed=1)
        rows = {"rows": make_rows(world.config.contract, 1)}
        [prediction] = world.client.post(PREDICT, json=rows).json()["predictions"]
        world.replica.ship()
        with world.ledger.transaction() as connection:
            connection.execute(text("ALTER TABLE versions RENAME TO versions_away"))

        answer = world.client.get(f"/v1/flights/predictions/{prediction['prediction_id']}")

        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json()["error"]["where"] == "ledger"
        assert world.client.post(PREDICT, json=rows).status_code == 200
