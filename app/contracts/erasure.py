"""What an erasure leaves behind: reductions of snapshots, and a receipt that names nobody.

Every record is JSON in the ledger. A subject appears only as a keyed hash.
"""

from pydantic import AwareDatetime, Field

from app.contracts.rows import Frozen


class Reduction(Frozen):
    """One snapshot before and after an erasure took rows from it."""

    receipt: str
    snapshot: str = Field(description="Digest of the rows that were pinned; names the snapshot.")
    before: str = Field(description="Digest of the rows that were there before this erasure.")
    after: str = Field(description="Digest of the rows that are left.")
    num_rows_before: int = Field(ge=0)
    num_rows_after: int = Field(ge=0)
    pending: bool = Field(False, description="The erasure is under way: either digest may be.")


class ErasureReceipt(Frozen):
    """That somebody was forgotten, without who it was."""

    id: str
    model: str
    began_at: AwareDatetime
    finished_at: AwareDatetime
    subjects: tuple[str, ...] = Field(description="Keyed hashes; without the key they say nothing.")
    counts: dict[str, int] = Field(description="Rows, or files, found of them by store.")
    snapshots: tuple[Reduction, ...] = ()
    altered: tuple[str, ...] = Field(
        (), description="Snapshots that were not what was pinned before the erasure began."
    )
    models: tuple[str, ...] = Field(
        (),
        description="Digests of the versions that had learned from erased rows, or from a snapshot "
        "that cannot be checked any more.",
    )
    verified: bool = Field(description="A search of every file found nothing of them.")
    remains: tuple[str, ...] = Field((), description="Where something of them was found still.")

    @property
    def num_found(self) -> int:
        """Everything that was found of them."""
        return sum(self.counts.values())
