"""Compute window features of history on the cluster: by entity, one partition of rows at a time.

Knows Ray Data and how facts are sent where they are needed; what a value is, is said in windows.py.
First an event meets the revisions of its outcome, by id; then, for one entity column after the
other, rows meet the events of their entity. A worker holds one partition: a share of the rows, or
all events of one entity where those are more.
"""

import logging
import zlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from app.contracts.rows import Contract
from app.data.entries import slots_of
from app.data.facts import REVISIONS, Ints, distinct_events, fact_schema, revision_schema
from app.data.windows import window_values

PARTITION_ROWS = 100_000
# Below, moving rows about costs more than computing.
MOST_ROWS_HERE = 4_000_000
DATA_CPUS = 0.5
# So many reducers; a partition more is a group more in one of them.
MOST_PARTITIONS = 16
KIND, PLACE, AS_OF, PARTITION = "_kind", "_place", "_as_of", "_partition"
EVENT, ROW, REVISION = 0, 1, 2
# A revision travels under names that no column of a contract can have.
TOLD = {f"_told_{name}": name for name in REVISIONS.names}


def windows_of_any_size(
    contract: Contract, facts: pa.Table, revisions: pa.Table, rows: pa.Table, as_of: Ints
) -> pa.Table:
    """Compute windows here, or on the cluster where that is quicker: the same values."""
    small = facts.num_rows + rows.num_rows <= MOST_ROWS_HERE
    compute = window_values if small else windows_on_cluster
    return compute(contract, facts, revisions, rows, as_of)


