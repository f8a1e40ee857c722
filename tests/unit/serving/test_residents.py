"""Residents: which versions may answer, and when the switch happens."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from app.config import Config
from app.contracts.records import Roles
from app.contracts.rows import Contract
from app.contracts.shares import Shares
from app.serving.residents import RETRY_SECONDS, Residents, VersionUnfit, check_fit, golden_rows
from tests.serving_world import make_bundle


class Answers:
    """A version that answers by a given rule."""

    def __init__(
        self, contract: Contract, rule: Callable[[pa.Table], npt.NDArray[np.float64]]
    ) -> None:
        self.contract = contract
        self.predict = rule

    def predict_rows(
        self, rows: Sequence[Sequence[Any]], names: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Answer as a table of as many rows."""
        return self.predict(pa.table({"row": range(len(rows))}))


class Forgetful(Answers):
    """A version that answers rows of plain values by another rule."""

    def predict_rows(
        self, rows: Sequence[Sequence[Any]], names: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Miss the answer by a little."""
        return super().predict_rows(rows, names) + 1e-4


def half(table: pa.Table) -> npt.NDArray[np.float64]:
    return np.full(table.num_rows, 0.5)


class Shelf:
    """Versions that can be loaded, and a count of how often each was."""

    def __init__(self, contract: Contract, *digests: str) -> None:
        self.bundles = {digest: Answers(contract, half) for digest in digests}
        self.loads: list[str] = []

    def load(self, digest: str) -> Answers:
        self.loads.append(digest)
        if digest not in self.bundles:
            raise ValueError(f"{digest} was altered")
        return self.bundles[digest]


def roles(generation: int, champion: str | None, previous: str | None = None) -> Roles:
    return Roles(model="flights", generation=generation, champion=champion, previous=previous)


@pytest.fixture
def contract(flights: Config) -> Contract:
    return flights.contract


def test_a_switch_changes_the_champion_and_keeps_the_previous_resident(contract: Contract) -> None:
    shelf = Shelf(contract, "a", "b")
    residents = Residents(contract, shelf.load)
    residents.advance(roles(1, "a"), 0.0)
    before = residents.current
    assert before is not None

    changed = residents.advance(roles(2, "b", previous="a"), 1.0)

    after = residents.current
    assert changed
    assert after is not None
    assert after.champion is shelf.bundles["b"]
    assert sorted(after.bundles) == ["a", "b"]
    assert before.champion is shelf.bundles["a"], "a request under way keeps its generation"


def test_a_way_back_loads_nothing(contract: Contract) -> None:
    shelf = Shelf(contract, "a", "b")
    residents = Residents(contract, shelf.load)
    residents.advance(roles(1, "a"), 0.0)
    residents.advance(roles(2, "b", previous="a"), 1.0)
    shelf.bundles.clear()

    residents.advance(roles(3, "a"), 2.0)

    assert residents.current is not None
    assert residents.current.roles.champion == "a"
    assert shelf.loads == ["a", "b"]


def test_a_champion_that_cannot_be_loaded_never_takes_traffic_and_is_reported(
    contract: Contract,
) -> None:
    shelf = Shelf(contract, "a")
    residents = Residents(contract, shelf.load)
    residents.advance(roles(1, "a"), 0.0)

    changed = residents.advance(roles(2, "broken", previous="a"), 1.0)

    assert not changed
    assert residents.current is not None
    assert residents.current.roles.generation == 1
    assert residents.current.champion is shelf.bundles["a"]
    assert residents.problems == {"broken": "ValueError: broken was altered"}


def test_a_version_that_failed_is_tried_again_only_after_a_pause(contract: Contract) -> None:
    shelf = Shelf(contract)
    residents = Residents(contract, shelf.load)
    residents.advance(roles(1, "late"), 10.0)
    shelf.bundles["late"] = Answers(contract, half)

    residents.advance(roles(1, "late"), 10.0 + RETRY_SECONDS / 2)
    assert residents.current is None
    residents.advance(roles(1, "late"), 10.0 + RETRY_SECONDS)

    assert residents.current is not None
    assert residents.problems == {}
    assert shelf.loads == ["late", "late"]


def test_while_a_champion_fails_the_others_are_not_loaded_again(contract: Contract) -> None:
    shelf = Shelf(contract, "a")
    residents = Residents(contract, shelf.load)

    for second in range(4):
        residents.advance(roles(1, "broken", previous="a"), float(second))

    assert shelf.loads == ["broken", "a"]


def test_roles_read_late_do_not_turn_the_clock_back(contract: Contract) -> None:
    residents = Residents(contract, Shelf(contract, "a", "b").load)
    residents.advance(roles(2, "b"), 0.0)

    assert not residents.advance(roles(1, "a"), 1.0)

    assert residents.current is not None
    assert residents.current.roles.champion == "b"


def test_a_challenger_that_fails_does_not_hold_the_champion_back(contract: Contract) -> None:
    residents = Residents(contract, Shelf(contract, "a").load)

    residents.advance(roles(1, "a", previous="gone"), 0.0)

    assert residents.current is not None
    assert residents.current.roles.generation == 1
    assert list(residents.problems) == ["gone"]


def test_golden_rows_are_rows_of_the_contract(contract: Contract) -> None:
    assert golden_rows(contract).schema.equals(contract.schema)


def test_a_real_bundle_fits(contract: Contract) -> None:
    check_fit(make_bundle(contract, seed=1), contract)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (lambda table: np.full(table.num_rows, np.nan), "expected probabilities in 0..1, got"),
        (lambda table: np.full(table.num_rows, 1.5), "expected probabilities in 0..1, got"),
        (lambda table: np.full(1, 0.5), "expected 4 probabilities, got shape"),
        (
            lambda table: np.full(table.num_rows, 1 / (1 + table.num_rows)),
            "with the rows beside it",
        ),
    ],
)
def test_answers_that_cannot_be_trusted_are_refused(
    contract: Contract, rule: Callable[[pa.Table], npt.NDArray[np.float64]], reason: str
) -> None:
    with pytest.raises(VersionUnfit, match=reason):
        check_fit(Answers(contract, rule), contract)


def test_answers_that_differ_between_rows_and_tables_are_refused(contract: Contract) -> None:
    with pytest.raises(VersionUnfit, match="value by value have other probabilities"):
        check_fit(Forgetful(contract, half), contract)


def test_a_challenger_takes_part_only_once_it_is_resident(contract: Contract) -> None:
    shelf = Shelf(contract, "a")
    residents = Residents(contract, shelf.load)
    contest = roles(1, "a").model_copy(update={"challenger": "b", "shares": Shares(challenger=0.5)})
    residents.advance(contest, 0.0)
    assert residents.current is not None
    assert residents.current.salt is None

    shelf.bundles["b"] = Answers(contract, half)
    residents.advance(contest, RETRY_SECONDS)

    assert residents.current.salt is not None


def test_faults_over_live_rows_are_problems_until_the_version_leaves(contract: Contract) -> None:
    residents = Residents(contract, Shelf(contract, "a", "b").load)
    residents.advance(roles(1, "a", previous="b"), 0.0)

    residents.faults.note("b", 3, ArithmeticError("row 7 is no number"))

    told = "no usable answer for live rows: ArithmeticError, see the log"
    assert residents.problems == {"b": told}
    residents.advance(roles(2, "a"), 1.0)
    assert residents.problems == {}


def test_a_version_made_for_other_columns_is_refused(contract: Contract) -> None:
    columns = tuple(column for column in contract.columns if column.name != "distance")
    fewer = contract.model_copy(update={"columns": columns})

    with pytest.raises(VersionUnfit, match="needs column distance of kind number"):
        check_fit(Answers(contract, half), fewer)
