"""How many replicas answer, as load comes and goes.

Knows names, bounds and units; knows nothing of Ray.
"""

from typing import Self

from pydantic import Field, model_validator

from app.contracts.rows import Frozen


class ScalingConfig(Frozen):
    """From so many replicas to so many, by requests under way and by how long answers take."""

    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(4, ge=1)
    ongoing_per_replica: float = Field(
        8.0, gt=0, description="As many replicas as give each so many requests under way."
    )
    latency_objective_ms: float | None = Field(
        None,
        gt=0,
        description="More replicas while a twentieth of answers take longer, as a replica sees it.",
    )
    upscale_seconds: float = Field(
        3.0, ge=0, description="So long it must be too few before one is added."
    )
    downscale_seconds: float = Field(
        60.0, ge=0, description="So long it must be too many before one is taken away."
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"serving.scaling: min_replicas {self.min_replicas} is above max_replicas "
                f"{self.max_replicas}; change one of them"
            )
        return self