def windows_on_cluster(
    contract: Contract,
    facts: pa.Table,
    revisions: pa.Table,
    rows: pa.Table,
    as_of: Ints,
    partition_rows: int = PARTITION_ROWS,
) -> pa.Table:
    """Do what windows.window_values does, bit for bit, on the cluster. Needs a Ray session."""
    if not facts.num_rows or not rows.num_rows:
        return window_values(contract, facts, revisions, rows, as_of)
    asked = rows.select(slots_of(contract)).append_column(PLACE, pa.array(np.arange(len(as_of))))
    asked = asked.append_column(AS_OF, pa.array(as_of))
    told = revisions.rename_columns(list(TOLD))
    known = [_shaped(facts, EVENT, contract), _shaped(told, REVISION, contract)]
    found = window_dataset(
        contract,
        ray.data.from_arrow([piece for part in known for piece in _pieces(part, partition_rows)]),
        ray.data.from_arrow(_pieces(_shaped(asked, ROW, contract), partition_rows)),
        -(-(facts.num_rows + rows.num_rows) // partition_rows),
    )
    tables = [table for table in ray.get(found.to_arrow_refs()) if table.num_rows]
    names = [window.name for window in contract.windows]
    return pa.concat_tables(tables).sort_by(PLACE).select(names).combine_chunks()


def window_dataset(
    contract: Contract, known: ray.data.Dataset, rows: ray.data.Dataset, num_partitions: int
) -> ray.data.Dataset:
    """Compute the windows of rows that never are in one place; all in shared_schema.

    `known` are events and revisions, `rows` what is asked; neither may be empty. Returns `_place`
    and a column a window, in any order.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    described = contract.model_dump_json()
    met = _by(known, None, num_partitions, partial(_meet, contract=described))
    together = met.union(rows)
    for key in slots_of(contract):
        work = partial(_compute, key=key, contract=described)
        together = _by(together, key, num_partitions, work)
    names = [PLACE, *(window.name for window in contract.windows)]
    return together.map_batches(
        partial(_rows_only, names=names), batch_format="pyarrow", num_cpus=DATA_CPUS
    )


def shared_schema(contract: Contract) -> pa.Schema:
    """Give the one schema in which events, revisions and rows travel together."""
    revisions = revision_schema(contract.label_type)
    told = [pa.field(name, revisions.field(TOLD[name]).type) for name in TOLD]
    added = [pa.field(name, pa.int64()) for name in (KIND, PLACE, AS_OF)]
    values = [pa.field(window.name, pa.float64()) for window in contract.windows]
    return pa.schema([*fact_schema(contract), *told, *added, *values])


def _by(
    dataset: ray.data.Dataset, key: str | None, number: int, work: Callable[[pa.Table], pa.Table]
) -> ray.data.Dataset:
    """Bring what shares a key, or an id, together and work on one partition at a time."""
    marked = dataset.map_batches(
        partial(_mark, key=key, number=number), batch_format="pyarrow", num_cpus=DATA_CPUS
    )
    grouped = marked.groupby(PARTITION, num_partitions=min(number, MOST_PARTITIONS))
    worked = grouped.map_groups(work, batch_format="pyarrow", num_cpus=DATA_CPUS)
    # A reducer without a partition leaves a block without columns, on which the next one fails.
    blocks = worked.to_arrow_refs()
    count = ray.remote(num_cpus=DATA_CPUS)(_num_rows)
    sizes = ray.get([count.remote(block) for block in blocks])
    return ray.data.from_arrow_refs([b for b, size in zip(blocks, sizes, strict=True) if size])


def _num_rows(block: pa.Table) -> int:
    return int(block.num_rows)


def _mark(block: pa.Table, key: str | None, number: int) -> pa.Table:
    """Number the partition of every row by a hash of its key that is the same in every process."""
    texts = pc.coalesce(block["_id"], block["_told_row_id"]) if key is None else block[key]
    encoded = pc.dictionary_encode(texts.combine_chunks())
    marks = [zlib.crc32(text.encode()) % number for text in encoded.dictionary.to_pylist()]
    # A null key is with nobody: it may be anywhere, and is in the first partition.
    places = encoded.indices.fill_null(len(marks)).to_numpy()
    return block.append_column(PARTITION, pa.array(np.array([*marks, 0], np.int64)[places]))


def _meet(block: pa.Table, contract: str) -> pa.Table:
    """Drop repeated events, and give every revision the entities of the events that it is about."""
    described = Contract.model_validate_json(contract)
    events, revisions = _of_kind(block, EVENT), _of_kind(block, REVISION)
    events = distinct_events(events.select(fact_schema(described).names))
    keys = slots_of(described)
    about = events.select(["_id", *keys]).rename_columns(["_told_row_id", *keys])
    told = revisions.select(list(TOLD)).join(about, "_told_row_id", join_type="inner")
    return pa.concat_tables([_shaped(events, EVENT, described), _shaped(told, REVISION, described)])


def _compute(block: pa.Table, key: str, contract: str) -> pa.Table:
    """Compute the windows of one entity column; events and revisions go on to the next."""
    described = Contract.model_validate_json(contract)
    block = block.drop_columns(PARTITION)
    facts, rows, told = (_of_kind(block, kind) for kind in (EVENT, ROW, REVISION))
    windows = [window for window in described.windows if window.key == key]
    revisions = told.select(list(TOLD)).rename_columns(list(TOLD.values()))
    as_of = rows[AS_OF].to_numpy()
    values = window_values(described, facts, revisions, rows, as_of, windows)
    for name in values.column_names:
        rows = rows.set_column(rows.schema.get_field_index(name), name, values[name])
    return pa.concat_tables([facts, told, rows])


def _of_kind(block: pa.Table, kind: int) -> pa.Table:
    return block.filter(pc.equal(block[KIND], kind))


def _rows_only(block: pa.Table, names: Sequence[str]) -> pa.Table:
    return _of_kind(block, ROW).select(names)


def _shaped(table: pa.Table, kind: int, contract: Contract) -> pa.Table:
    """Bring events, revisions or rows into the shared schema."""
    schema, size = shared_schema(contract), table.num_rows
    arrays = [
        table[f.name] if f.name in table.column_names else pa.nulls(size, f.type) for f in schema
    ]
    place = schema.get_field_index(KIND)
    arrays[place] = pa.array(np.full(size, kind))
    return pa.Table.from_arrays(arrays, names=schema.names).cast(schema)


def _pieces(table: pa.Table, size: int) -> list[pa.Table]:
    return [table.slice(first, size) for first in range(0, table.num_rows, size)]
