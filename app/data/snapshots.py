"""Pin the rows of a window with their outcomes as known at a time, and load exactly them again.

Knows tables, labels and digests; knows nothing of models. The digest is the sum of keyed hashes of
the rows, so it is free of row order and partitioning, and rows can be subtracted from it. The key
is public: it keeps these hashes apart from others, it hides nothing.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError

from app.contracts.erasure import Reduction
from app.contracts.records import DatasetVersion
from app.contracts.rows import TIMESTAMP, Contract
from app.data.classes import refuse_other_classes
from app.data.derived import Compute, with_windows
from app.data.facts import Ints, asked_at
from app.data.labels import known_labels
from app.data.reductions import SnapshotCheck, check_snapshot
from app.data.tables import TableName, Tables
from app.data.windows import window_values
from app.security.secrets import SecretError

DIGEST_KEY = b"mainspring snapshot rows, version 1"
HASH_BYTES = 16
STATES = ("pending", "known", "void")
Keep = Callable[[TableName, pa.Table], npt.NDArray[np.bool_]]


class SnapshotAltered(ValueError):
    """The tables no longer hold the rows that a snapshot pinned."""


def take_snapshot(
    tables: Tables,
    contract: Contract,
    start: datetime | None,
    end: datetime,
    known_at: datetime,
    *,
    received_by: datetime | None = None,
) -> DatasetVersion:
    """Pin the rows with prediction time in [start, end) at the tables' latest versions.

    Without a start the window begins with the earliest row. Outcomes are those known at `known_at`
    that have arrived until now or, if it is given, by `received_by`; see known_labels.
    """
    versions = tables.version("events"), tables.version("labels")
    if versions[0] < 0:
        raise ValueError(f"{tables.root}: no events yet; run jobs.ingest first")
    rows, _ = _rows(tables, contract, (start, end), (known_at, received_by), versions)
    earliest = rows["prediction_time"][0].as_py() if rows.num_rows else end
    states = pc.value_counts(rows["state"]).to_pylist()
    counts = {item["values"]: item["counts"] for item in states}
    return DatasetVersion(
        start=start or earliest,
        end=end,
        known_at=known_at,
        received_by=received_by,
        events_version=versions[0],
        labels_version=versions[1],
        digest=digest_rows(rows),
        num_rows=rows.num_rows,
        num_known=counts.get("known", 0),
        num_void=counts.get("void", 0),
    )


def load_snapshot(
    tables: Tables,
    contract: Contract,
    dataset: DatasetVersion,
    reductions: Sequence[Reduction] = (),
    compute: Compute = window_values,
) -> pa.Table:
    """Load the rows of a snapshot, sorted by prediction time and id.

    Columns: those of the contract, `prediction_time`, `label` (of contract.label_type; null unless
    known) and `state`, one of "known", "void", "pending"; then one a window, as of each row's own
    time, computed by `compute` from what the pinned versions hold now. Raises SnapshotAltered when
    the rows are not those that were pinned, nor those that the given reductions, made by erasures,
    left of them.
    """
    rows, asked, check = _opened(tables, contract, dataset, reductions)
    if check.state == "altered":
        raise SnapshotAltered(
            f"{tables.root}: the snapshot of {dataset.num_rows} rows is altered, the tables now "
            f"give {rows.num_rows} rows with digest {check.found}; {check.reason}; "
            "restore them or take a new snapshot"
        )
    versions = dataset.events_version, dataset.labels_version
    return with_windows(
        tables, contract, rows, asked, versions, compute, received_by=dataset.received_by
    )


def open_snapshot(
    tables: Tables,
    contract: Contract,
    dataset: DatasetVersion,
    reductions: Sequence[Reduction] = (),
) -> tuple[pa.Table, SnapshotCheck]:
    """Load what the tables now give for a snapshot, without windows, and say in which state it is.

    Raises SnapshotAltered when its versions cannot be read at all.
    """
    rows, _, check = _opened(tables, contract, dataset, reductions)
    return rows, check


def snapshot_rows(
    tables: Tables, contract: Contract, dataset: DatasetVersion, keep: Keep | None = None
) -> pa.Table:
    """Load what the tables give for a snapshot, without windows, unchecked.

    `keep` says of a table's rows which ones stay, booleans [rows]: so it can be asked what would be
    left of the snapshot without some rows.
    """
    return _pinned_rows(tables, contract, dataset, keep)[0]


def _opened(
    tables: Tables,
    contract: Contract,
    dataset: DatasetVersion,
    reductions: Sequence[Reduction],
) -> tuple[pa.Table, Ints, SnapshotCheck]:
    """Load a snapshot's rows, as of when each was asked, and its state."""
    try:
        rows, asked = _pinned_rows(tables, contract, dataset)
    except SecretError:  # The rows may well be there: the key is not.
        raise
    except (OSError, ValueError, DeltaError) as error:
        raise SnapshotAltered(
            f"{tables.root}: files of the snapshot are gone or damaged ({error}); "
            "restore them or take a new snapshot"
        ) from error
    return rows, asked, check_snapshot(dataset.digest, digest_rows(rows), reductions)


def _pinned_rows(
    tables: Tables, contract: Contract, dataset: DatasetVersion, keep: Keep | None = None
) -> tuple[pa.Table, Ints]:
    versions = dataset.events_version, dataset.labels_version
    window, cuts = (dataset.start, dataset.end), (dataset.known_at, dataset.received_by)
    return _rows(tables, contract, window, cuts, versions, keep)


