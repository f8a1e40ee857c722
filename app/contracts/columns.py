"""Describe one column of a model's rows, and a rule between columns.

Knows Arrow types and nothing of the roles that columns play: those are the contract's.
"""

from typing import Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.contracts.expressions import Type
from app.contracts.syntax import MAX_CHARACTERS

Kind = Literal["number", "category", "time", "identifier"]
# A public value may be shown; a quasi one may help to find a person; of a personal one only a
# keyed pseudonym is kept; a forbidden one is dropped at first touch.
Privacy = Literal["public", "quasi", "personal", "forbidden"]

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
    unique: bool = Field(
        False, description="No value comes twice, in one ingest or in two; nulls may."
    )
    privacy: Privacy = "public"
    feature: bool = Field(True, description="False keeps the column out of the encoder.")
    generated: bool = Field(
        False,
        description="Made on arrival where a file or a request has none: an id, or the time.",
    )

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

    @property
    def expression_type(self) -> Type:
        """What an expression takes this column for; of a personal one it sees the pseudonym."""
        if self.privacy == "personal":
            return "pseudonym"
        return self.kind if self.kind in ("number", "time") else "text"


class Rule(Frozen):
    """What must hold between the columns of a row. It is broken where it is definitely false."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    expect: str = Field(
        min_length=1,
        max_length=MAX_CHARACTERS,
        description="A condition over columns, e.g. pickup < delivery; a null leaves it open.",
    )
    description: str = ""
