"""Look up the weather known at a time: the record of the last full hour and those before it.

Knows hourly records by station; knows nothing of flights. A record is taken to be complete one hour
after its own hour begins. Values are handed on as they were recorded: a wind of 1,048 mph is for
validation to refuse.
"""

import pandas as pd

HOUR = pd.Timedelta(hours=1)
RECORDED = {
    "temperature": "temp",
    "dew_point": "dewp",
    "humidity": "humid",
    "wind_direction": "wind_dir",
    "wind_speed": "wind_speed",
    "wind_gust": "wind_gust",
    "precipitation": "precip",
    "pressure": "pressure",
    "visibility": "visib",
}


def last_full_hours(
    weather: pd.DataFrame, station: pd.Series, moment: pd.Series
) -> dict[str, pd.Series]:
    """Return the weather columns for stations and moments (UTC); no record gives nulls."""
    records = hourly_records(weather)
    hour = moment.dt.floor("h") - HOUR
    found = records.reindex(pd.MultiIndex.from_arrays([station, hour]))
    found.index = moment.index
    return {name: found[name] for name in records.columns}


def hourly_records(weather: pd.DataFrame) -> pd.DataFrame:
    """Complete records with what the same station's earlier hours say; index (origin, hour)."""
    hour = pd.to_datetime(weather["time_hour"], utc=True).astype("datetime64[us, UTC]")
    frame = weather.assign(hour=hour).drop_duplicates(["origin", "hour"])
    stations = {
        origin: _with_recent_hours(records.set_index("hour").sort_index())
        for origin, records in frame.groupby("origin")
    }
    return pd.concat(stations, names=["origin", "hour"])


def _with_recent_hours(records: pd.DataFrame) -> pd.DataFrame:
    """Add sums, extremes and changes over this hour and those before it, at one station."""
    # Hours without a record become empty rows, so that three rows back is three hours back.
    hours = records[list(RECORDED.values())].astype("float64").asfreq("h")
    known_pressure = hours["pressure"].ffill(limit=3)
    named = {name: hours[column] for name, column in RECORDED.items()}
    recent = {
        "temperature_change_3h": hours["temp"] - hours["temp"].shift(3),
        "wind_speed_max_3h": hours["wind_speed"].rolling(3, min_periods=1).max(),
        "precipitation_6h": hours["precip"].rolling(6, min_periods=1).sum(),
        "pressure_change_3h": known_pressure - known_pressure.shift(3),
        "visibility_min_3h": hours["visib"].rolling(3, min_periods=1).min(),
    }
    return pd.DataFrame({**named, **recent})
