"""pyarrow and numpy in one process, on whole columns; categories are read as dictionaries."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness.contenders import answer_commands
from benchmarks.preprocessing.data import CATEGORIES, MIN_COUNT, NUM_BINS, NUMBERS, vocabulary


def good_cells(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Say which cells of every column are good."""
    ids = table["order_id"]
    cells = {
        "order_id": pc.fill_null(pc.not_equal(ids, ""), False),
        "ordered_at": pc.is_valid(table["ordered_at"]),
    }
    for name, (low, high, nulls) in NUMBERS.items():
        values = table[name]
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        cells[name] = pc.fill_null(inside, nulls > 0)
    for name, (_, nulls, closed) in CATEGORIES.items():
        if closed:
            allowed = pa.array([*vocabulary(name), *([None] if nulls else [])])
            cells[name] = pc.is_in(table[name].cast(pa.string()), value_set=allowed)
        elif not nulls:
            cells[name] = pc.is_valid(table[name])
    return cells


def act(rows: str, into: str) -> None:
    """Encode a folder of Parquet into another."""
    shutil.rmtree(into, ignore_errors=True)
    Path(into, "rows").mkdir(parents=True)
    table = pq.read_table(rows, read_dictionary=list(CATEGORIES)).combine_chunks()
    cells = good_cells(table)
    good = cells["order_id"]
    for cell in cells.values():
        good = pc.and_(good, cell)
    bad = table.filter(pc.invert(good))
    wrong = {name: pc.filter(cell, pc.invert(good)).to_numpy() for name, cell in cells.items()}
    reasons = [[n for n, cell in wrong.items() if not cell[i]] for i in range(bad.num_rows)]
    pq.write_table(bad.append_column("reasons", pa.array(reasons)), f"{into}/refused.parquet")
    table = table.filter(good).combine_chunks()
    encoded = {name: table[name] for name in ("order_id", "ordered_at")}
    encoded |= {name: placed(table[name].to_numpy()) for name in NUMBERS}
    encoded |= {name: coded(table[name].combine_chunks()) for name in CATEGORIES}
    pq.write_table(pa.table(encoded), f"{into}/rows/rows.parquet", use_dictionary=list(CATEGORIES))


def placed(values: np.ndarray) -> np.ndarray:
    """Place numbers among their quantiles."""
    values = values.astype(np.float64)
    shares = np.linspace(0, 1, NUM_BINS + 1)
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, shares, method="inverted_cdf"))
    places = np.interp(values, edges, np.arange(float(len(edges))))
    places[np.isnan(places)] = -1
    return places.astype(np.float32)


def coded(values: pa.DictionaryArray) -> np.ndarray:
    """Give the values of a category that come often enough their codes."""
    indices = values.indices.fill_null(len(values.dictionary)).to_numpy()
    counts = np.bincount(indices, minlength=len(values.dictionary) + 1)
    texts = values.dictionary.to_pylist()
    often = sorted(text for text, count in zip(texts, counts, strict=False) if count >= MIN_COUNT)
    codes = {text: code for code, text in enumerate(often, 2)}
    return np.array([*(codes.get(text, 0) for text in texts), 1], np.int32)[indices]


if __name__ == "__main__":
    answer_commands(act)
