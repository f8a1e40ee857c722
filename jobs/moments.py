"""The times that jobs are asked about: now, by the model's clock, and what people write."""

from contextlib import closing
from datetime import UTC, datetime

from app.config import Config
from app.ledger.clock import read_clock
from app.ledger.database import open_ledger


def now_of(config: Config) -> datetime:
    """Tell the time: the machine's, or where a model's clock is driven, what it was driven to."""
    with closing(open_ledger(config.ledger_url)) as ledger:
        return read_clock(ledger, config, datetime.now(UTC)).now


def utc(moment: datetime) -> datetime:
    """Take a time without a zone as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
