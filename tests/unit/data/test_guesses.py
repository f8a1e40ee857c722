"""What is guessed of single columns: kinds, people, outcomes that were known before."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.contracts.rows import Kind
from app.data import leakage
from app.data.kinds import guess_spelling, null_spellings
from app.data.sensitive import guess_privacy
from app.data.survey import sniff_delimiter

CHANCE = np.random.default_rng(5)
LABELS = CHANCE.integers(0, 2, 500)


@pytest.mark.parametrize(
    ("name", "values", "kind", "format_or_style"),
    [
        ("price", ["1", "2.5", "-3e4"], "number", None),
        ("price", ["1,234.50", "12.00", "7"], "number", "1,234.5"),
        ("price", ["1.234,50", "12,00"], "number", "1.234,5"),
        ("price", ["$3.50", "$12"], "number", "1,234.5"),
        ("share", ["45%", "3.5%"], "number", "1,234.5"),
        ("zip", ["00184", "20121"], "identifier", None),
        ("house", ["00184", "20121"], "identifier", None),
        ("customer_id", ["184", "20121"], "identifier", None),
        ("when", ["2024-01-31", "2024-02-01"], "time", "iso"),
        ("x", ["2024-01-31T10:00:00Z"], "time", None),
        ("when", ["31/01/2024", "01/02/2024"], "time", "%d/%m/%Y"),
        ("when", ["01/31/2024 10:00 PM"], "time", "%m/%d/%Y %I:%M %p"),
        ("when", ["31-Jan-24", "01-Feb-24"], "time", "%d-%b-%y"),
        ("created", ["45292", "45293.5"], "time", "excel"),
        ("ts", ["1704067200", "1704067300"], "time", "unix"),
        ("created_at", ["1704067200000"], "time", "unix_ms"),
        ("order_date", ["20240131", "20240201"], "time", "%Y%m%d"),
        ("amount", ["45292", "45293.5"], "number", None),
        ("year", ["2020", "2021"], "number", None),
        ("note", ["good", "bad"], "category", None),
        ("odd", ["1", "2", "three"], "category", None),
    ],
)
def test_texts_are_read_as_what_they_are(
    name: str, values: list[str], kind: Kind, format_or_style: str | None
) -> None:
    found = guess_spelling(pa.chunked_array([pa.array(values)]), name, ())
    assert found.kind == kind
    spelled = found.time.format if found.time else found.number
    assert spelled == format_or_style
    assert found.why


def test_days_and_months_that_cannot_be_told_apart_are_said_so() -> None:
    found = guess_spelling(pa.chunked_array([["01/02/2024", "03/04/2024"]]), "d", ())
    assert "%m/%d/%Y would fit as well" in found.why


def test_one_bad_cell_of_many_does_not_make_numbers_texts() -> None:
    values = pa.chunked_array([[*map(str, range(200)), "oops"]])
    assert guess_spelling(values, "x", ()).kind == "number"


def test_texts_for_nothing_are_found_where_they_mean_it() -> None:
    sample = pa.table({"x": ["1", "-", "NA"], "answer": ["yes", ".", "no"]})
    assert null_spellings(sample) == ("-", "NA")
    assert null_spellings(pa.table({"answer": ["yes", "-", "no"]})) == ()


@pytest.mark.parametrize(
    ("name", "values", "privacy"),
    [
        ("contact", ["a@b.org", "c@d.com"], "personal"),
        ("contact", ["+39 06 1234567", "+44 20 7946 0958"], "personal"),
        ("c", ["192.168.0.1", "10.0.0.7"], "personal"),
        ("c", ["2001:db8::1"], "personal"),
        ("c", ["4111 1111 1111 1111", "5500005555555559"], "personal"),
        ("c", ["4111 1111 1111 1112"], "public"),
        ("c", ["GB82 WEST 1234 5698 7654 32"], "personal"),
        ("c", ["GB82 WEST 1234 5698 7654 33"], "public"),
        ("c", ["078-05-1120"], "personal"),
        ("dob", ["1980-01-01"], "personal"),
        ("date_of_birth", ["x"], "personal"),
        ("last_name", ["x"], "personal"),
        ("name", ["Allen, Miss Elisabeth", "Braund, Mr. Owen"], "personal"),
        ("name", ["chevrolet chevelle malibu", "buick skylark 320"], "public"),
        ("home_address", ["x"], "personal"),
        ("birth_year", ["1980"], "quasi"),
        ("gender", ["f"], "quasi"),
        ("postcode", ["SW1A"], "quasi"),
        ("amount", ["12.50"], "public"),
        ("message", ["hello"], "public"),
    ],
)
def test_columns_about_people_are_found(name: str, values: list[str], privacy: str) -> None:
    assert guess_privacy(name, values)[0] == privacy


def suspicion(kind: Kind, values: Any, name: str = "x") -> leakage.Suspicion | None:
    return leakage.suspect(name, kind, pa.array(values), LABELS, "churned")


def test_a_copy_of_the_label_in_other_words_is_a_suspect() -> None:
    found = suspicion("category", np.where(LABELS == 1, "gone", "here"))
    assert found
    assert found.leaves_out
    assert "label in other words" in found.why


def test_a_column_that_ranks_outcomes_alone_is_a_suspect_and_a_strong_one_is_named() -> None:
    perfect = suspicion("number", LABELS + CHANCE.uniform(0, 0.9, 500))
    strong = suspicion("number", LABELS + CHANCE.normal(0, 0.4, 500))
    fair = suspicion("number", LABELS + CHANCE.normal(0, 1.5, 500))
    assert perfect
    assert perfect.leaves_out
    assert strong
    assert not strong.leaves_out
    assert fair is None


def test_what_is_filled_only_after_one_outcome_is_a_suspect() -> None:
    found = suspicion("category", [f"r{i % 9}" if y else None for i, y in enumerate(LABELS)])
    assert found
    assert "filled only where the outcome is 1" in found.why
    half = suspicion("category", [f"r{i % 9}" if i % 2 else None for i in range(500)])
    assert half is None


def test_a_name_that_speaks_of_the_label_is_a_suspect_and_a_general_word_is_not() -> None:
    noise = CHANCE.normal(size=500)
    assert suspicion("number", noise, "churned_amount")
    assert leakage.suspect("y_axis", "number", pa.array(noise), LABELS, "y") is None


def test_many_rare_values_know_nothing_by_heart() -> None:
    values = [f"v{i % 200}" for i in range(500)]
    assert suspicion("category", values) is None
    assert 0.35 < leakage.category_auc(pa.array(values), LABELS) < 0.65


def test_times_after_the_event_are_found() -> None:
    events = pa.array([1_000_000] * 100, pa.timestamp("us", tz="UTC"))
    later = pa.array([2_000_000] * 40 + [500_000] * 60, pa.timestamp("us", tz="UTC"))
    assert "40% of its times lie after" in leakage.suspect_later(later, events)
    assert leakage.suspect_later(events, events) == ""


def test_an_order_by_the_label_is_found_and_chance_is_not() -> None:
    places = np.arange(500, dtype=float)
    assert leakage.order_auc(places, np.sort(LABELS)) == 1.0
    assert leakage.order_auc(places, LABELS) is None


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_what_stands_between_cells_is_found(tmp_path: Any, delimiter: str) -> None:
    file = tmp_path / "t.csv"
    lines = [["a", "b", "c"], ["1,5", "x", "2"], ['"q;,|\tq"', "y", "3"]]
    if delimiter == ",":
        lines[1][0] = "1.5"
    file.write_text("\n".join(delimiter.join(line) for line in lines) + "\n")
    assert sniff_delimiter(file) == delimiter
