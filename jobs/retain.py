"""Keep a model's tables small: merge small files, delete those of versions nobody needs."""

from datetime import UTC, datetime, timedelta

import typer

from app.config import Config, load_config
from app.contracts.records import DatasetVersion
from app.data.retention import Needs, retain
from app.data.tables import NAMES, TableName, open_tables
from app.ledger.clock import read_clock
from app.ledger.database import open_ledger
from app.ledger.evidence import read_fold
from app.registry.pins import live_snapshots
from jobs.options import DEFAULT_CONFIG, ConfigFile, Overrides
from jobs.outcome import report, user_errors


def main(config: ConfigFile = DEFAULT_CONFIG, set_: Overrides = None) -> None:
    """Compact and retain, and print what was merged and deleted; safe to run at any time."""
    with user_errors():
        report(run(load_config(config, set_ or []), datetime.now(UTC)))


def run(config: Config, wall: datetime) -> dict[str, object]:
    """Compact every table and delete old files; `wall` is the machine's time.

    What is pinned, and what the monitor has not read yet, stays.
    """
    tables = open_tables(config)
    keep = timedelta(days=config.tables.keep_days)
    ledger = open_ledger(config.ledger_url)
    try:
        clock = read_clock(ledger, config, wall)
        snapshots = live_snapshots(ledger, config.name, clock.now - keep)
        fold = read_fold(ledger, config.name)
    finally:
        ledger.close()
    done: dict[str, object] = {"model": config.name, "num_pinned": len(snapshots)}
    for name in NAMES:
        before = tables.version(name)
        tables.compact(name, config.tables.small_bytes, config.tables.max_small_files)
        pinned = _pinned(snapshots, name)
        # The monitor reads no shadows: it keeps none of their files from going.
        is_read = fold is not None and name != "shadows"
        read_until = fold.offsets.get(name, -1) if fold and is_read else None
        needs = Needs(pinned, wall - keep, read_until)
        retained = retain(tables, name, needs)
        done[name] = {
            "compacted": tables.version(name) > before,
            **retained.model_dump(exclude={"table"}),
        }
    return done


def _pinned(snapshots: list[DatasetVersion], name: TableName) -> set[int]:
    if name == "events":
        return {snapshot.events_version for snapshot in snapshots}
    return {snapshot.labels_version for snapshot in snapshots} if name == "labels" else set()


if __name__ == "__main__":
    typer.run(main)
