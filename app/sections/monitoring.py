"""How logs become evidence.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from pydantic import Field

from app.contracts.maturity import MaturityMode
from app.contracts.rows import Frozen


class MonitoringConfig(Frozen):
    """How logs become evidence."""

    window_days: int = Field(28, ge=1, description="Evidence looks back so far.")
    every_days: int = Field(7, ge=1, description="Evidence is made so often.")
    maturity_days: int = Field(
        2, ge=0, description="Predictions younger than this are left to mature."
    )
    maturity: MaturityMode = Field(
        "fixed",
        description="fixed: maturity_days; learned: the age by which maturity_coverage of outcomes "
        "come, from the delays seen so far, or maturity_days while they say too little.",
    )
    maturity_coverage: float = Field(
        0.95, gt=0, lt=1, description="Share of outcomes that a mature cohort has."
    )
    min_labels: int = Field(
        500, ge=1, description="Fewer known labels give no performance figures."
    )
    num_bootstraps: int = Field(200, ge=20)
    poll_seconds: float = Field(0.3, gt=0)
    grace_minutes: float = Field(5.0, ge=0, description="A window is judged so long after its end.")
    metrics_host: str = Field("127.0.0.1", description="Address that answers a scrape.")
    metrics_port: int = Field(0, ge=0, le=65535, description="0 picks a free port.")
    report_rows: int = Field(5000, ge=100, description="Rows on each side of an Evidently report.")
