"""Describe requests for explanations and their answers, as models and as JSON schemas.

Knows the contract and JSON; knows nothing of how an explanation comes about.
"""

from typing import Any

from pydantic import Field

from app.contracts.rows import Contract
from app.serving.messages import Name, Rejected, Strict, row_schema

METHOD = (
    "Shapley values of the columns against one reference row, by Captum's ShapleyValueSampling "
    "over the calibrated prediction: what the value changes by when a column turns from the "
    "reference's to the row's, in the mean over orders of the columns. All orders where five or "
    "fewer columns differ, else orders drawn from a fixed seed, each with its reverse."
)
REFERENCE = (
    "The middle of the rows of training, column by column: the median of a number, the most "
    "frequent category, no time, and no value where most rows had none."
)


class ExplainRequest(Strict):
    """Rows to explain."""

    rows: list[Any] = Field(min_length=1, description="Rows of the model's contract.")
    request_id: Name | None = Field(None, description="Comes back in the answer.")
    version: Name | None = Field(
        None, description="Digest of a resident version to explain by. Default: the champion."
    )


class Shown(Strict):
    """What stands in a column, where it may be seen."""

    column: str
    shown: bool = Field(description="False: the column is not public, and value is left out.")
    value: float | str | None = None


class Attribution(Shown):
    """What a column adds to the value of the reference."""

    attribution: float
    standard_error: float = Field(
        ge=0, description="How far off the share may be for drawing orders; 0 where all were taken."
    )


class Explained(Strict):
    """One accepted row: reference value + sum of attributions = value, but for the residual."""

    row_id: str
    probability: float = Field(ge=0, le=1, description="What a prediction of this row alone says.")
    value: float = Field(description="The same on the scale of the attributions.")
    attributions: list[Attribution] = Field(description="Largest first.")
    residual: float = Field(description="Value - reference value - sum of attributions.")
    tolerance: float = Field(ge=0, description="The residual is no larger than this.")
    exact: bool = Field(description="Whether all orders of the columns were taken.")
    orders: int = Field(ge=0, description="How many orders were.")


class ReferenceRow(Strict):
    """What rows are explained against; it need be no row that ever was."""

    description: str
    probability: float = Field(ge=0, le=1)
    value: float
    columns: list[Shown]


class ExplainResponse(Strict):
    """Explanations of the accepted rows. None is a prediction: nothing of them is logged."""

    model: str
    version: str = Field(description="Digest of the model version that is explained.")
    generation: int
    request_id: str
    scale: str = Field(description="What values and attributions are in.")
    method: str
    reference: ReferenceRow
    explanations: list[Explained]
    rejected: list[Rejected]


def explain_schema(contract: Contract, most_rows: int) -> dict[str, Any]:
    """Describe a request for explanations, with this model's columns, as a JSON schema."""
    schema = ExplainRequest.model_json_schema()
    schema["properties"]["rows"] |= {"items": row_schema(contract), "maxItems": most_rows}
    return schema
