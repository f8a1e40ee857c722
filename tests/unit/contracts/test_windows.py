"""Windows are declared in YAML and refused, with what to change, when they cannot be computed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import Config, ConfigError, load_config, show_config

HOUR = 3_600_000_000
SHIPPED = Path(__file__).resolve().parents[3] / "configs" / "flights.yaml"
GOOD = """
- {name: tail_flights_7d, entity: tail, window_days: 7, aggregate: count}
- {name: origin_late_share_28d, entity: origin, window_days: 28, aggregate: share, of: label}
- {name: carrier_mean_distance_1d, entity: carrier, hours: 24, aggregate: mean, of: distance}
- {name: since_last, entity: tail, aggregate: time_since_last}
- {name: distinct_destinations_30d, aggregate: distinct, of: destination, window_days: 30}
"""


def load(tmp_path: Path, windows: object) -> Config:
    document: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    document["contract"]["windows"] = windows
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(document))
    return load_config(file)


def test_windows_become_nullable_numbers_that_no_request_has(tmp_path: Path) -> None:
    contract = load(tmp_path, yaml.safe_load(GOOD)).contract
    names = [window["name"] for window in yaml.safe_load(GOOD)]
    assert [column.name for column in contract.features][-5:] == names
    assert all(column.nullable and column.kind == "number" for column in contract.derived)
    assert not set(names) & set(contract.schema.names)
    assert [window.span // HOUR for window in contract.windows] == [168, 672, 24, 8784, 720]
    assert contract.windows[-1].key == "tail", "without an entity it is the contract's"


def test_the_label_has_two_names(tmp_path: Path) -> None:
    window = {"name": "w", "aggregate": "share", "of": "late", "hours": 3}
    assert load(tmp_path, [window]).contract.windows[0].of_label


def test_a_configuration_that_is_shown_loads_again(tmp_path: Path) -> None:
    config = load(tmp_path, yaml.safe_load(GOOD))
    again = tmp_path / "again.yaml"
    again.write_text(show_config(config))
    assert load_config(again).contract == config.contract


def test_without_windows_the_contract_is_written_as_ever(flights: Config) -> None:
    assert not {"windows", "arrivals"} & flights.contract.model_dump(mode="json").keys()
    assert flights.contract.derived == ()
    assert flights.contract.complete_schema == flights.contract.schema


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"aggregate": "median"}, "Input should be 'count'"),
        ({"colour": 1}, "unknown key"),
        ({"window_days": None}, "give one of window_days and hours, got 0"),
        ({"hours": 3}, "give one of window_days and hours, got 2"),
        ({"window_days": 0}, "greater than 0"),
        ({"aggregate": "sum"}, r"sum of what\? Name a column in of"),
        ({"aggregate": "sum", "of": "carrier"}, r"sum of carrier \(category\); it takes label or"),
        ({"aggregate": "share", "of": "distance"}, r"share of distance \(number\); it takes label"),
        ({"aggregate": "distinct", "of": "label"}, r"distinct of label \(label\); it takes categ"),
        ({"aggregate": "mean", "of": "speed"}, r"mean of speed \(no such column\)"),
        ({"aggregate": "time_since_last", "of": "distance"}, "time_since_last has no of"),
        ({"entity": "distance"}, "must be an identifier or category, got number"),
        ({"entity": "pilot"}, "must be an identifier or category, got no such column"),
        ({"name": "distance"}, "distance is the name of another column"),
        ({"name": "late"}, "late is the name of another column"),
        ({"name": "prediction_time"}, "is the name of another column"),
        ({"name": "Flights"}, "should match pattern"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    window = {"name": "w", "entity": "tail", "window_days": 7, "aggregate": "count"} | changes
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, [window])


def test_a_forbidden_column_is_no_window_and_in_no_window(tmp_path: Path) -> None:
    document: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    secret = {"name": "crew", "kind": "identifier", "privacy": "forbidden"}
    document["contract"]["columns"].append(secret)
    window = {"name": "w", "entity": "tail", "window_days": 7, "aggregate": "count"}
    file = tmp_path / "model.yaml"
    for changes, problem in (
        ({"name": "crew"}, "crew is the name of another column"),
        ({"entity": "crew"}, "must be an identifier or category, got no such column"),
        ({"aggregate": "distinct", "of": "crew"}, r"distinct of crew \(no such column\)"),
    ):
        document["contract"]["windows"] = [window | changes]
        file.write_text(yaml.safe_dump(document))
        with pytest.raises(ConfigError, match=problem):
            load_config(file)


def test_a_window_is_as_private_as_what_it_may_quote(tmp_path: Path) -> None:
    document: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    for column in document["contract"]["columns"]:
        if column["name"] in ("distance", document["contract"]["event_time"]):
            column["privacy"] = "quasi"
    document["contract"]["windows"] = yaml.safe_load(GOOD)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(document))
    contract = load_config(tmp_path / "model.yaml").contract
    classes = {column.name: column.privacy for column in contract.derived}
    quoting = {"carrier_mean_distance_1d", "since_last"}
    assert {name for name, privacy in classes.items() if privacy != "public"} == quoting


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    window = {"name": "w", "entity": "tail", "window_days": 7, "aggregate": "count"}
    with pytest.raises(ConfigError, match="w is the name of another column"):
        load(tmp_path, [window, window])
