"""scikit-learn on pandas: QuantileTransformer, SimpleImputer and OrdinalEncoder."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, QuantileTransformer

from benchmarks.harness.contenders import answer_commands
from benchmarks.preprocessing.data import CATEGORIES, MIN_COUNT, NUM_BINS, NUMBERS, vocabulary

MISSING = -2


def good_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Say which cells of every column are good."""
    cells = {
        "order_id": frame["order_id"].notna() & (frame["order_id"] != ""),
        "ordered_at": frame["ordered_at"].notna(),
    }
    for name, (low, high, nulls) in NUMBERS.items():
        # pandas reads a null as NaN: where nulls may be, the two cannot be told apart.
        inside = frame[name].between(low, high)
        cells[name] = inside | frame[name].isna() if nulls else inside
    for name, (_, nulls, closed) in CATEGORIES.items():
        there = frame[name].isin(vocabulary(name)) if closed else frame[name].notna()
        cells[name] = there | frame[name].isna() if nulls else there
    return pd.DataFrame(cells)


def act(rows: str, into: str) -> None:
    """Encode a folder of Parquet into another."""
    shutil.rmtree(into, ignore_errors=True)
    Path(into, "rows").mkdir(parents=True)
    frame = pd.read_parquet(rows)
    cells = good_cells(frame)
    good = cells.all(axis=1)
    wrong = ~cells[~good]
    bad = frame[~good].assign(reasons=[list(wrong.columns[row]) for row in wrong.to_numpy()])
    bad.to_parquet(f"{into}/refused.parquet")
    frame = frame[good]
    encoded = frame[["order_id", "ordered_at"]].copy()
    scale = make_pipeline(
        QuantileTransformer(n_quantiles=NUM_BINS + 1, subsample=None),
        SimpleImputer(strategy="constant", fill_value=-1 / NUM_BINS),
    )
    encoded[list(NUMBERS)] = (
        scale.fit_transform(frame[list(NUMBERS)].astype(float)) * NUM_BINS
    ).astype(np.float32)
    encoded[list(CATEGORIES)] = coded(frame[list(CATEGORIES)].astype(object))
    encoded.to_parquet(f"{into}/rows/rows.parquet", index=False)


def coded(frame: pd.DataFrame) -> np.ndarray:
    """Give the values of each category that come often enough their codes."""
    encoder = OrdinalEncoder(
        min_frequency=MIN_COUNT,
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        encoded_missing_value=MISSING,
        dtype=np.int32,
    )
    codes = encoder.fit_transform(frame.where(frame.notna(), np.nan))
    for column, rare in zip(codes.T, encoder.infrequent_categories_, strict=True):
        missing = column == MISSING
        # The rare ones share the last code; those that may be missing are among the others.
        if rare is not None and len(rare):
            column[column == column.max()] = -2
        column += 2
        column[missing] = 1
    return codes


if __name__ == "__main__":
    answer_commands(act)
