"""Look for what should be gone: in every store, in every snapshot, in the bytes of every file.

Knows the workspace; knows nothing of how anything is forgotten. Says where something is left, never
whose it is.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from app.config import Config
from app.contracts.erasure import Reduction
from app.data.snapshots import SnapshotAltered, open_snapshot
from app.data.tables import Tables
from app.governance.learned import known_snapshots
from app.governance.needles import Needles
from app.governance.stores import Store
from app.ledger.database import Ledger
from app.ledger.erasures import read_reductions

Progress = Callable[[str, int, int], None]
# Keys are random bytes, and the only files that no row ever goes to.
UNSEARCHED = ("keys",)


def left_over(
    config: Config,
    ledger: Ledger,
    tables: Tables,
    stores: Sequence[Store],
    needles: Needles,
    progress: Progress,
) -> list[str]:
    """Name every place where something is left; each stands once."""
    found: list[str] = []
    for number, store in enumerate(stores):
        progress(f"look into {store.name}", number, len(stores))
        found += store.remains(needles)
    found += raw_hits(config.workspace, needles, progress)
    found += unexplained(config, ledger, tables)
    return list(dict.fromkeys(found))


def raw_hits(root: Path, needles: Needles, progress: Progress) -> list[str]:
    """Search the bytes of every file below a folder; gives paths relative to it."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    found = []
    for number, path in enumerate(files):
        progress("search files", number, len(files))
        place = path.relative_to(root)
        if place.parts[0] in UNSEARCHED:
            continue
        try:
            hit = needles.are_in_file(path)
        except FileNotFoundError:
            # Replaced or shipped meanwhile by somebody who works here.
            continue
        if hit:
            found.append(place.as_posix())
    return found


def unexplained(config: Config, ledger: Ledger, tables: Tables) -> list[str]:
    """Name the reduced snapshots that are not what their receipts say."""
    reductions = read_reductions(ledger, config.name)
    known = known_snapshots(config, ledger)
    expected: dict[str, Reduction] = {item.snapshot: item for item in reductions}
    found = []
    for digest, last in expected.items():
        if digest not in known:
            continue
        try:
            _, check = open_snapshot(tables, config.contract, known[digest], reductions)
        except SnapshotAltered:
            found.append(f"snapshot {digest}")
            continue
        if check.found != last.after:
            found.append(f"snapshot {digest}")
    return found
