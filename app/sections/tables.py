"""How tables are kept small without losing what somebody needs.

Knows names, bounds and units; knows nothing of files, or of the parts that read them.
"""

from pydantic import Field

from app.contracts.rows import Frozen


class TablesConfig(Frozen):
    """When small files are merged, and how long older versions of a table can be read."""

    small_file_mb: float = Field(32.0, gt=0, description="Data files under this size are small.")
    max_small_files: int = Field(
        50, ge=1, description="A table with more small files than these is compacted."
    )
    keep_days: float = Field(
        30.0,
        ge=0,
        description="Every version of so many days stays readable, and what live models pin.",
    )

    @property
    def small_bytes(self) -> int:
        """The size under which a data file is small."""
        return int(self.small_file_mb * 2**20)
