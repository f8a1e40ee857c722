"""What a replica says of itself.

Knows shapes; knows nothing of how the figures come about.
"""

from typing import Any

from pydantic import Field

from app.serving.messages import Strict


class Shadowed(Strict):
    """How the shadow of a replica fares. Counts are of rows, since it began here."""

    version: str
    scored: int = Field(ge=0)
    dropped: int = Field(ge=0, description="For want of room: it may be too slow, or hang.")
    failed: int = Field(ge=0, description="It had no usable answer, or that could not be kept.")
    waiting: int = Field(ge=0)


class Metadata(Strict):
    """What this replica serves, and with what."""

    model: str
    generation: int
    champion: str | None
    previous: str | None
    challenger: str | None
    resident: list[str]
    problems: dict[str, str] = Field(
        description="Versions that cannot be loaded or failed, with why."
    )
    shadow: Shadowed | None = Field(None, description="Absent without a shadow.")
    captured: dict[str, int] = Field(description="Rows kept by this replica, by table.")
    shipped: dict[str, int] = Field(description="Of those, rows in the tables.")
    lost: dict[str, int] = Field(description="Rows answered here that could not be kept, by table.")
    waiting_bytes: int = Field(ge=0, description="In the spool, not in the tables.")
    roles_age_seconds: float = Field(
        ge=0, description="Since the roles were read: it grows while the ledger is away."
    )
    label: str
    columns: list[dict[str, Any]]