def digest_rows(rows: pa.Table) -> str:
    """Digest rows: the sum of their keyed hashes modulo 2**128, as 32 hexadecimal digits."""
    halves = row_hashes(rows).view("<u4").astype(np.uint64).reshape(-1, HASH_BYTES // 4)
    sums = halves.sum(axis=0, dtype=np.uint64)  # 2**32 rows of 32 bits fit in 64.
    total = sum(int(part) << (32 * place) for place, part in enumerate(sums))
    return f"{total % 2 ** (8 * HASH_BYTES):032x}"


def row_hashes(rows: pa.Table) -> npt.NDArray[np.uint8]:
    """Return the keyed hash of every row, bytes [rows, 16]; column names and types count."""
    columns = [_column_bytes(rows[name].combine_chunks()) for name in rows.column_names]
    layout = ";".join(f"{field.name}:{_type_name(field.type)}" for field in rows.schema).encode()
    key = hashlib.blake2b(DIGEST_KEY + layout, digest_size=32).digest()
    if not rows.num_rows:
        return np.empty((0, HASH_BYTES), np.uint8)
    matrix = np.ascontiguousarray(np.hstack(columns))
    width = matrix.shape[1]
    content = matrix.tobytes()
    seed = hashlib.blake2b(key=key, digest_size=HASH_BYTES)
    digests = bytearray()
    for offset in range(0, len(content), width):
        row = seed.copy()
        row.update(content[offset : offset + width])
        digests += row.digest()
    return np.frombuffer(bytes(digests), np.uint8).reshape(-1, HASH_BYTES)


def _type_name(kind: pa.DataType) -> str:
    return "string" if pa.types.is_large_string(kind) else str(kind)


def _column_bytes(values: pa.Array) -> npt.NDArray[np.uint8]:
    """Return one column as bytes [rows, width]: whether a value is there, then the value."""
    there = values.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)[:, None]
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return np.hstack([there, _text_bytes(values)])
    if pa.types.is_floating(values.type):
        numbers = values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        fixed = (numbers + 0.0).astype("<f8")  # -0.0 and 0.0 are one number.
    else:
        fixed = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).astype("<i8")
    return np.hstack([there, fixed[:, None].view(np.uint8)])


def _text_bytes(values: pa.Array) -> npt.NDArray[np.uint8]:
    """Replace texts by their hashes, so that rows have one width; each text is hashed once."""
    encoded = pc.dictionary_encode(values)
    texts = (text.encode() for text in encoded.dictionary.to_pylist())
    hashes = b"".join(hashlib.blake2b(text, digest_size=HASH_BYTES).digest() for text in texts)
    table = np.frombuffer(hashes + bytes(HASH_BYTES), np.uint8).reshape(-1, HASH_BYTES)
    absent = len(table) - 1
    hashed: npt.NDArray[np.uint8] = table[
        encoded.indices.fill_null(absent).to_numpy(zero_copy_only=False)
    ]
    return hashed


def _rows(
    tables: Tables,
    contract: Contract,
    window: tuple[datetime | None, datetime],
    cuts: tuple[datetime, datetime | None],
    versions: tuple[int, int],
    keep: Keep | None = None,
) -> tuple[pa.Table, Ints]:
    """Read the rows of a window, and as of when each of them was asked."""
    refuse_other_classes(tables, contract)
    start, end = window
    time = pc.field("prediction_time")
    inside = time < pa.scalar(end, TIMESTAMP)
    if start is not None:
        inside = inside & (time >= pa.scalar(start, TIMESTAMP))
    columns = [*contract.schema.names, "prediction_time", "ingested_at", "source"]
    events = _kept("events", tables.read("events", versions[0], columns, inside), keep)
    events = _distinct(events, contract)
    order = pc.sort_indices(
        events, sort_keys=[("prediction_time", "ascending"), (contract.id, "ascending")]
    )
    asked = asked_at(events.take(order))
    events = events.drop_columns(["ingested_at", "source"]).take(order)
    labels = (
        tables.read("labels", versions[1])
        if versions[1] >= 0
        else tables.schema("labels").empty_table()
    )
    labels = _kept("labels", labels, keep)
    return _join(events, known_labels(labels, *cuts), contract).combine_chunks(), asked


def _kept(name: TableName, rows: pa.Table, keep: Keep | None) -> pa.Table:
    return rows if keep is None else rows.filter(pa.array(keep(name, rows)))


def _distinct(events: pa.Table, contract: Contract) -> pa.Table:
    """Keep one row of each id: the one that arrived first, whatever the order of the files."""
    codes = pc.dictionary_encode(events[contract.id].combine_chunks()).indices.to_numpy()
    counts = np.bincount(codes) if len(codes) else np.empty(0, np.int64)
    if not (counts > 1).any():
        return events
    repeated = counts[codes] > 1
    suspects = events.filter(pa.array(repeated))
    hashes = [bytes(row).hex() for row in row_hashes(suspects)]
    keys = suspects.append_column("hash", pa.array(hashes))
    order = pc.sort_indices(
        keys, sort_keys=[(name, "ascending") for name in (contract.id, "ingested_at", "hash")]
    ).to_numpy()
    ordered = codes[repeated][order]
    first = order[np.append(True, ordered[1:] != ordered[:-1])]
    return pa.concat_tables(
        [events.filter(pa.array(~repeated)), suspects.take(pa.array(first))]
    ).combine_chunks()


def _join(events: pa.Table, labels: pa.Table, contract: Contract) -> pa.Table:
    """Add what is known of every row's outcome."""
    place = pc.index_in(events[contract.id], value_set=labels["row_id"].combine_chunks())
    void = labels["void"].take(place)
    label = pc.if_else(
        void.fill_null(False), pa.scalar(None, contract.label_type), labels["label"].take(place)
    )
    state = pc.if_else(void, STATES[2], STATES[1]).fill_null(STATES[0])
    return events.append_column("label", label).append_column("state", state)
