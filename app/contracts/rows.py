"""Describe the columns of one model: names, types, limits, privacy.

Knows Arrow types and nothing of files, tables, HTTP or Ray. Everything that handles rows
(validation, requests, responses, tables, the encoder) reads this one description.
"""

from datetime import timedelta
from functools import cached_property
from typing import Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from app.contracts.windows import Arrivals, Window, check_windows, completed

Kind = Literal["number", "category", "time", "identifier"]
Privacy = Literal["public", "quasi", "personal"]

TIMESTAMP = pa.timestamp("us", tz="UTC")
ARROW_TYPES: dict[str, pa.DataType] = {
    "number": pa.float64(),
    "category": pa.string(),
    "identifier": pa.string(),
    "time": TIMESTAMP,
}


class Frozen(BaseModel):
    """A value object: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(Frozen):
    """One column of a model's rows."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    kind: Kind
    description: str = ""
    unit: str = ""
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = Field(
        None, description="A closed set; absent means that any string is accepted."
    )
    privacy: Privacy = "public"
    feature: bool = Field(True, description="False keeps the column out of the encoder.")

    @model_validator(mode="after")
    def _limits_fit_the_kind(self) -> Self:
        if self.kind != "number" and (self.minimum is not None or self.maximum is not None):
            raise ValueError(
                f"column {self.name}: minimum and maximum are for numbers, not {self.kind}"
            )
        if self.kind != "category" and self.categories is not None:
            raise ValueError(
                f"column {self.name}: categories are for category columns, not {self.kind}"
            )
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(
                f"column {self.name}: minimum {self.minimum} is over maximum {self.maximum}"
            )
        if self.privacy == "personal" and self.kind not in ("identifier", "category"):
            raise ValueError(
                f"column {self.name}: a personal column must be an identifier or category"
            )
        return self

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type that holds this column."""
        return ARROW_TYPES[self.kind]


class Contract(Frozen):
    """The columns of one model and the role that each plays."""

    id: str = Field(description="Column that identifies a row; unique.")
    event_time: str = Field(description="Column with the time of the event, UTC.")
    lead_minutes: float = Field(
        0.0, ge=0, description="A prediction is made this long before the event."
    )
    entity: str | None = Field(None, description="Column that names who or what a row is about.")
    label: str = Field(description="Name of the binary label; it is not among the columns.")
    slices: tuple[str, ...] = Field((), description="Category columns by which quality is watched.")
    columns: tuple[Column, ...]
    # Absent from the JSON when empty: a model without windows is the same bytes as ever.
    windows: tuple[Window, ...] = Field(
        (),
        exclude_if=lambda windows: not windows,
        description="Features that are looked up, not sent: aggregates over past events.",
    )
    arrivals: Arrivals = Field(
        Arrivals(),
        exclude_if=lambda arrivals: arrivals == Arrivals(),
        description="When a past event or outcome counts as known.",
    )

    @field_validator("windows")
    @classmethod
    def _windows_are_complete(
        cls, windows: tuple[Window, ...], info: ValidationInfo
    ) -> tuple[Window, ...]:
        return completed(windows, info.data.get("entity"), info.data.get("label"))

    @model_validator(mode="after")
    def _roles_name_columns(self) -> Self:
        names = [column.name for column in self.columns]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"contract.columns: {', '.join(doubled)} given more than once")
        self._require("id", self.id, "identifier")
        self._require("event_time", self.event_time, "time")
        if self.entity is not None:
            self._require("entity", self.entity, "identifier")
        for name in self.slices:
            self._require("slices", name, "category")
        if self.label in names:
            raise ValueError(f"contract.label: {self.label} must not be among the columns")
        check_windows(self.windows, {c.name: c.kind for c in self.columns}, self.label)
        return self

    def _require(self, role: str, name: str, kind: Kind) -> None:
        found = next((column for column in self.columns if column.name == name), None)
        if found is None:
            raise ValueError(f"contract.{role}: no column is named {name}")
        if found.kind != kind:
            raise ValueError(f"contract.{role}: {name} must be of kind {kind}, got {found.kind}")

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """Columns by name."""
        return {column.name: column for column in self.columns}

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of accepted rows, in the order of the configuration."""
        return pa.schema(
            [pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in self.columns]
        )

    @property
    def features(self) -> tuple[Column, ...]:
        """Columns that the encoder sees: those of a row, then those that are derived."""
        own = (c for c in self.columns if c.feature and c.kind in ("number", "category", "time"))
        return (*own, *self.derived)

    @property
    def derived(self) -> tuple[Column, ...]:
        """A nullable number for every window: computed, never part of a request or a delivery."""
        return tuple(
            Column(
                name=w.name, kind="number", nullable=True, unit=w.unit, description=w.description
            )
            for w in self.windows
        )

    @property
    def complete_schema(self) -> pa.Schema:
        """The Arrow schema of accepted rows with their derived columns."""
        derived = [pa.field(c.name, c.arrow_type) for c in self.derived]
        return pa.schema([*self.schema, *derived])

    @property
    def personal(self) -> tuple[str, ...]:
        """Columns whose values are replaced by keyed pseudonyms at first touch."""
        return tuple(c.name for c in self.columns if c.privacy == "personal")

    @property
    def lead(self) -> timedelta:
        """How long before the event a prediction is made."""
        return timedelta(minutes=self.lead_minutes)
