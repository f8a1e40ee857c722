from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from app.monitoring.reports import comparable, plain_frame, thinned, write_report
from tests.unit.monitoring.logs import CONTRACT, make_day


def test_frames_are_plain_numpy_with_nulls_kept() -> None:
    rows = pa.table(
        {
            "distance": pa.array([1.5, None]),
            "city": pa.array(["aa", None]),
            "whole": pa.array([1, 2]),
        }
    )

    frame = plain_frame(rows, ["distance", "whole"], ["city"])

    assert isinstance(frame["distance"].to_numpy(), np.ndarray)
    assert [str(kind) for kind in frame.dtypes] == ["float64", "float64", "object"]
    assert np.isnan(frame["distance"][1])
    assert frame["city"][1] is None


def test_thinning_is_even_repeatable_and_free_of_order() -> None:
    rows = make_day(0, 100).events
    backwards = rows.take(pa.array(np.arange(100)[::-1]))

    kept = thinned(rows, 10, "ride")["ride"].to_pylist()

    assert kept == [f"r000-{i:03d}" for i in range(0, 100, 10)]
    assert sorted(thinned(backwards, 10, "ride")["ride"].to_pylist()) == kept
    assert thinned(rows, 100, "ride") is rows


def test_columns_without_values_are_left_out() -> None:
    rows = make_day(0).events
    empty = rows.set_column(
        rows.schema.get_field_index("distance"), "distance", pa.nulls(40, pa.float64())
    )

    assert comparable(rows, rows, CONTRACT) == (["distance"], ["city"])
    assert comparable(rows, empty, CONTRACT) == ([], ["city"])


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    rows = make_day(0).events
    with pytest.raises(ValueError, match="no column has values"):
        write_report(rows, replace(make_day(0)).events.slice(0, 0), CONTRACT, tmp_path, "empty")
    assert list(tmp_path.iterdir()) == []
