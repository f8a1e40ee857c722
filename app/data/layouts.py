"""Say what the files of a source must look like: columns, delimiter, limits.

Knows the configuration; knows nothing of where files are or of how they are read.
"""

from collections.abc import Collection

from app.config import Config
from app.data.delivered_labels import LABEL_COLUMNS
from app.data.files import Layout, as_they_are
from app.data.inline import Inline
from app.data.pieces import MEGABYTE, Limits
from app.sections import SourceConfig

LABEL_NAMES = tuple(LABEL_COLUMNS.schema.names)


def layout_of(config: Config, inline: Inline | None = None, spared: Collection[str] = ()) -> Layout:
    """Say what a source's rows must look like; with `inline` they are no rows of a contract yet.

    Columns that are `spared` may stand there.
    """
    contract, source = config.contract, config.source
    return Layout(
        inline.wanted if inline else contract.schema.names,
        [*(inline.optional if inline else ()), *spared],
        contract.forbidden_names,
        inline.names if inline else as_they_are,
        source.delimiter,
        limits_of(source),
    )


def outcome_layout(config: Config) -> Layout:
    """Say what a source's outcomes must look like."""
    source = config.source
    return Layout(LABEL_NAMES, delimiter=source.delimiter, limits=limits_of(source))


def limits_of(source: SourceConfig) -> Limits:
    """Return what files of a source may unpack to."""
    return Limits(
        source.max_unpacked_mb * MEGABYTE, source.max_unpack_ratio, source.max_cell_kb * 1024
    )
