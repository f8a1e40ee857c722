"""The short way for a few good rows comes to what whole columns come to."""

import math
from collections.abc import Callable

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.goodrows import GoodRows
from app.data.validation import validate_rows
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
PSEUDONYMISER = Pseudonymiser(SecretBytes(b"k" * 32))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 50),
    st.sampled_from([2**53 + 1, -(2**70), 10**400, math.nan, math.inf, -math.inf, -0.0, 40.0]),
    st.floats(-1, 41),
    st.sampled_from(["", "north", "east", "é", "\ud800", "3"]),
    st.sampled_from(
        [
            "2024-03-01T10:00:00Z",
            "2024-03-01T10:00:00.1234567+05:30",
            "2024-03-01T10:00:00",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-12:00",
            "2024-13-01T10:00:00Z",
        ]
    ),
    st.lists(st.integers(), max_size=2),
)


def assert_same(rows: list[object], contract: Contract) -> bool:
    """Hold the short way against the long one, where rows take it; tell whether they do."""
    read = GoodRows(contract).values(rows)
    if read is None:
        return False
    columns = list(zip(*read, strict=True)) or [()] * len(contract.schema)
    arrays = [pa.array(*each) for each in zip(columns, contract.schema.types, strict=True)]
    short = PSEUDONYMISER.protect(pa.table(arrays, contract.schema), contract)
    long = validate_rows(rows, contract, pseudonymiser=PSEUDONYMISER)
    assert long.accepted.schema.equals(short.schema)
    assert long.accepted.equals(short)
    assert long.quarantined.num_rows == 0
    assert long.positions.tolist() == list(range(len(rows)))
    return True


def with_rule(contract: Contract) -> Contract:
    rule = {"name": "light", "expect": "weight < 10 or depot == 'south'"}
    return Contract.model_validate({**contract.model_dump(), "rules": [rule]})


@given(st.data())
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_rows_have_the_same_outcome_on_both_ways(
    parcels: Contract, parcel: Make, data: st.DataObject
) -> None:
    names = [*parcels.by_name, "surplus"]
    rows: list[object] = []
    for number in range(data.draw(st.integers(0, 4))):
        # Ids repeat now and then, and some rows are left as they are: good ones.
        row = parcel(number // data.draw(st.integers(1, 2)))
        for name in data.draw(st.lists(st.sampled_from(names), max_size=2)):
            row[name] = data.draw(VALUES)
        if data.draw(st.integers(0, 9)) == 0:
            row.pop(data.draw(st.sampled_from(sorted(row))))
        rows.append(data.draw(VALUES) if data.draw(st.integers(0, 19)) == 0 else row)
    assert_same(rows, parcels)
    assert_same(rows, with_rule(parcels))


def test_good_rows_take_the_short_way_and_others_do_not(parcels: Contract, parcel: Make) -> None:
    good = GoodRows(parcels)
    assert good.values([parcel(1), parcel(2)]) is not None
    assert assert_same([parcel(1), parcel(2)], parcels)
    for wrong in ([parcel(1), parcel(1)], [parcel(1, weight=41)], [{}], [7], [parcel(1, other=1)]):
        assert good.values(wrong) is None
