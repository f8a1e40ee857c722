"""A window's rows on the cluster, block by block: statistics for an encoder, then encoded rows.

Knows Ray Data; what a block's statistics and codes are is for features to say.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from app.config import Config
from app.contracts.rows import Contract
from app.data.features import Encoder, Statistics
from app.training.window import LIST, Window, encode_rows, required_columns

BLOCK_ROWS = 25_000
# Small, so that preparing data finds room beside serving, the monitor and the steward on two cores.
DATA_CPUS = 0.5


def fit_encoder(config: Config, window: Window) -> Encoder:
    """Fit the encoder of a window from statistics that are collected block by block and merged."""
    collected = _blocks(config.contract, window.train).map_batches(
        partial(_collect, contract=config.contract.model_dump_json()),
        batch_format="pyarrow",
        batch_size=None,
        num_cpus=DATA_CPUS,
    )
    parts = [Statistics.from_bytes(row["statistics"]) for row in collected.take_all()]
    return Encoder.fit(Statistics.merge_all(parts), config.features)


def _blocks(contract: Contract, table: pa.Table) -> ray.data.Dataset:
    """Hand a table to Ray Data in blocks, with each row's place."""
    lists = [LIST] if LIST in table.column_names else []
    chosen = table.select([*required_columns(contract), *lists]).append_column(
        "place", pa.array(np.arange(len(table)))
    )
    return ray.data.from_arrow(
        [chosen.slice(first, BLOCK_ROWS) for first in range(0, max(len(chosen), 1), BLOCK_ROWS)]
    )


def encoded_blocks(contract: Contract, encoder: Encoder, table: pa.Table) -> ray.data.Dataset:
    """Encode on the cluster, at once: no data task competes with a waiting worker for a CPU."""
    encode = partial(_encode, encoder=encoder.to_json())
    blocks = _blocks(contract, table).map_batches(
        encode, batch_format="pyarrow", batch_size=None, num_cpus=DATA_CPUS
    )
    encoded: ray.data.Dataset = blocks.materialize()
    return encoded


def _collect(block: pa.Table, contract: str) -> dict[str, Any]:
    """Collect the statistics of one block; the contract travels as JSON, statistics as Arrow."""
    statistics = Statistics.collect(block, Contract.model_validate_json(contract))
    return {"statistics": [statistics.to_bytes()]}


def _encode(block: pa.Table, encoder: bytes) -> dict[str, Any]:
    """Encode one block."""
    rows = encode_rows(Encoder.from_json(encoder), block)
    encoded = {
        "numbers": rows.encoded.numbers,
        "categories": rows.encoded.categories,
        "label": rows.labels,
        "place": block["place"].to_numpy(),
    }
    return encoded if rows.groups is None else {**encoded, "list": rows.groups}
