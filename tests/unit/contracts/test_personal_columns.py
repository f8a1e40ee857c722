import pytest
from pydantic import ValidationError

from app.contracts.rows import Column, Contract

COLUMNS = (
    Column(name="order", kind="identifier"),
    Column(name="due", kind="time"),
    Column(name="city", kind="category", privacy="quasi"),
    Column(name="name", kind="category", privacy="personal"),
)


def contract(*slices: str) -> Contract:
    return Contract(id="order", event_time="due", label="late", columns=COLUMNS, slices=slices)


def test_a_personal_column_is_no_feature_since_a_vocabulary_cannot_forget() -> None:
    assert [column.name for column in contract().features] == ["due", "city"]


def test_quality_is_not_watched_by_a_personal_column() -> None:
    assert contract("city").slices == ("city",)
    with pytest.raises(ValidationError, match="slice by a public or quasi column"):
        contract("name")
