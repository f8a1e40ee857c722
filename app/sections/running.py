"""Where things run: the replay of recorded rows, and the cluster that a job starts.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from app.contracts.rows import Frozen
from app.contracts.times import midnight

# How work that nobody waits for shares the cores with replicas.
Background = Literal["equal", "nice", "idle"]


class ReplayConfig(Frozen):
    """The demonstration: recorded rows replayed as production on a driven clock."""

    history_until: date = Field(
        date(2013, 4, 1), description="Rows before are history, known at the start."
    )
    until: date = date(2013, 8, 1)
    rows_per_request: int = Field(250, ge=1)
    seed: int = 11

    @property
    def start(self) -> datetime:
        """The first prediction time of production."""
        return midnight(self.history_until)

    @property
    def end(self) -> datetime:
        """The first prediction time after production."""
        return midnight(self.until)


class ClusterConfig(Frozen):
    """The Ray cluster that a job starts when RAY_ADDRESS names none."""

    num_cpus: int = Field(4, ge=1, description="Logical CPUs; two real cores host four.")
    object_store_mb: int = Field(300, ge=80)
    dashboard: bool = True
    ingress: Literal["auto", "haproxy", "proxy"] = Field(
        "auto",
        description="haproxy: replicas answer HTTP themselves, HAProxy before them. proxy: Serve's "
        "own, twenty times the work a request. auto: haproxy where its binary is found.",
    )
    background: Background = Field(
        "nice",
        description="How training, search, ingest and scoring share cores with replicas. nice: a "
        "seventieth of a core that both want. idle: what is left over, on a full machine nothing. "
        "equal: half.",
    )
