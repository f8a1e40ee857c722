"""Name an online store by all that decides what it holds: another definition has another file.

Knows contracts and names; knows nothing of what lies in a file.
"""

import hashlib
import json
from pathlib import Path

from app.contracts.rows import Contract
from app.data.facts import fact_schema

FORMAT = 1


def store_path(folder: Path, contract: Contract, *, sealed: bool) -> Path:
    """Name the file of a contract's windows; sealed and plain ones are two."""
    return folder / f"{definition_of(contract, sealed=sealed)}.sqlite"


def definition_of(contract: Contract, *, sealed: bool) -> str:
    """Digest all that decides what a store holds, and how: another definition has another file."""
    windows = [window.model_dump(mode="json") for window in contract.windows]
    rules = contract.arrivals.model_dump(mode="json")
    columns = [(field.name, str(field.type)) for field in fact_schema(contract)]
    how = ["sealed"] if sealed else []
    if contract.task != "binary":
        how.append(contract.task)
    content = json.dumps([FORMAT, windows, rules, columns, *how], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
