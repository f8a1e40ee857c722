"""Say which rows are scored: those of the model's own source, or those of another place.

Knows the configuration of a source; knows nothing of how one is read.
"""

from app.config import Config
from app.data.files import ENDINGS
from app.data.growing import is_delta
from app.data.stores import shown
from app.sections import SourceConfig

KINDS = ("parquet", "csv", "jsonl", "delta", "sql")


def scoring_of(config: Config, rows: str | None, kind: str | None = None) -> Config:
    """Give a model's configuration with the rows to score as its source; outcomes are left out.

    `rows` is what `source.events` would be: a path, a folder, a glob, a URI or the folder of a
    Delta table; with kind `sql` a table, or a query, of the database that `source` names. None are
    the source's own. Without a kind a name tells it by its ending, a folder by its content.
    Raises ValueError for a kind that there is not.
    """
    source = config.source
    if rows is None:
        if kind is not None and kind != source.kind:
            raise ValueError(f"kind {kind}: the source is of kind {source.kind}; name the rows")
        own = source.model_copy(update={"labels": None, "labels_query": None})
        return config.model_copy(update={"source": own})
    kind = kind or _kind_of(rows)
    if kind not in KINDS:
        raise ValueError(f"kind {kind}: is none of {', '.join(KINDS)}")
    is_query = kind == "sql" and len(rows.split()) > 1
    changed = source.model_dump() | {
        "kind": kind,
        "events": None if is_query else rows,
        "query": rows if is_query else None,
        "labels": None,
        "labels_query": None,
        "version": None,
    }
    return config.model_copy(update={"source": SourceConfig.model_validate(changed)})


def _kind_of(rows: str) -> str:
    # A URI's query is no part of its ending.
    name = shown(rows).lower()
    for kind in ("csv", "jsonl"):
        if name.endswith(ENDINGS[kind]):
            return kind
    return "delta" if is_delta(rows) else "parquet"
