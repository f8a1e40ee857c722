"""Guess from a sample what a column holds and how its cells are spelled, with the reason.

Knows texts and names; knows nothing of labels, of files or of what a column is for. Guesses are
tried on the very code that will read the cells later.
"""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Kind
from app.data.cells import NUMBER_TEXT, is_text
from app.data.spelling import SIGNS, is_flat, plain_numbers, texts, time_reader, without
from app.sections import TimeReading
from app.sections.inline import NumberStyle

# A few cells may be wrong: they are quarantined, and the person is told how many.
READABLE_SHARE = 0.98
NULLS = ("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "?")
# These mean nothing only among numbers and times; elsewhere they may be an answer.
FAINT_NULLS = ("-", "--", ".", "missing", "unknown")
STYLES: tuple[NumberStyle, ...] = ("1,234.5", "1.234,5", "1234,5", "1 234,5", "1'234.5")
DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d %b %Y",
        "%d-%b-%Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%d-%b-%y", "%m/%d/%y", "%d/%m/%y",
        "%d.%m.%y")  # fmt: skip
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S.%f")
# Numbers that may be times, between the first and the last that a table is likely to hold.
TIME_NUMBERS = (
    ("%Y%m%d", "dates as digits", 19_000_101, 21_001_231),
    ("unix", "seconds since 1970", 1e8, 5e9),
    ("unix_ms", "milliseconds since 1970", 1e11, 5e12),
    ("excel", "days of a spreadsheet", 20_000, 80_000),
)
NUM_TRIED = 400
FIRST_YEAR, LAST_YEAR = 1600, 2200


def words_of(name: str) -> list[str]:
    """Divide a tidied name.

    >>> words_of("date_of_birth")
    ['date', 'of', 'birth']
    """
    return [word for word in name.split("_") if word]


TIME_NAMES = frozenset(words_of("date_time_timestamp_datetime_ts_at_on_day_when_created_birth_dob"))
CODE_NAMES = frozenset(
    words_of("id_ids_key_code_zip_zipcode_postcode_postal_plz_uuid_guid_ref_reference_sku_isbn_ean")
)


@dataclass(frozen=True)
class Spelling:
    """A guess: the kind (None: nothing can be made of it), how cells are spelled, and why."""

    kind: Kind | None
    why: str
    time: TimeReading | None = None
    number: NumberStyle | None = None


def null_spellings(sample: pa.Table) -> tuple[str, ...]:
    """Find the texts by which a file says that there is nothing."""
    found: set[str] = set()
    for column in sample.columns:
        if not is_text(column.type):
            continue
        values = set(pc.unique(texts(column)).to_pylist())
        found |= values.intersection(NULLS)
        faint = values.intersection(FAINT_NULLS)
        others = pa.array(sorted(values - {None, "", *NULLS, *FAINT_NULLS}), pa.string())
        if faint and len(others) and (_numeric_share(others) == 1 or _iso_share(others) == 1):
            found |= faint
    return tuple(sorted(found))


def guess_spelling(values: pa.ChunkedArray, name: str, nulls: Sequence[str]) -> Spelling:
    """Guess what the cells of a column are; `name` is the column's tidied name."""
    kind = values.type
    if not is_flat(kind):
        return Spelling(None, f"cells of type {kind} fit no column")
    if values.null_count == len(values):
        return Spelling(None, "no value in the sample")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if getattr(kind, "tz", None):
            return Spelling("time", f"times with the zone {kind.tz}")
        return Spelling("time", "times without a zone; UTC is assumed", TimeReading())
    if pa.types.is_boolean(kind):
        return Spelling("category", "true or false")
    if not is_text(kind) and not pa.types.is_dictionary(kind):
        if not _is_number(kind):
            return Spelling(None, f"cells of type {kind} fit no column")
        return _of_numbers(texts(values.cast(kind)), name)
    present = without(texts(values), ("", *nulls)).drop_null()
    if not len(present):
        return Spelling(None, "no value in the sample")
    return _of_texts(present, name)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _of_texts(present: pa.Array, name: str) -> Spelling:
    if _numeric_share(present) >= READABLE_SHARE:
        return _of_numbers(present, name)
    distinct = pa.array(pc.unique(present).to_pylist()[:NUM_TRIED], pa.string())
    times = _of_times(distinct)
    if times is not None:
        return times
    for style in STYLES:
        plain = plain_numbers(distinct, style)
        if _numeric_share(plain) >= READABLE_SHARE:
            return _of_style(distinct, style)
    return Spelling("category", "text")


