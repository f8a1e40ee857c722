import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from app import telemetry
from app.telemetry import LOG_FIELDS, METRICS, log_json


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    target = io.StringIO()
    handler = log_json(target)
    yield target
    logging.getLogger("app").removeHandler(handler)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_metric_names_are_unique_and_well_formed() -> None:
    names = [spec.name for spec in METRICS]

    assert len(set(names)) == len(names) > 20
    for spec in METRICS:
        assert re.fullmatch(r"mainspring_[a-z][a-z0-9_]*", spec.name)
        assert spec.name.endswith("_total") == (spec.kind == "counter"), spec.name
        assert spec.labels[0] == "model"
        assert spec.description.endswith(".")


def test_labels_are_bounded_sets() -> None:
    allowed = {"model", "column", "bound", "part", "outcome", "action", "table", "reason"}

    assert {label for spec in METRICS for label in spec.labels} <= allowed


def test_every_declared_metric_is_in_the_list() -> None:
    declared = [
        value for value in vars(telemetry).values() if isinstance(value, telemetry.MetricSpec)
    ]

    assert set(declared) == set(METRICS)


def test_a_log_line_is_json_with_the_listed_fields_only(stream: io.StringIO) -> None:
    logging.getLogger("app.x").info("folded", extra={"model": "rides", "tail": "N14228"})

    (line,) = lines(stream)
    assert line["message"] == "folded"
    assert line["model"] == "rides"
    assert line["level"] == "info"
    assert line["dropped_fields"] == 1
    assert "N14228" not in stream.getvalue()


def test_an_exception_is_one_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("app.x").exception("failed")

    (line,) = lines(stream)
    assert "ValueError: two" in str(line["exception"])


def test_logging_set_up_twice_writes_once(stream: io.StringIO) -> None:
    second = io.StringIO()
    handler = log_json(second)
    logging.getLogger("app.x").warning("once")
    logging.getLogger("app").removeHandler(handler)

    assert stream.getvalue() == ""
    assert len(lines(second)) == 1


def test_ids_and_rows_have_no_field() -> None:
    assert not LOG_FIELDS & {"row", "row_id", "entity", "prediction_id", "idempotency_key", "tail"}
