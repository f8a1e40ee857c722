"""Tallies of blocks add up to the tally of the whole, and hold no value that must not be shown."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.files import DELIVERY, Rows
from app.data.intake import FOREVER, Judged, Window, judge_block
from app.data.tally import MAX_EXAMPLES, MAX_PROBLEMS, OTHERS, Met, Problem, Tally, _cut
from app.data.tally_json import tally_from_json, tally_to_json
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
SECRET = Pseudonymiser(SecretBytes(b"k" * 32))
EVERYTHING = Window(FOREVER, {})


@pytest.fixture(scope="session")
def strict(parcels: Contract) -> Contract:
    """Parcels with a rule that names public columns and one that names a personal one."""
    rules = [
        {"name": "light_in_the_north", "expect": "weight < 30 or depot != 'north'"},
        {"name": "known_when_heavy", "expect": "weight < 35 or sender is null"},
    ]
    return Contract.model_validate({**parcels.model_dump(), "rules": rules})


def judged(contract: Contract, table: pa.Table, delivery: str = "d1", broken: int = 0) -> Judged:
    lines = [(table.num_rows + i, f"has {i} fields instead of 6") for i in range(broken)]
    block = Rows(table, np.arange(table.num_rows), lines, delivery).with_places()
    return judge_block(block, contract, EVERYTHING, SECRET)


def tally_of(one: Judged, contract: Contract) -> Tally:
    return Tally.collect(one.accepted, one.refused, contract)


def divided(whole: Judged, cuts: Sequence[int]) -> list[Judged]:
    """Cut both parts at the same places, as blocks would come."""
    edges = [0, *sorted(cuts), 10**6]
    return [
        Judged(*(part.slice(low, high - low) for part in (whole.accepted, whole.refused)))
        for low, high in itertools.pairwise(edges)
    ]


def test_reasons_are_counted_by_what_was_wrong(
    strict: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    rows = [parcel(0), parcel(1, weight=-1), parcel(2, weight=-2), parcel(0), parcel(4, weight=31)]
    tally = tally_of(judged(strict, parcel_table(rows), broken=2), strict)
    told = {problem: (met.count, [one.got for one in met.examples])
            for problem, met in tally.problems.items()}  # fmt: skip
    assert told == {
        ("weight", "column", "must be in 0..40"): (2, ["-1.0", "-2.0"]),
        ("parcel", "column", "is given more than once; the first row is kept"): (1, [""]),
        ("light_in_the_north", "rule", "expected weight < 30 or depot != 'north'"): (
            1,
            ["weight 31.0, depot 'north'"],
        ),
        ("row", "row", "has 0 fields instead of 6"): (1, [""]),
        ("row", "row", "has 1 fields instead of 6"): (1, [""]),
    }
    assert (tally.num_accepted, tally.num_quarantined) == (1, 6)


@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # They only make rows.
)
@given(
    st.lists(st.sampled_from([1.0, 31.0, 36.0, 99.0, -1.0, float("nan")]), max_size=12),
    st.lists(st.integers(0, 12), max_size=4),
    st.randoms(),
)
def test_any_division_into_blocks_in_any_order_gives_the_tally_of_the_whole(
    strict: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    weights: list[float],
    cuts: list[int],
    chance: object,
) -> None:
    rows = [parcel(i, weight=weight, rain=weight) for i, weight in enumerate(weights)]
    empty = parcel_table([parcel(0)]).slice(0, 0)
    whole = judged(strict, parcel_table(rows) if rows else empty)
    written = [tally_to_json(tally_of(part, strict)) for part in divided(whole, cuts)]
    parts = [tally_from_json(content) for content in written]
    chance.shuffle(parts)  # type: ignore[attr-defined]
    merged, at_once = Tally.merge_all(parts), tally_of(whole, strict)
    assert (merged.accepted, merged.quarantined) == (at_once.accepted, at_once.quarantined)
    assert merged.problems == at_once.problems
    assert merged.newest == at_once.newest
    assert repr(merged.columns) == repr(at_once.columns)


def test_no_personal_value_no_pseudonym_and_no_identifier_is_in_a_tally(
    strict: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    quasi = {**strict.model_dump()}
    quasi["columns"] = [
        {**column, "privacy": "quasi", "categories": None} if column["name"] == "depot" else column
        for column in quasi["columns"]
    ]
    contract = Contract.model_validate(quasi)
    rows = [
        parcel(0, parcel="ID-7", sender="Ada Lovelace", depot="QUASI", weight=1),
        parcel(1, parcel="ID-7", sender="Ada Lovelace", depot="QUASI", weight=31),
        parcel(2, parcel="ID-8", sender="Ada Lovelace", depot="QUASI", weight=36),
        parcel(3, parcel="ID-7", sender="Ada Lovelace", depot="QUASI", weight=2),
        parcel(4, parcel="", sender="Ada Lovelace", depot="QUASI", weight=-9),
    ]
    tally = repr(tally_of(judged(contract, parcel_table(rows)), contract))
    hidden = ("Ada", SECRET.one("Ada Lovelace"), "ID-7", "ID-8", "QUASI")
    assert not [value for value in hidden if value in tally]
    assert "got='-9.0'" in tally


def test_only_the_first_examples_are_kept(
    strict: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    rows = [parcel(i, weight=-1) for i in range(MAX_EXAMPLES + 5)]
    (met,) = tally_of(judged(strict, parcel_table(rows)), strict).problems.values()
    assert met.count == MAX_EXAMPLES + 5
    assert [one.position for one in met.examples] == list(range(MAX_EXAMPLES))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, MAX_PROBLEMS + 50), max_size=300), max_size=4))
def test_more_kinds_of_problem_than_can_be_kept_are_counted_as_one(blocks: list[list[int]]) -> None:
    def cut(numbers: list[int]) -> dict[Problem, Met]:
        problems = [Problem("row", "row", f"{number:04d}") for number in numbers]
        return _cut({problem: Met(problems.count(problem), ()) for problem in problems})

    merged = Tally.merge_all(Tally(problems=cut(block)) for block in blocks)
    whole = [number for block in blocks for number in block]
    assert merged.problems == cut(whole)
    assert sum(met.count for met in merged.problems.values()) == len(whole)
    assert len(merged.problems) <= MAX_PROBLEMS + 1
    assert (OTHERS in merged.problems) == (len(set(whole)) > MAX_PROBLEMS)


def test_rows_are_counted_by_delivery(
    strict: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    first = judged(strict, parcel_table([parcel(0), parcel(1, weight=-1)]), "d1")
    second = judged(strict, parcel_table([parcel(2)]), "d2")
    assert DELIVERY in first.accepted.column_names
    tally = Tally.merge_all(tally_of(one, strict) for one in (first, second))
    assert (dict(tally.accepted), dict(tally.quarantined)) == ({"d1": 1, "d2": 1}, {"d1": 1})