def _of_style(distinct: pa.Array, style: NumberStyle) -> Spelling:
    shown = distinct[0].as_py()
    why = f"numbers written like {shown}"
    if style == "1,234.5" and all(re.fullmatch(r"\d{1,3},\d{3}", v) for v in distinct.to_pylist()):
        why += "; the comma could be a decimal one: then say 1234,5"
    if any(sign in shown for sign in SIGNS):
        why += "; the sign is left off"
    return Spelling("number", why, number=style)


def _of_numbers(present: pa.Array, name: str) -> Spelling:
    """Numbers may be codes or times: a name decides, or zeros in front."""
    words = set(words_of(name))
    if pc.any(pc.match_substring_regex(present, r"^0\d+$")).as_py():
        return Spelling("identifier", "digits with zeros in front: a code, no number")
    if words & CODE_NAMES:
        return Spelling("identifier", "numbers that the name calls a code")
    if words & TIME_NAMES:
        times = _of_time_numbers(present)
        if times is not None:
            return times
    whole = pc.all(pc.match_substring_regex(present, r"^\s*[+-]?\d+(\.0*)?\s*$")).as_py()
    return Spelling("number", "whole numbers" if whole else "numbers")


def _of_time_numbers(present: pa.Array) -> Spelling | None:
    distinct = pc.unique(present).to_pylist()[:NUM_TRIED]
    for shape, what, low, high in TIME_NUMBERS:
        fitting = all(low <= float(text) <= high for text in distinct)
        reading = TimeReading(format=shape)
        if fitting and _time_share(distinct, reading) >= READABLE_SHARE:
            return Spelling("time", f"{what}; UTC is assumed", reading)
    return None


def _of_times(distinct: pa.Array) -> Spelling | None:
    tried = distinct.to_pylist()
    if _time_share(tried, TimeReading()) >= READABLE_SHARE:
        zoned = [_has_zone(text) for text in tried]
        if all(zoned):
            return Spelling("time", "ISO 8601 times with their zone")
        return Spelling(
            "time", f"times like {tried[0]}, without a zone; UTC is assumed", TimeReading()
        )
    fits = [
        day + clock
        for day in DAYS
        for clock in CLOCKS
        if _time_share(tried, TimeReading(format=day + clock)) >= READABLE_SHARE
    ]
    if not fits:
        return None
    why = f"times like {tried[0]}, read as {fits[0]}; UTC is assumed"
    if len(fits) > 1:
        why += f"; {fits[1]} would fit as well, check it"
    return Spelling("time", why, TimeReading(format=fits[0]))


def _has_zone(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _time_share(tried: Sequence[str], reading: TimeReading) -> float:
    """Give the share of texts that are times, in years that a table is likely to speak of."""
    read = time_reader(reading)
    num_read = 0
    for place, text in enumerate(tried):
        with contextlib.suppress(ValueError, OverflowError):
            num_read += FIRST_YEAR <= read(text).year <= LAST_YEAR
        if place == 20 and num_read < 10:
            return 0.0
    return num_read / len(tried)


def _numeric_share(present: pa.Array) -> float:
    return float(pc.mean(pc.match_substring_regex(present, NUMBER_TEXT)).as_py())


def _iso_share(present: pa.Array) -> float:
    return _time_share(present.to_pylist()[:NUM_TRIED], TimeReading())
