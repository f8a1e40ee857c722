"""Read the cells of a file as it spells them: times in its format and zone, grouped numbers.

Knows Arrow arrays and spellings; knows nothing of contracts, files or tables. What can be read
comes out as plain text that the contract's types understand; what cannot stays as it stands, so
that validation can refuse it with the value it got.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from app.data.cells import is_text
from app.sections import TimeReading

# A spreadsheet counts days from here; it believes in a 29 February 1900, hence not from January.
EXCEL_EPOCH = datetime(1899, 12, 30)
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SIGNS = "$€£¥%"
# Plain, unbroken, and narrow: all three stand between thousands.
_SPACES = " \u00a0\u202f"
_WHOLE = r"[+-]?\d+"
_GROUPED = {
    "1,234.5": (r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[+-]?\d*\.?\d+", ",", "."),
    "1.234,5": (r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?|[+-]?\d+(?:,\d+)?", ".", ","),
    "1 234,5": (rf"[+-]?\d{{1,3}}(?:[{_SPACES}]\d{{3}})+(?:,\d+)?|[+-]?\d+(?:,\d+)?", " ", ","),
    "1'234.5": (r"[+-]?\d{1,3}(?:['’]\d{3})+(?:\.\d+)?|[+-]?\d*\.?\d+", "'", "."),
    "1234,5": (r"[+-]?\d+(?:,\d+)?", "", ","),
    "1234.5": (r"[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?", "", "."),
}
NUMBER_PATTERNS = {style: re.compile(pattern) for style, (pattern, _, _) in _GROUPED.items()}
_TIDY = re.compile(r"[^a-z0-9]+")
MAX_NAME = 63


def tidy(name: str) -> str:
    """Turn a column's name in a file into one that a contract can have.

    >>> tidy("Culmen Length (mm)"), tidy("studyName"), tidy("2nd"), tidy("")
    ('culmen_length_mm', 'study_name', 'c_2nd', 'unnamed')
    """
    spread = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name.strip())
    plain = _TIDY.sub("_", spread.lower()).strip("_")
    if not plain:
        return "unnamed"
    return (plain if plain[0].isalpha() else f"c_{plain}")[:MAX_NAME].rstrip("_")


def is_flat(kind: pa.DataType) -> bool:
    """Tell whether cells of a type can be written as text."""
    nested = pa.types.is_nested(kind) and not pa.types.is_dictionary(kind)
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return not nested and not any(is_kind(kind) for is_kind in binary)


def texts(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Write cells of any flat type as text, whole numbers without a point.

    Raises ValueError for nested or binary cells.

    >>> texts(pa.array([1.0, 2.5, None])).to_pylist(), texts(pa.array([True])).to_pylist()
    (['1', '2.5', None], ['true'])
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if is_text(values.type):
        return pc.utf8_trim_whitespace(values.cast(pa.string()))
    if not is_flat(values.type):
        raise ValueError(f"cells of type {values.type} cannot be written as text")
    written = values.cast(pa.string())
    if pa.types.is_floating(values.type):
        return pc.replace_substring_regex(written, r"\.0$", "")
    return written


def without(values: pa.Array, nulls: tuple[str, ...]) -> pa.Array:
    """Blank the texts that a file spells for nothing."""
    if not nulls:
        return values
    return pc.if_else(pc.is_in(values, value_set=pa.array(nulls, pa.string())), None, values)


def plain_numbers(values: pa.Array, style: str) -> pa.Array:
    """Write numbers of a style plainly; texts that are none of the style stay.

    >>> plain_numbers(pa.array(["$1,234.5", "12%", "1,2", None]), "1,234.5").to_pylist()
    ['1234.5', '12', '1,2', None]
    """
    _, group, point = _GROUPED[style]
    bare = pc.utf8_trim(pc.utf8_trim(values, characters=SIGNS), characters=_SPACES)
    readable = pc.match_substring_regex(bare, f"^(?:{NUMBER_PATTERNS[style].pattern})$")
    groups = {" ": f"[{_SPACES}]", "'": "['’]"}.get(group, re.escape(group))
    if group:
        bare = pc.replace_substring_regex(bare, groups, "")
    return pc.if_else(readable, pc.replace_substring(bare, point, "."), values)


def plain_times(values: pa.Array, reading: TimeReading) -> pa.Array:
    """Write times in ISO 8601 with their zone; texts that are no time of the format stay.

    A local time that a zone has twice is the earlier one; one that it skips is moved forward.

    >>> spelled = pa.array(["31/12/2020", "31/13/2020", None])
    >>> plain_times(spelled, TimeReading(format="%d/%m/%Y", zone="Europe/Rome")).to_pylist()
    ['2020-12-30T23:00:00+00:00', '31/13/2020', None]
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_timestamp(values.type) and values.type.tz is not None:
        return values
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        values = pc.strftime(values.cast(pa.timestamp("us"), safe=False), "%Y-%m-%dT%H:%M:%S")
        reading = reading.model_copy(update={"format": "iso"})
    read = time_reader(reading)
    encoded = pc.dictionary_encode(texts(values))
    written = [_written(text, read) for text in encoded.dictionary.to_pylist()]
    return pa.array(written, pa.string()).take(encoded.indices)


def time_reader(reading: TimeReading) -> Callable[[str], datetime]:
    """Give the function that reads one text of a format; it raises ValueError for any other."""
    zone = ZoneInfo(reading.zone)
    if reading.format == "excel":
        return partial(_from_excel, zone=zone)
    if reading.format in ("unix", "unix_ms"):
        return partial(_from_unix, scale=1 if reading.format == "unix" else 1000)

    def read(text: str) -> datetime:
        if reading.format == "iso":
            found = datetime.fromisoformat(text)
        else:
            found = datetime.strptime(text, reading.format)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)

    return read


def _from_excel(text: str, zone: ZoneInfo) -> datetime:
    days = float(text)
    if not 1 <= days < 2_958_466:  # 9999-12-31
        raise ValueError(f"{text} is no day of a spreadsheet")
    # To the second: a spreadsheet's fraction of a day holds no more.
    moment = EXCEL_EPOCH + timedelta(seconds=round(days * 86_400))
    return moment.replace(tzinfo=zone).astimezone(UTC)


def _from_unix(text: str, scale: int) -> datetime:
    if not re.fullmatch(_WHOLE + r"(\.\d+)?", text):
        raise ValueError(f"{text} is no number of seconds")
    return UNIX_EPOCH + timedelta(seconds=float(text) / scale)


def _written(text: str, read: Callable[[str], datetime]) -> str:
    try:
        return read(text).isoformat()
    except (ValueError, OverflowError):
        return text
