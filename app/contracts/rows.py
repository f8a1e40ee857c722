"""Describe the rows of one model: their columns, the role that each plays, and what is predicted.

Knows nothing of files, tables, HTTP or Ray. Everything that handles rows
(validation, requests, responses, tables, the encoder) reads this one description.
"""

from datetime import timedelta
from functools import cached_property
from typing import Self

import pyarrow as pa
from pydantic import Field, FiniteFloat, ValidationInfo, field_validator, model_validator

from app.contracts.columns import ARROW_TYPES, TIMESTAMP, Column, Frozen, Kind, Privacy, Rule
from app.contracts.expressions import Expression, ExpressionError
from app.contracts.syntax import parse
from app.contracts.targets import LABEL_TYPES, Bounds, Task, check_target
from app.contracts.windows import Arrivals, Window, check_windows, completed

__all__ = [
    "ARROW_TYPES",
    "TIMESTAMP",
    "Column",
    "Contract",
    "Frozen",
    "Kind",
    "Privacy",
    "Rule",
    "Task",
]


class Contract(Frozen):
    """The columns of one model and the role that each plays."""

    id: str = Field(description="Column that identifies a row; unique.")
    event_time: str = Field(description="Column with the time of the event, UTC.")
    lead_minutes: float = Field(
        0.0, ge=0, description="A prediction is made this long before the event."
    )
    entity: str | None = Field(None, description="Column that names who or what a row is about.")
    label: str = Field(description="Name of the label; it is not among the columns.")
    # What is not asked for is absent from the JSON: a binary model is the same bytes as ever.
    task: Task = Field(
        "binary",
        exclude_if=lambda task: task == "binary",
        description="A label is 0 or 1, a place among the classes, a number, or a relevance.",
    )
    classes: tuple[str, ...] = Field(
        (),
        exclude_if=lambda classes: not classes,
        description="Multiclass: what each label stands for, in the order of the predictions.",
    )
    group: str | None = Field(
        None,
        exclude_if=lambda group: group is None,
        description="Ranking: the column whose rows of one value stand in one list.",
    )
    label_minimum: FiniteFloat | None = Field(
        None,
        exclude_if=lambda bound: bound is None,
        description="Regression, ranking: a lower label is refused.",
    )
    label_maximum: FiniteFloat | None = Field(
        None, exclude_if=lambda bound: bound is None, description="Likewise a higher one."
    )
    slices: tuple[str, ...] = Field((), description="Category columns by which quality is watched.")
    columns: tuple[Column, ...] = Field(
        description="What a row carries. A forbidden column may be listed here and moves to "
        "`forbidden`: nothing that goes through the columns of a model can meet it."
    )
    forbidden: tuple[Column, ...] = Field((), description="Columns that must never come in.")
    rules: tuple[Rule, ...] = ()
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

    @model_validator(mode="after")
    def _set_forbidden_apart(self) -> Self:
        apart = [column for column in self.columns if column.privacy == "forbidden"]
        for column in self.forbidden:
            if column.privacy != "forbidden":
                raise ValueError(
                    f"contract.forbidden: {column.name} is {column.privacy}; "
                    "list it among the columns or make it forbidden"
                )
        # The contract is frozen for all others; it is still being made here.
        kept = tuple(column for column in self.columns if column.privacy != "forbidden")
        object.__setattr__(self, "columns", kept)
        object.__setattr__(self, "forbidden", (*self.forbidden, *apart))
        return self

    @field_validator("windows")
    @classmethod
    def _windows_are_complete(
        cls, windows: tuple[Window, ...], info: ValidationInfo
    ) -> tuple[Window, ...]:
        return completed(windows, info.data.get("entity"), info.data.get("label"))

    @model_validator(mode="after")
    def _roles_name_columns(self) -> Self:
        names = [column.name for column in (*self.columns, *self.forbidden)]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"contract.columns: {', '.join(doubled)} given more than once")
        self._require("id", self.id, "identifier")
        self._require("event_time", self.event_time, "time")
        if self.entity is not None:
            self._require("entity", self.entity, "identifier")
        for name in self.slices:
            self._require("slices", name, "category")
            if name in self.personal:
                raise ValueError(
                    f"contract.slices: {name} is personal, and records of quality would name its "
                    "values for good; slice by a public or quasi column"
                )
        if self.label in names:
            raise ValueError(f"contract.label: {self.label} must not be among the columns")
        for name in self.generated:
            if name not in (self.id, self.event_time) or self.by_name[name].feature:
                raise ValueError(
                    f"contract.columns.{name}: only the id and the event time can be generated, "
                    "and neither is then a feature; set feature: false"
                )
        kinds = {column.name: column.kind for column in self.columns}
        check_windows(self.windows, kinds, self.label, self.forbidden_names, self.task)
        return self

    @model_validator(mode="after")
    def _task_is_complete(self) -> Self:
        bounds = Bounds(self.label_minimum, self.label_maximum)
        check_target(self.task, self.classes, self.group, bounds, self.by_name)
        return self

    @model_validator(mode="after")
    def _rules_can_be_judged(self) -> Self:
        names = [rule.name for rule in self.rules]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"contract.rules: {', '.join(doubled)} given more than once")
        assert len(self.conditions) == len(self.rules)
        return self

    def _require(self, role: str, name: str, kind: Kind) -> None:
        if name in self.forbidden_names:
            raise ValueError(f"contract.{role}: {name} is forbidden; name a column that comes in")
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
    def forbidden_names(self) -> frozenset[str]:
        """Names of the columns that must never come in."""
        return frozenset(column.name for column in self.forbidden)

    @cached_property
    def conditions(self) -> dict[str, Expression]:
        """What each rule expects, read. Raises ValueError that names the rule and the place."""
        types = {column.name: column.expression_type for column in self.columns}
        read = {}
        for rule in self.rules:
            try:
                read[rule.name] = parse(rule.expect, types)
            except ExpressionError as error:
                raise ValueError(f"contract.rules.{rule.name}.expect: {error}") from None
        return read

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of accepted rows, in the order of the configuration."""
        return pa.schema(
            [pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in self.columns]
        )

    @property
    def label_type(self) -> pa.DataType:
        """The Arrow type that holds a label."""
        return LABEL_TYPES[self.task]

    @property
    def features(self) -> tuple[Column, ...]:
        """Columns that the encoder sees: those of a row, then those that are derived.

        A personal one never is: no model forgets a vocabulary.
        """
        own = (
            c
            for c in self.columns
            if c.feature and c.privacy != "personal" and c.kind in ("number", "category", "time")
        )
        return (*own, *self.derived)

    @property
    def derived(self) -> tuple[Column, ...]:
        """A nullable number for every window: computed, never part of a request or a delivery."""
        return tuple(
            Column(
                name=window.name,
                kind="number",
                nullable=True,
                unit=window.unit,
                description=window.description,
                privacy="quasi" if self._is_quoting(window) else "public",
            )
            for window in self.windows
        )

    def _is_quoting(self, window: Window) -> bool:
        """Tell whether a window of one event may give away a value that is not public."""
        quoted = self.event_time if window.aggregate == "time_since_last" else window.of
        return quoted in self.by_name and self.by_name[quoted].privacy != "public"

    @property
    def complete_schema(self) -> pa.Schema:
        """The Arrow schema of accepted rows with their derived columns."""
        derived = [pa.field(c.name, c.arrow_type) for c in self.derived]
        return pa.schema([*self.schema, *derived])

    @property
    def personal(self) -> tuple[str, ...]:
        """Columns whose values are replaced by keyed pseudonyms at first touch."""
        return tuple(c.name for c in self.columns if c.privacy == "personal")

    @cached_property
    def generated(self) -> tuple[str, ...]:
        """Columns that are made on arrival where a row comes without them."""
        return tuple(c.name for c in self.columns if c.generated)

    @property
    def unique(self) -> tuple[Column, ...]:
        """Columns no value of which comes twice; the id is the first."""
        others = (c for c in self.columns if c.unique and c.name != self.id)
        return (self.by_name[self.id], *others)

    @property
    def guarded(self) -> bool:
        """Whether rows may hold values that must be seen nowhere."""
        return bool(self.personal or self.forbidden)

    @property
    def lead(self) -> timedelta:
        """How long before the event a prediction is made."""
        return timedelta(minutes=self.lead_minutes)
