"""The HTTP endpoint.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from typing import Literal

from pydantic import Field

from app.contracts.access import Limits
from app.contracts.rows import Frozen
from app.sections.capture import CaptureConfig
from app.sections.guarding import GuardConfig
from app.sections.scaling import ScalingConfig
from app.sections.security import TokensConfig


class ServingConfig(Frozen):
    """The HTTP endpoint."""

    authentication: Literal["keys", "none"] = Field(
        "keys", description="keys: nothing but health is answered without a key of jobs.keys."
    )
    tokens: TokensConfig | None = Field(
        None, description="Signed tokens that are taken beside keys; none where absent."
    )
    limits: Limits = Field(
        Limits(), description="Of each key and each token's subject; a key may have its own."
    )
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    num_replicas: int = Field(1, ge=1)
    scaling: ScalingConfig | None = Field(
        None, description="As many replicas as the load needs, in place of num_replicas."
    )
    cpus_per_replica: float = Field(0.2, gt=0)
    max_rows_per_request: int = Field(5000, ge=1)
    max_body_mb: float = Field(16.0, gt=0)
    max_bodies_mb: float = Field(
        256.0,
        gt=0,
        description="So much of bodies that come in pieces is held at a time; more gets 503.",
    )
    body_seconds: float = Field(
        20.0, gt=0, description="A body that is not here after so long is refused with 408."
    )
    max_ongoing_requests: int = Field(
        64,
        ge=1,
        description="So many that are here wait or are worked on; one more gets 503, Retry-After.",
    )
    max_wait_ms: float | None = Field(
        None,
        gt=0,
        description="A prediction whose turn would come later than this, as fast as the last were "
        "answered, gets 503 and Retry-After at once. Twice what an answer costs keeps replicas "
        "busy. Absent: by number alone.",
    )
    explain_max_rows: int = Field(
        16, ge=1, le=1000, description="Explaining a row costs hundreds of predictions."
    )
    explain_max_ongoing: int = Field(
        2, ge=1, description="One is worked on at a time, beside predictions; others wait."
    )
    roles_poll_seconds: float = Field(0.2, gt=0)
    window_reach_days: float = Field(
        7.0,
        ge=1,
        description="Rows asked longer ago than this get no window values online: nulls.",
    )
    ship_seconds: float = Field(
        1.0,
        gt=0,
        description="A spool segment is shipped after at most this. Each time costs some 30 ms.",
    )
    round_probability_digits: int | None = Field(
        None,
        ge=1,
        le=15,
        description="Digits of the probabilities in answers, all where absent: the fewer, the more "
        "questions it takes to copy the model. What is logged is never rounded.",
    )
    shadow_max_rows: int = Field(
        10_000,
        ge=1,
        description="So many answered rows wait for a shadow version; what comes then is dropped.",
    )
    guard: GuardConfig = GuardConfig()
    capture: CaptureConfig = CaptureConfig()
