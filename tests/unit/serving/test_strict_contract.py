"""Requests are held against the same rules as files, and a forbidden value leaves no trace."""

import logging
from typing import Any

import pytest

from app.serving.messages import ErrorResponse
from tests.serving_world import make_rows

PREDICT = "/v1/flights/predict"
SECRET = "SECRET Ada Lovelace"


def acceptable(world: Any, number: int) -> list[dict[str, Any]]:
    rows = make_rows(world.config.contract, number)
    return [{**row, "city_departures": 100.0, "origin_departures": 40.0} for row in rows]


def test_a_row_that_breaks_a_rule_is_rejected_with_its_values(strict_world: Any) -> None:
    rows = acceptable(strict_world, 3)
    rows[1]["origin_departures"] = 120.0

    body = strict_world.client.post(PREDICT, json={"rows": rows}).json()

    assert [item["row_id"] for item in body["predictions"]] == ["row-0", "row-2"]
    told = "expected city_departures >= origin_departures, got city_departures 100.0"
    (rejected,) = body["rejected"]
    assert rejected["row"] == 1
    assert rejected["reasons"] == [f"rule city_has_all: {told}, origin_departures 120.0"]
    assert strict_world.logged("quarantine")["reasons"].to_pylist() == [rejected["reasons"]]


def test_a_forbidden_value_is_in_no_answer_no_table_no_log_and_no_file(
    strict_world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good, bad = acceptable(strict_world, 2)
    answers = [
        strict_world.client.post(PREDICT, json={"rows": rows})
        for rows in (
            [good, {**bad, "crew_names": SECRET}],
            [{**bad, "crew_names": {"name": SECRET}}],
            [{**bad, "origin": {"crew_names": SECRET}}],
            [[SECRET], SECRET, {"crew": SECRET}],
        )
    ]

    assert [answer.status_code for answer in answers] == [200, 422, 422, 422]
    refusal = ErrorResponse.model_validate(answers[1].json())
    assert refusal.rejected is not None
    reason = "crew_names is forbidden and must not be sent; leave it out"
    assert refusal.rejected[0].reasons == [reason]
    assert strict_world.logged("quarantine").num_rows == 6
    assert strict_world.logged("events").num_rows == 1
    files = [path for path in strict_world.config.workspace.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert "crew_names" not in strict_world.tables.schema("events").names
    assert SECRET not in str([answer.text for answer in answers]) + caplog.text


def test_the_published_schema_has_no_forbidden_column(strict_world: Any) -> None:
    published = strict_world.client.get("/openapi.json").text
    assert "origin_departures" in published
    assert "crew_names" not in published
    assert "crew_names" not in strict_world.client.get("/v1/flights/metadata").text
