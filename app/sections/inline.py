"""A table as people keep it: outcomes inside the rows, no id, no time, spellings of its own.

Knows names and spellings; knows nothing of files, or of the code that reads them.
"""

from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator, model_validator

from app.contracts.rows import Frozen

NumberStyle = Literal["1,234.5", "1.234,5", "1 234,5", "1'234.5", "1234,5", "1234.5"]


def _text_only(value: object) -> object:
    """Refuse what YAML has turned into something else: yes is a boolean there, 1 is a number."""
    if not isinstance(value, str):
        raise ValueError(f"must be text as it stands in the file; put quotes around {value!r}")
    return value


Spelling = Annotated[str, BeforeValidator(_text_only)]


class TimeReading(Frozen):
    """How a file writes a time."""

    format: str = Field(
        "iso",
        min_length=1,
        description="iso, excel (days since 1899-12-30), unix, unix_ms, or a pattern for strptime.",
    )
    zone: str = Field("UTC", description="Zone of times that name none, e.g. Europe/Rome.")

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no time zone is called {zone}; take one such as UTC") from None
        return zone


class InlineConfig(Frozen):
    """What a file of rows lacks, and how it spells what it has.

    A column of the file is taken under its tidied name: lower case, and an underscore for every run
    of other characters. Values are compared as text, without the spaces around them.
    """

    label_column: str | None = Field(None, description="Column with the outcome, tidied.")
    positive: tuple[Spelling, ...] = Field(("1",), description="Spellings of label 1.")
    negative: tuple[Spelling, ...] = Field(("0",), description="Spellings of label 0.")
    # Absent from the JSON when empty: the outcomes of a binary model keep their digest.
    classes: dict[str, tuple[Spelling, ...]] = Field(
        default_factory=dict,
        exclude_if=lambda classes: not classes,
        description="Spellings of a class; one that is not listed stands as its name.",
    )
    known_after_hours: float = Field(
        0.0, ge=0, description="An outcome is known so long after the event time of its row."
    )
    generated_id: Literal["position", "content"] = Field(
        "position",
        description="From a row's content alone, equal rows being one row; or also from its place "
        "and the file's name.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="Columns whose tidied name will not do: file to contract."
    )
    ignore: tuple[str, ...] = Field((), description="Columns that are left in the file, tidied.")
    nulls: tuple[Spelling, ...] = Field(
        (), description="Spellings of nothing, e.g. NA, beside the empty text."
    )
    times: dict[str, TimeReading] = Field(default_factory=dict)
    numbers: dict[str, NumberStyle] = Field(
        default_factory=dict, description="Columns whose numbers have separators or a sign."
    )

    @model_validator(mode="after")
    def _outcomes_differ(self) -> Self:
        both = sorted(set(self.positive) & set(self.negative))
        if both:
            raise ValueError(f"source.inline: {', '.join(both)} is both positive and negative")
        if self.label_column is not None and not (self.positive and self.negative):
            raise ValueError("source.inline: name at least one positive and one negative value")
        spelled = [text for texts in self.classes.values() for text in texts]
        doubled = sorted({text for text in spelled if spelled.count(text) > 1})
        if doubled:
            raise ValueError(f"source.inline.classes: {', '.join(doubled)} spells two classes")
        return self
