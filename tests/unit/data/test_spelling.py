"""How files spell times and numbers: what can be read is, what cannot stays as it stands."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.rows import Column
from app.data.cells import cells_of_arrow
from app.data.spelling import NUMBER_PATTERNS, plain_numbers, plain_times, texts, tidy
from app.sections import TimeReading

NUMBER = Column(name="x", kind="number", nullable=True)
TIME = Column(name="t", kind="time", nullable=True)
GROUPS = {"1,234.5": (",", "."), "1.234,5": (".", ","), "1 234,5": ("\u202f", ","),
          "1'234.5": ("'", "."), "1234,5": ("", ",")}  # fmt: skip


@given(st.text(max_size=80))
@settings(deadline=None)
def test_a_tidied_name_is_one_that_a_contract_takes_and_stays_itself(name: str) -> None:
    assert Column(name=tidy(name), kind="number")
    assert tidy(tidy(name)) == tidy(name)


@pytest.mark.parametrize("style", GROUPS)
@given(cents=st.integers(-(10**11), 10**11))
@settings(deadline=None)
def test_a_number_survives_being_written_in_any_style(style: str, cents: int) -> None:
    group, point = GROUPS[style]
    plain = f"{abs(cents) // 100:,}.{abs(cents) % 100:02d}"
    written = plain.replace(",", "\0").replace(".", point).replace("\0", group)
    written = f"{'-' if cents < 0 else ''}{written}"

    cells = cells_of_arrow(plain_numbers(pa.array([written, f"$ {written} %"]), style), NUMBER)

    assert cells.complaints == []
    assert cells.array.to_pylist() == pytest.approx([cents / 100] * 2)


@pytest.mark.parametrize(
    ("style", "wrong"),
    [("1,234.5", "1,23"), ("1,234.5", "1.234,5"), ("1.234,5", "1,234.5"), ("1234,5", "1.5")],
)
def test_a_number_of_another_style_is_left_and_then_refused(style: str, wrong: str) -> None:
    assert not NUMBER_PATTERNS[style].fullmatch(wrong)
    left = plain_numbers(pa.array([wrong]), style)
    assert left.to_pylist() == [wrong]


@given(st.datetimes(datetime(1910, 1, 1), datetime(2090, 1, 1)))
@settings(deadline=None)
def test_a_local_time_is_read_in_its_zone(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    reading = TimeReading(format="%d.%m.%Y %H:%M:%S", zone="Asia/Tokyo")
    written = pa.array([f"{moment:%d.%m.%Y %H:%M:%S}"])

    (read,) = cells_of_arrow(plain_times(written, reading), TIME).array.to_pylist()

    assert read.astimezone(UTC) - moment.replace(tzinfo=UTC) in (
        timedelta(hours=-9),
        timedelta(hours=-10),  # Tokyo had summers of its own from 1948 to 1951.
    )


def test_the_hour_that_a_zone_has_twice_is_the_earlier_one_and_a_skipped_one_moves_on() -> None:
    reading = TimeReading(zone="Europe/Rome")
    written = pa.array(["2024-10-27T02:30:00", "2024-03-31T02:30:00"])
    assert plain_times(written, reading).to_pylist() == [
        "2024-10-27T00:30:00+00:00",
        "2024-03-31T01:30:00+00:00",
    ]


def test_spreadsheet_days_unix_seconds_and_dates_without_a_zone_are_times() -> None:
    excel = plain_times(pa.array(["45292", "45292.5", "0.5", "x"]), TimeReading(format="excel"))
    assert excel.to_pylist() == [
        "2024-01-01T00:00:00+00:00",
        "2024-01-01T12:00:00+00:00",
        "0.5",
        "x",
    ]
    unix = plain_times(pa.array(["1704067200", "1e9"]), TimeReading(format="unix"))
    assert unix.to_pylist() == ["2024-01-01T00:00:00+00:00", "1e9"]
    days = plain_times(pa.array([date(2024, 1, 1), None]), TimeReading(zone="America/New_York"))
    assert days.to_pylist() == ["2024-01-01T05:00:00+00:00", None]
    zoned = pa.array([datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    assert plain_times(zoned, TimeReading(zone="Asia/Tokyo")).equals(zoned)


def test_what_is_no_time_stays_and_is_refused_with_its_value() -> None:
    left = plain_times(pa.array(["31/02/2024"]), TimeReading(format="%d/%m/%Y"))
    cells = cells_of_arrow(left, TIME)
    assert cells.complaints[0][1].endswith("got '31/02/2024'")


def test_a_zone_that_does_not_exist_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ValueError, match="no time zone is called Mars/Olympus"):
        TimeReading(zone="Mars/Olympus")


def test_nested_cells_are_no_text() -> None:
    with pytest.raises(ValueError, match="cannot be written as text"):
        texts(pa.array([[1], [2]]))
