"""Say which snapshots live models learned from: what tables must be able to give back.

Knows versions and roles; knows nothing of tables.
"""

from datetime import datetime

from app.contracts.records import DatasetVersion
from app.ledger.database import Ledger
from app.registry.store import list_versions, read_roles


def live_snapshots(ledger: Ledger, model: str, since: datetime) -> list[DatasetVersion]:
    """List the snapshots of the versions that play a role, or were made at `since` or later.

    A version that is new may still be gated: its snapshot is scored again by the gate.
    """
    roles = read_roles(ledger, model)
    playing = {roles.champion, roles.previous, roles.challenger, roles.shadow}
    return [
        version.dataset
        for version in list_versions(ledger, model)
        if version.digest in playing or version.created_at >= since
    ]
