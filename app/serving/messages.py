"""Describe what goes over HTTP: requests, answers and errors, as models and as JSON schemas.

Knows the contract and JSON; knows nothing of how an answer comes about. Rows are described by a
schema made from the contract and checked column by column elsewhere: a model object a row would
cost more than the model.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from app.contracts.rows import Column, Contract

# What every answer of a status says beside its body.
HEADERS = {
    401: {"WWW-Authenticate": 'Bearer realm="mainspring"'},
    # What is still on its way is not waited for.
    408: {"Connection": "close"},
    503: {"Retry-After": "1"},
}
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Strict(BaseModel):
    """A message: no coercion, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PredictRequest(Strict):
    """Rows to score."""

    rows: list[Any] = Field(min_length=1, description="Rows of the model's contract.")
    request_id: Name | None = Field(None, description="Comes back in the answer.")
    # The first bad key ends it: a body may hold millions of them.
    idempotency_keys: Annotated[list[Name], Field(fail_fast=True)] | None = Field(
        None,
        description="One a row; a repeated key is answered again, counted once. Default: row id.",
    )

    @model_validator(mode="after")
    def _one_key_a_row(self) -> Self:
        keys = self.idempotency_keys
        if keys is not None and len(keys) != len(self.rows):
            raise ValueError(
                f"expected one key a row, got {len(keys)} keys for {len(self.rows)} rows"
            )
        if keys is not None and len(set(keys)) != len(keys):
            raise ValueError("keys of one request must differ from each other")
        return self


class Flag(Strict):
    """What is odd about a value, as far as the model can tell."""

    column: str
    why: str


class Prediction(Strict):
    """The answer for one accepted row."""

    row_id: str
    prediction_id: str
    probability: float = Field(ge=0, le=1)
    flags: list[Flag] | None = Field(None, description="Absent where nothing was found.")
    version: str | None = Field(
        None, description="Who answered this row, where it is not the version of the whole answer."
    )


class Rejected(Strict):
    """A row that was not accepted: its place in the request and every reason."""

    row: int = Field(ge=0)
    reasons: list[str]


class PredictResponse(Strict):
    """Probabilities, what made them, and the rows that were not accepted."""

    model: str
    version: str = Field(
        description="Digest of the model version that answered, where a prediction names no other."
    )
    generation: int
    request_id: str
    predictions: list[Prediction]
    rejected: list[Rejected]
    kept: bool = Field(
        True, description="Absent where they are logged; false where they could not be."
    )


def _read_time(value: object) -> object:
    """Take ISO 8601 text only: pydantic would take 86400 and "86400" for times too."""
    if type(value) is not str:
        raise ValueError("must be an ISO 8601 time with a zone, e.g. 2013-04-01T10:15:00Z")
    return datetime.fromisoformat(value)


class Label(Strict):
    """One outcome as known at a time; a later one for the same row replaces it."""

    row_id: Name
    label: Annotated[int, Field(ge=0, le=1)] | None = None
    void: bool = Field(False, description="There will be no outcome.")
    known_at: Annotated[AwareDatetime, BeforeValidator(_read_time)] | None = Field(
        None, description="Default: now."
    )

    @model_validator(mode="after")
    def _outcome_or_void(self) -> Self:
        if self.void and self.label is not None:
            raise ValueError(
                f"void says that there is no outcome, got label {self.label}; drop one of them"
            )
        if not self.void and self.label is None:
            raise ValueError("label is needed: 0 or 1, or void true where there will be no outcome")
        return self


class LabelsRequest(Strict):
    """Outcomes to log."""

    labels: list[Any] = Field(min_length=1)


class LabelsResponse(Strict):
    """How many outcomes were logged, and which were not."""

    model: str
    accepted: int = Field(ge=0)
    rejected: list[Rejected]


class Problem(Strict):
    """What went wrong: where, what was got, what to change."""

    where: str
    got: str
    change: str


class ErrorResponse(Strict):
    """Every answer that is no success has this shape."""

    error: Problem
    rejected: list[Rejected] | None = None


class Health(Strict):
    """The process lives."""

    status: Literal["alive"] = "alive"


class Readiness(Strict):
    """A champion is resident."""

    status: Literal["ready"] = "ready"
    model: str
    version: str
    generation: int


class Refused(Exception):
    """A request that gets an error for an answer."""

    def __init__(
        self,
        status: int,
        where: str,
        got: str,
        change: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Say what the client should read, and in which headers beside those of the status."""
        super().__init__(f"{where}: {got}; {change}")
        self.status = status
        self.headers = {**HEADERS.get(status, {}), **(headers or {})}
        self.problem = Problem(where=where, got=got, change=change)
        self.rejected: list[Rejected] | None = None

    def because(self, rejected: list[Rejected]) -> Self:
        """Add the rows that were not accepted."""
        self.rejected = rejected
        return self

    @property
    def body(self) -> ErrorResponse:
        """The answer."""
        return ErrorResponse(error=self.problem, rejected=self.rejected)


def explain(error: ValidationError) -> str:
    """Say every problem of a message as `place: problem`, without values: they may be personal.

    >>> try:
    ...     LabelsRequest.model_validate({"label": []})
    ... except ValidationError as error:
    ...     explain(error)
    'labels: Field required; label: Extra inputs are not permitted'
    """
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in item["loc"])
        message = str(item["ctx"]["error"]) if item["type"] == "value_error" else item["msg"]
        lines.append(f"{place}: {message}" if place else message)
    return "; ".join(lines)


def row_schema(contract: Contract) -> dict[str, Any]:
    """Describe a row of the contract as a JSON schema."""
    properties = {column.name: column_schema(column) for column in contract.columns}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [c.name for c in contract.columns if not c.nullable and not c.generated],
        "properties": properties,
    }


def request_schema(contract: Contract, most_rows: int) -> dict[str, Any]:
    """Describe a request for predictions, with this model's columns, as a JSON schema."""
    schema = PredictRequest.model_json_schema()
    schema["properties"]["rows"] |= {"items": row_schema(contract), "maxItems": most_rows}
    schema["properties"]["idempotency_keys"]["anyOf"][0]["uniqueItems"] = True
    return schema


def labels_schema(most_labels: int) -> dict[str, Any]:
    """Describe a request with outcomes as a JSON schema."""
    schema = LabelsRequest.model_json_schema()
    schema["properties"]["labels"]["maxItems"] = most_labels
    outcome = {"label": {"enum": [0, 1]}, "void": {"const": False}}
    nothing = {"label": {"type": "null"}, "void": {"const": True}}
    schema["properties"]["labels"]["items"] = Label.model_json_schema() | {
        "anyOf": [
            {"required": ["label"], "properties": outcome},
            {"required": ["void"], "properties": nothing},
        ]
    }
    return schema


def column_schema(column: Column) -> dict[str, Any]:
    """Describe a value of a column as a JSON schema."""
    kind: dict[str, Any] = {"type": "number" if column.kind == "number" else "string"}
    if column.kind == "time":
        kind["format"] = "date-time"
    if column.kind == "identifier":
        kind["minLength"] = 1
    limits = {"minimum": column.minimum, "maximum": column.maximum}
    kind |= {name: limit for name, limit in limits.items() if limit is not None}
    if column.categories is not None:
        kind["enum"] = [*column.categories, *([None] if column.nullable else [])]
    if column.nullable:
        kind["type"] = [kind["type"], "null"]
    made = "made on arrival where it is absent" if column.generated else ""
    unit = f"[{column.unit}]" if column.unit else ""
    text = " ".join(filter(None, [made, column.description, unit]))
    return kind | ({"description": text} if text else {})
