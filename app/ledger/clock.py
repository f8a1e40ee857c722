"""The one owner of time: the machine's clock, or a row of the ledger that a driver moves.

Knows `now` and the watermark (everything before it has been sent); knows nothing of who waits for
them.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Text, column, insert, select, table, update

from app.config import Config
from app.ledger.database import Ledger, UtcTime

CLOCK = table("clock", column("name", Text), column("now", UtcTime), column("watermark", UtcTime))


class ClockRefused(ValueError):
    """The clock may not be moved like that."""


class Clock(NamedTuple):
    """A reading of time."""

    now: datetime
    watermark: datetime


def read_clock(ledger: Ledger, config: Config, wall_now: datetime) -> Clock:
    """Tell the time: on a wall clock it is `wall_now`, on a driven one what the driver said last.

    A driven clock that nobody has moved yet stands at `replay.history_until`, midnight UTC.
    """
    if config.clock == "wall":
        return Clock(wall_now, wall_now)
    with ledger.reading() as connection:
        return _driven(connection, config.name) or _start(config)


def drive_clock(
    ledger: Ledger,
    config: Config,
    now: datetime | None = None,
    watermark: datetime | None = None,
) -> Clock:
    """Move a driven clock forward and return it.

    Raises ClockRefused in production, on a wall clock, for a step back, and for a watermark after
    now.
    """
    if config.profile == "production" or config.clock != "driven":
        raise ClockRefused(
            "clock: only a driven clock outside production can be moved, this one is "
            f"{config.clock} "
            f"in {config.profile}; set clock to driven and profile to development"
        )
    with ledger.transaction() as connection:
        found = _driven(connection, config.name)
        before = found or _start(config)
        # The very first setting may choose any start.
        after = Clock(
            now or before.now, watermark or (before.watermark if found else now or before.now)
        )
        _refuse_impossible(found, after)
        if found is None:
            connection.execute(insert(CLOCK).values(name=config.name, **after._asdict()))
        else:
            connection.execute(
                update(CLOCK).where(CLOCK.c.name == config.name).values(**after._asdict())
            )
    return after


def _driven(connection: Connection, name: str) -> Clock | None:
    row = connection.execute(select(CLOCK).where(CLOCK.c.name == name)).first()
    return None if row is None else Clock(row.now, row.watermark)


def _start(config: Config) -> Clock:
    return Clock(config.replay.start, config.replay.start)


def _refuse_impossible(before: Clock | None, after: Clock) -> None:
    if before is not None and after.now < before.now:
        raise ClockRefused(f"clock: cannot go back from {before.now} to {after.now}")
    if before is not None and after.watermark < before.watermark:
        raise ClockRefused(
            f"clock: the watermark cannot go back from {before.watermark} to {after.watermark}"
        )
    if after.watermark > after.now:
        raise ClockRefused(f"clock: the watermark {after.watermark} is after now, {after.now}")
