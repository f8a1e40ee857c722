"""Polars, streaming: two scans, one to fit and one to encode. Its forms are the fastest tried.

Of the ways to place numbers (np.interp on batches; search_sorted and gather; a sum of clipped
terms) and to code categories (a cast to Enum; replace_strict) the first of each costs least CPU.
"""

import functools
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness.contenders import answer_commands
from benchmarks.preprocessing.data import CATEGORIES, MIN_COUNT, NUM_BINS, NUMBERS, vocabulary

ENGINE = "streaming"
IN_MEMORY = os.environ.get("POLARS_BENCH_IN_MEMORY") == "1"


def good_cells() -> dict[str, pl.Expr]:
    """Say of every column what a good cell is; polars holds NaN to be over every number."""
    cells = {
        "order_id": pl.col("order_id").is_not_null() & (pl.col("order_id") != ""),
        "ordered_at": pl.col("ordered_at").is_not_null(),
    }
    for name, (low, high, nulls) in NUMBERS.items():
        cells[name] = pl.col(name).is_between(low, high).fill_null(nulls > 0)
    for name, (_, nulls, closed) in CATEGORIES.items():
        if closed:
            cells[name] = pl.col(name).is_in(vocabulary(name)).fill_null(nulls > 0)
        elif not nulls:
            cells[name] = pl.col(name).is_not_null()
    return cells


def act(rows: str, into: str) -> None:
    """Encode a folder of Parquet into another."""
    shutil.rmtree(into, ignore_errors=True)
    Path(into, "rows").mkdir(parents=True)
    scanned = pl.scan_parquet(f"{rows}/*.parquet")
    cells = good_cells()
    good = pl.all_horizontal(*cells.values())
    wrong = [pl.when(~cell).then(pl.lit(name)) for name, cell in cells.items()]
    accepted = scanned.filter(good)
    refused = scanned.filter(~good).with_columns(reasons=pl.concat_list(wrong).list.drop_nulls())
    if IN_MEMORY:
        everything = accepted.collect(engine=ENGINE)
        refused.collect(engine=ENGINE).write_parquet(f"{into}/refused.parquet")
        fitted, accepted = everything, everything.lazy()
    else:
        wanted = accepted.select(*NUMBERS, *CATEGORIES)
        fitted, bad = pl.collect_all([wanted, refused], engine=ENGINE)
        bad.write_parquet(f"{into}/refused.parquet")
    encoded = accepted.select("order_id", "ordered_at", *places(fitted), *codes(fitted))
    del fitted
    encoded.sink_parquet(f"{into}/rows/rows.parquet", compression="snappy", engine=ENGINE)


def places(fitted: pl.DataFrame) -> list[pl.Expr]:
    """Find the quantiles of every number, and place numbers among them."""
    ranked = []
    for name in NUMBERS:
        known = fitted[name].len() - fitted[name].null_count()
        ranks = [-(-i * known // NUM_BINS) - 1 for i in range(1, NUM_BINS)]
        ranked.append(pl.col(name).drop_nulls().sort().gather([0, *ranks, known - 1]))
    edges = fitted.select(ranked)
    return [
        pl.col(name)
        .map_batches(
            functools.partial(_place, edges[name].unique().sort().to_numpy().astype(float)),
            return_dtype=pl.Float32,
            is_elementwise=True,
        )
        .alias(name)
        for name in NUMBERS
    ]


def _place(edges: np.ndarray, values: pl.Series) -> pl.Series:
    placed = np.interp(values.to_numpy(), edges, np.arange(float(len(edges))))
    placed[np.isnan(placed)] = -1
    return pl.Series(placed.astype(np.float32))


def codes(fitted: pl.DataFrame) -> list[pl.Expr]:
    """Find the values of every category that come often enough, and give them their codes."""
    expressions = []
    for name in CATEGORIES:
        counts = fitted[name].drop_nulls().value_counts()
        values = counts.filter(pl.col("count") >= MIN_COUNT)[name].sort()
        known = pl.col(name).cast(pl.Enum(values), strict=False).to_physical().cast(pl.Int32) + 2
        coded = pl.when(pl.col(name).is_null()).then(pl.lit(1, pl.Int32)).otherwise(known)
        expressions.append(coded.fill_null(0).alias(name))
    return expressions


if __name__ == "__main__":
    answer_commands(act)
