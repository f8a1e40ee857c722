"""Unique columns: the first acceptable row keeps a value, nulls may come as often as they like."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contracts.rows import Contract
from app.data.quarantine import Reasons
from app.data.repeats import keep_first
from app.data.validation import validate_rows

Make = Callable[..., dict[str, object]]


def with_unique(parcels: Contract, *names: str) -> Contract:
    columns = [{**c, "unique": c["name"] in names} for c in parcels.model_dump()["columns"]]
    return Contract.model_validate({**parcels.model_dump(), "columns": columns})


def test_a_value_that_comes_again_is_quarantined(parcels: Contract, parcel: Make) -> None:
    contract = with_unique(parcels, "rain")
    rains = [1.0, -0.0, None, 1.0, 0.0, None]
    validated = validate_rows([parcel(i, rain=rain) for i, rain in enumerate(rains)], contract)
    assert validated.positions.tolist() == [0, 1, 2, 5]
    assert validated.quarantined["reasons"].to_pylist() == [
        ["rain is given more than once; the first row is kept, got 1.0"],
        ["rain is given more than once; the first row is kept, got 0.0"],
    ]


def test_a_row_refused_for_its_id_keeps_no_value_from_others(
    parcels: Contract, parcel: Make
) -> None:
    contract = with_unique(parcels, "rain")
    rows = [parcel(0, rain=1), parcel(0, rain=2), parcel(1, rain=2), parcel(2, weight=-1, rain=3)]
    validated = validate_rows([*rows, parcel(3, rain=3)], contract)
    assert validated.positions.tolist() == [0, 2, 4]


def test_the_repeated_value_of_a_personal_column_is_not_told(
    parcels: Contract, parcel: Make
) -> None:
    contract = with_unique(parcels, "sender")
    rows = [parcel(i, sender="Ada Lovelace") for i in range(2)]
    assert "Ada" not in str(validate_rows(rows, contract).quarantined.to_pylist())


values = st.lists(st.none() | st.sampled_from([0.0, -0.0, 1.0, 2.0]), max_size=8)


@settings(deadline=None)
@given(values, values, st.data())
def test_what_is_kept_is_what_a_set_would_keep(
    parcels: Contract, rains: list[float | None], before: list[float | None], data: st.DataObject
) -> None:
    contract = with_unique(parcels, "rain")
    size = len(rains)
    chosen = data.draw(st.lists(st.integers(0, max(size - 1, 0)), unique=True, max_size=size))
    positions = sorted(chosen) if size else []
    blank = {name: pa.array([str(i) for i in range(size)]) for name in contract.schema.names}
    typed = pa.table({**blank, "rain": pa.array(rains, pa.float64())})
    kept = keep_first(
        typed, np.array(positions, np.int64), contract, Reasons(),
        {"rain": pa.array(before, pa.float64())},
    )  # fmt: skip
    seen, wanted = {value for value in before if value is not None}, []
    for position in positions:
        if rains[position] is None or rains[position] not in seen:
            wanted.append(position)
            seen.add(rains[position])
    assert kept.tolist() == wanted
